/* SPDX-License-Identifier: Apache-2.0 */
/* The leases of the writer's tenant, asked for in pages. */
#include "clients/lib/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX 1048576u

vmsig_lease_entries *vmsig_lease_entries_free(vmsig_lease_entries *entries)
{
	if (!entries)
		return NULL;
	for (size_t i = 0; i < entries->count; i++)
		free(entries->entries[i].ranges);
	free(entries->entries);
	free(entries);
	return NULL;
}

static int entry_unpack(const Vmsig__LeaseInfo *info, vmsig_lease_entry *ret_entry)
{
	vmsig_lease_entry entry = {.id = info->lease,
		.endpoint_id = info->endpoint,
		.uid = info->uid,
		.epoch = info->epoch,
		.state = info->state,
		.priority = info->priority,
		.ttl_ms = info->ttl_ms,
		.remaining_ms = info->remaining_ms,
		.mine = info->mine,
		.connected = info->connected,
		.nranges = info->n_ranges};

	entry.ranges = calloc(info->n_ranges + 1, sizeof(*entry.ranges));
	if (!entry.ranges)
		return -ENOMEM;
	for (size_t i = 0; i < info->n_ranges; i++)
		entry.ranges[i] = (vmsig_lease_range){
			.start = info->ranges[i]->start, .last = info->ranges[i]->last};
	client_clean_text(entry.endpoint, sizeof(entry.endpoint), info->name);
	client_clean_text(entry.tenant, sizeof(entry.tenant), info->tenant);
	*ret_entry = entry;
	return 0;
}

int writer_entries_add(
	struct uplink *link, vmsig_lease_entries *entries, const Vmsig__LeaseInfos *page)
{
	vmsig_lease_entry *grown;

	if (page->n_leases > ENTRIES_MAX - entries->count)
		return uplink_fail(link, VMSIG_ERR_PROTOCOL, "the broker lists more than %u leases",
			ENTRIES_MAX);
	grown = realloc(entries->entries, (entries->count + page->n_leases + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	entries->entries = grown;
	for (size_t i = 0; i < page->n_leases; i++) {
		uint64_t last = entries->count ? grown[entries->count - 1].id : 0;
		int r;

		if (page->leases[i]->lease <= last)
			return uplink_fail(
				link, VMSIG_ERR_PROTOCOL, "the broker lists leases out of order");
		r = entry_unpack(page->leases[i], &grown[entries->count]);
		if (r)
			return r;
		entries->count++;
	}
	if (page->more && !page->n_leases)
		return uplink_fail(
			link, VMSIG_ERR_PROTOCOL, "the broker sent an empty page of a list");
	return 0;
}

static int list_ask(vmsig_writer *writer, uint64_t after)
{
	Vmsig__LeaseList body = VMSIG__LEASE_LIST__INIT;
	int r;

	body.after = after;
	r = uplink_request(&writer->link, VMSIG__WRITE_REQUEST__BODY_LEASE_LIST, &body, NULL, 0,
		&writer->listing.request_id);
	if (!r)
		writer->listing.until =
			client_after(client_now(), writer->link.settings.request_timeout_ms);
	return r;
}

int writer_list_page(vmsig_writer *writer, const Vmsig__LeaseInfos *page)
{
	struct writer_listing *listing = &writer->listing;
	int r = writer_entries_add(&writer->link, listing->list, page);

	if (r)
		return r;
	if (page->more)
		return list_ask(writer, listing->list->entries[listing->list->count - 1].id);
	listing->request_id = 0;
	listing->error = 0;
	return 0;
}

void writer_list_fail(vmsig_writer *writer, int error, const char *text)
{
	struct writer_listing *listing = &writer->listing;

	if (!listing->request_id)
		return;
	listing->request_id = 0;
	listing->error = error;
	writer_fail(writer, error, "lease list: %s", text);
}

static int list_start(vmsig_writer *writer)
{
	struct writer_listing *listing = &writer->listing;
	int r;

	vmsig_lease_entries_free(listing->list);
	listing->error = -1;
	listing->list = calloc(1, sizeof(*listing->list));
	r = listing->list ? list_ask(writer, 0) : -ENOMEM;
	return r;
}

static bool list_goes_on(const struct writer_listing *listing)
{
	return listing->error < 0 || listing->error == VMSIG_ERR_DISCONNECTED;
}

int vmsig_lease_list(vmsig_writer *writer, vmsig_lease_entries **ret_entries, int timeout_ms)
{
	struct writer_listing *listing = &writer->listing;
	int64_t until = uplink_until(timeout_ms);
	int r = -vmsig_writer_process(writer);

	listing->error = -1;
	while (!r && list_goes_on(listing)) {
		/* Also again, after a connection that was lost in the middle. */
		if (!listing->request_id && vmsig_writer_is_connected(writer))
			r = list_start(writer);
		if (!r)
			r = uplink_step(&writer->link, until);
	}
	listing->request_id = 0;
	if (!r && !listing->error) {
		*ret_entries = listing->list;
		listing->list = NULL;
		return 0;
	}
	listing->list = vmsig_lease_entries_free(listing->list);
	return client_result(r ? r : listing->error);
}
