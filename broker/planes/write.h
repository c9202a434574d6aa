/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_WRITE_H
#define BROKER_PLANES_WRITE_H

/*
 * The write plane: write.sock, for operators. Translates between messages and the desk.
 */

#include "broker/write/desk.h"
#include "broker/net/conn.h"

extern const struct plane_ops write_plane;
extern const struct desk_events write_plane_events;

#endif
