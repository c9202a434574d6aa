/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_ADMIN_PLANE_H
#define BROKER_PLANES_ADMIN_PLANE_H

/*
 * The admin plane: admin.sock, for administrators: all leases, revocation, the audit log.
 * net_user() is the struct broker.
 */

#include "broker/net/conn.h"

extern const struct plane_ops admin_plane;

#endif
