/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_CTX_H
#define BROKER_PLANES_CTX_H

/*
 * The read plane: ctx.sock. Translates between messages and the core.
 */

#include "broker/read/core.h"
#include "broker/net/conn.h"

extern const struct plane_ops ctx_plane;

/* Actions of the core that concern a session of this plane; `user` is session_user(). */
void ctx_plane_notify(void *user);
void ctx_plane_disconnect(void *user, enum vmsig_error error);

#endif
