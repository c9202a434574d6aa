/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_LEASE_INFO_H
#define BROKER_PLANES_LEASE_INFO_H

/*
 * Leases as the write and the admin plane tell of them.
 */

#include "broker/write/desk.h"
#include "proto/wire/vmsig.pb-c.h"

#define LEASE_PAGE 256 /* leases in one answer: with all their ranges inside of a frame */

/* Who asks. */
struct lease_viewer {
	const struct tenant *tenant; /* sees leases of these endpoints */
	bool is_admin;               /* sees whose they are, too */
};

struct lease_page {
	Vmsig__LeaseInfos body;
	Vmsig__LeaseInfo *infos, **pointers;
};

/* One lease; the ranges are allocated with the info: lease_info_clear(). `name` is borrowed,
 * and so is the lease. */
__attribute__((warn_unused_result)) int lease_info_fill(Vmsig__LeaseInfo *info,
	const struct lease_view *lease, const char *name, const struct lease_viewer *viewer);
void lease_info_clear(Vmsig__LeaseInfo *info);

/* The next page after the lease `after` of what the viewer may see. The strings are borrowed
 * from the desk. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int lease_page_fill(struct lease_page *page, struct desk *desk,
	uint64_t after, const struct lease_viewer *viewer);
void lease_page_clear(struct lease_page *page);

#endif
