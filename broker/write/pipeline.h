/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_PIPELINE_H
#define BROKER_WRITE_PIPELINE_H

/*
 * A command's way: one that is READY is looked at in the next turn, once more if it has to wait
 * for its lane; its intent goes into the batch; when that is durable its bytes change, and the
 * check and the bytes are one step. It comes from intake.h and ends in outcome.h.
 */

#include "broker/write/state.h"

/* Looks at what is ready: intents, into the batch. */
void pipeline_collect(struct desk *desk);
/* Whether there is something to be done now. */
bool pipeline_is_ready(const struct desk *desk);
/* Whether a command waits for what the batch says. */
bool pipeline_waits(const struct desk *desk);
/* The batch was committed, or not: bytes change, unless there is a ticket to wait for; and those
 * of which the ticket was answered. */
void pipeline_settle(struct desk *desk, int result, uint64_t ticket);
/* The ticket, and those before it, have this answer. */
void pipeline_answered(struct desk *desk, uint64_t ticket, int result);
/* What is held goes: nobody waits any more, and the next broker knows that it never began. */
void pipeline_drop_held(struct desk *desk);
/* All of them, wherever they are. */
void pipeline_free(struct desk *desk);

#endif
