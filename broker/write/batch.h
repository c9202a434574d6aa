/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_BATCH_H
#define BROKER_WRITE_BATCH_H

/*
 * The turn's batch: everything that becomes durable together. It is opened by the first change,
 * one that failed dooms all of it, and desk.c ends it, once a turn. After one that failed there
 * is one moment for the next try, for all that is owed.
 */

#include "broker/write/state.h"

/* Opens it when it is not open; what fails dooms it. */
void batch_begin(struct desk *desk);
/* Notes the result of a change in it. */
void batch_note(struct desk *desk, int r);
/* Whether there is something to be ended. */
bool batch_is_open(const struct desk *desk);
/* One has failed a moment ago: what can wait is not tried again yet. */
bool batch_is_stuck(const struct desk *desk);
/* Ends it. 0 with *ret_ticket 0: what is in it holds. 0 with a ticket: it is held until that is
 * answered; also without a batch, as long as an earlier one has no answer, when somebody
 * `waits`. Else why nothing of it happened. */
__attribute__((warn_unused_result)) int batch_end(
	struct desk *desk, bool waits, uint64_t *ret_ticket);
/* The ticket, and those before it, have their answer. */
void batch_answered(struct desk *desk, uint64_t ticket);

#endif
