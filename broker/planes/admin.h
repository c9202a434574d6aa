/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_ADMIN_H
#define BROKER_PLANES_ADMIN_H

/*
 * The admin plane: admin.sock, for administrators: all leases, revocation, the audit log; how the
 * broker does, who is connected, endpoints, and a reload.
 */

#include "broker/net/conn.h"

extern const struct plane_ops admin_plane;

#endif
