/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/planes/lease_info.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/boot_clock.h"
#include "broker/planes/dialect.h"
#include "broker/policy/tenant.h"

#define NS_PER_MS 1000000u
#define LEASE_PAGE 256 /* leases in one answer: with all their ranges inside of a frame */

static uint32_t millis_until(uint64_t moment_ns)
{
	uint64_t now_ns = boot_clock_ns();
	uint64_t ms = moment_ns > now_ns ? (moment_ns - now_ns) / NS_PER_MS : 0;

	return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static int ranges_pack(Vmsig__LeaseInfo *info, const struct lease_view *lease)
{
	Vmsig__Range *ranges;

	/* One allocation: the pointers, then what they point to. */
	info->ranges = calloc(lease->nranges + 1, sizeof(*info->ranges) + sizeof(*ranges));
	if (!info->ranges)
		return -ENOMEM;
	ranges = (Vmsig__Range *)(void *)(info->ranges + lease->nranges + 1);
	for (size_t i = 0; i < lease->nranges; i++) {
		vmsig__range__init(&ranges[i]);
		ranges[i].start = lease->ranges[i].start;
		ranges[i].last = lease->ranges[i].last;
		info->ranges[i] = &ranges[i];
	}
	info->n_ranges = lease->nranges;
	return 0;
}

static void owner_pack(
	Vmsig__LeaseInfo *info, const struct lease_view *lease, const struct lease_viewer *viewer)
{
	info->mine = !viewer->is_admin && strcmp(lease->tenant, viewer->tenant->name) == 0;
	if (info->mine)
		info->token = lease->token;
	if (info->mine || viewer->is_admin) {
		info->tenant = (char *)(uintptr_t)lease->tenant;
		info->uid = lease->uid;
	}
}

int lease_info_fill(Vmsig__LeaseInfo *info, const struct lease_view *lease, const char *name,
	const struct lease_viewer *viewer)
{
	vmsig__lease_info__init(info);
	info->lease = lease->id;
	info->endpoint = lease->endpoint;
	info->name = (char *)(uintptr_t)name;
	info->epoch = lease->epoch;
	info->state = (uint32_t)lease->state;
	info->priority = lease->priority;
	info->ttl_ms = (uint32_t)(lease->ttl_ns / NS_PER_MS);
	if (lease->state == LEASE_ACTIVE)
		info->remaining_ms = millis_until(lease->deadline_ns);
	else if (lease->state == LEASE_WAITING)
		info->remaining_ms = millis_until(lease->wait_until_ns);
	info->connected = lease->session != LEASE_NO_SESSION;
	owner_pack(info, lease, viewer);
	return ranges_pack(info, lease);
}

void lease_info_clear(Vmsig__LeaseInfo *info)
{
	free(info->ranges);
	info->ranges = NULL;
}

/* One answer: up to LEASE_PAGE of them. */
struct lease_page {
	Vmsig__LeaseInfos body;
	Vmsig__LeaseInfo *infos, **pointers;
};

static void page_clear(struct lease_page *page)
{
	for (size_t i = 0; i < page->body.n_leases; i++)
		lease_info_clear(&page->infos[i]);
	free(page->infos);
	free(page->pointers);
	*page = (struct lease_page){0};
}

/* What the viewer may see after the lease `after`. The strings are borrowed from the desk. */
static int page_fill(struct lease_page *page, struct desk *desk, uint64_t after,
	const struct lease_viewer *viewer)
{
	struct lease_view lease;
	uint64_t cursor = after;
	int r = 0;

	*page = (struct lease_page){.body = VMSIG__LEASE_INFOS__INIT,
		.infos = calloc(LEASE_PAGE, sizeof(*page->infos)),
		.pointers = calloc(LEASE_PAGE, sizeof(Vmsig__LeaseInfo *))};
	if (!page->infos || !page->pointers)
		r = -ENOMEM;
	page->body.leases = page->pointers;
	while (!r && page->body.n_leases < LEASE_PAGE && desk_lease_next(desk, &cursor, &lease)) {
		const struct selector_subject *subject =
			desk_endpoint_subject(desk, lease.endpoint);
		size_t n = page->body.n_leases;

		if (!subject || !tenant_sees(viewer->tenant, subject))
			continue;
		r = lease_info_fill(&page->infos[n], &lease, subject->name, viewer);
		page->pointers[n] = &page->infos[n];
		page->body.n_leases += !r;
	}
	page->body.more = page->body.n_leases == LEASE_PAGE;
	if (r)
		page_clear(page);
	return r;
}

int lease_info_list(struct conn *conn, struct desk *desk, uint64_t request_id, uint64_t after,
	const struct lease_viewer *viewer, int body_case)
{
	struct lease_page page;
	int r = page_fill(&page, desk, after, viewer);

	if (r)
		return r;
	r = dialect_send(conn, request_id, body_case, &page.body);
	page_clear(&page);
	return r;
}
