/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_LEASE_INFO_H
#define BROKER_PLANES_LEASE_INFO_H

/*
 * Leases as the write and the admin plane tell of them.
 */

#include "broker/net/conn.h"
#include "broker/write/desk.h"
#include "proto/wire/vmsig.pb-c.h"

/* Who asks. */
struct lease_viewer {
	const struct tenant *tenant; /* sees leases of these endpoints */
	bool is_admin;               /* sees whose they are, too */
};

/* One lease; the ranges are allocated with the info: lease_info_clear(). `name` is borrowed,
 * and so is the lease. */
__attribute__((warn_unused_result)) int lease_info_fill(Vmsig__LeaseInfo *info,
	const struct lease_view *lease, const char *name, const struct lease_viewer *viewer);
void lease_info_clear(Vmsig__LeaseInfo *info);

/* Answers a request for the leases after `after` with a page of them, as this body. As
 * dialect_send(). */
__attribute__((warn_unused_result)) int lease_info_list(struct conn *conn, struct desk *desk,
	uint64_t request_id, uint64_t after, const struct lease_viewer *viewer, int body_case);

#endif
