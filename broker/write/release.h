/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_RELEASE_H
#define BROKER_WRITE_RELEASE_H

/*
 * A release: it takes its turn behind the commands of its lease that were sent before it, ends
 * the lease, and is answered when that end is recorded (ending.h).
 */

#include "broker/write/state.h"

struct command;

/* Why a lease whose guest is away cannot be given back here. */
extern const char release_away[];

/* It is in line behind the lease's commands. -ENOMEM; VMSIG_ERR_QUOTA: too many of the connection's
 * are not answered yet, as op->detail says. */
__attribute__((warn_unused_result)) int release_new(struct desk *desk, struct desk_operator *op,
	uint64_t request_id, uint64_t lease, uint64_t token);
/* At once, whoever's it is: with *ret_later it is answered when the end of the lease is recorded.
 * What the engine says; or as above, and nothing has happened. */
__attribute__((warn_unused_result)) int release_now(struct desk *desk, struct desk_operator *op,
	uint64_t request_id, uint64_t lease, uint64_t token, bool *ret_later);
/* Its turn has come. */
void release_begin(struct command *command);

#endif
