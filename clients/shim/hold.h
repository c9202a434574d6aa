/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_HOLD_H
#define CLIENTS_SHIM_HOLD_H

/*
 * shim->hold, the lease of this run: acquired and given back with the connections driven, and what
 * is told of it. Once it was lost, or the guest was reset, nothing is written before another one
 * was asked for explicitly.
 */

#include <stdint.h>

#include "vmsig/vmsig_write.h"

struct shim;

/* Asks for a lease as the options say and waits for the answer. One that is held is no error. */
int shim_hold_acquire(struct shim *shim);
/* Gives it back, waiting for the broker's word for a while. */
int shim_hold_release(struct shim *shim);
/* EXIT_OK, or why nothing can be written. */
int shim_hold_check(struct shim *shim);

/* An event of the write plane. */
void shim_hold_take(struct shim *shim, const vmsig_writer_event *event);
/* The read plane has heard of this epoch. */
void shim_hold_epoch(struct shim *shim, uint32_t epoch);

#endif
