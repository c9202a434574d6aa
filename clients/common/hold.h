/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_HOLD_H
#define CLIENTS_COMMON_HOLD_H

/*
 * The lease of a program: asked for, also again and again of an endpoint that is not ready, held,
 * and over for a reason that is kept. Once it is over it stays so before another one was asked
 * for explicitly.
 */

#include <stdbool.h>
#include <stdint.h>

#include "vmsig/vmsig_write.h"

struct hold {
	vmsig_lease *lease; /* or NULL */
	bool usable;        /* it is held, and the guest was not reset: writes may be sent */
	bool waiting;       /* behind somebody else's */
	uint32_t epoch;     /* of the grant */
	int error;          /* why it is not usable, negated; 0: nobody wants one */
	char why[VMSIG_DETAIL_MAX + 1];
};

/* Waits until something has happened to the connections or CLOCK_MONOTONIC is at `until`, and deals
 * with it; events of the write plane go to hold_take(). What is not 0 ends the asking. */
typedef int (*hold_step_fn)(void *ctx, int64_t until);

/* Gives back what is held, and asks until there is an answer; as long as `ready_ms` of an endpoint
 * that is not ready. 0, or a negated enum vmsig_error: hold->why has the sentence, and there is no
 * lease. What `step` has returned is returned as it is. */
__attribute__((warn_unused_result)) int hold_acquire(struct hold *hold, vmsig_writer *writer,
	const vmsig_lease_request *request, uint32_t ready_ms, hold_step_fn step, void *ctx);
/* An event of the write plane. Whether it is about this lease. */
bool hold_take(struct hold *hold, const vmsig_writer_event *event);
/* It is not usable any more, or will not be. Without an error: somebody else of the tenant has
 * given it back. Returns the error. */
int hold_fail(struct hold *hold, int error, const char *why);
/* Forgets the lease, which is given back as far as that works without waiting. */
void hold_drop(struct hold *hold);

/* Milliseconds until it ends when nothing renews it, 0 without one. */
int64_t hold_remaining(const struct hold *hold);

#endif
