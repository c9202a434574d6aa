/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_CTX_H
#define BROKER_PLANES_CTX_H

/*
 * The read plane: ctx.sock. Translates between messages and the core.
 */

#include "broker/read/core.h"
#include "broker/net/conn.h"

extern const struct plane_ops ctx_plane;

struct services;

/* Actions of the core that concern a session of this plane; `user` is session_user(). */
void ctx_plane_notify(void *user);
void ctx_plane_disconnect(void *user, enum vmsig_error error);

/* Finds out which contexts were taken of which their holders say nothing; once a turn, and it has
 * something to do at the deadline. UINT64_MAX: never. */
void ctx_plane_look(struct services *services, uint64_t now_ns);
uint64_t ctx_plane_deadline(const struct services *services);

#endif
