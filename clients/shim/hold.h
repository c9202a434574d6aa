/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_HOLD_H
#define CLIENTS_SHIM_HOLD_H

/*
 * The lease. Once it was lost, or the guest was reset, nothing is written before another one
 * was asked for explicitly.
 */

#include <stdbool.h>
#include <stdint.h>

#include "vmsig/vmsig_write.h"

struct shim;

struct hold {
	vmsig_lease *lease; /* or NULL */
	bool usable;        /* it is held, and the guest was not reset: writes may be sent */
	bool waiting;       /* behind somebody else's */
	uint32_t epoch;     /* of the grant */
	int error;          /* why it is not usable, negated; 0: nobody wants one */
	char why[VMSIG_DETAIL_MAX + 1];
};

/* Asks for a lease as the options say and waits for the answer. One that is held is no error. */
int hold_acquire(struct shim *shim);
/* Gives it back, waiting for the broker's word for a while. */
int hold_release(struct shim *shim);
/* EXIT_OK, or why nothing can be written. */
int hold_check(struct shim *shim);

/* An event of the write plane that is about the lease. */
void hold_take(struct shim *shim, const vmsig_writer_event *event);
/* The read plane has heard of this epoch. */
void hold_epoch(struct shim *shim, uint32_t epoch);

/* Milliseconds until it ends when nothing renews it, 0 without one. */
int64_t hold_remaining(const struct hold *hold);

#endif
