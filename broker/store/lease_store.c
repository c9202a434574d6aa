/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/lease_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/store/state.h"
#include "vmsig/vmsig_error.h"

#define ID_BLOCK 65536u /* ids that are reserved at once: one more change for so many leases */

/* What the open transaction has for the engine. */
struct pending {
	uint64_t id, token; /* token 0: a renewal */
};

struct embedded {
	struct lease_store base;
	struct store *db;
	uint64_t reserved; /* ids below are ours */
	struct pending *pending;
	size_t npending, capacity;
};

static struct embedded *embedded_of(struct lease_store *store)
{
	return (struct embedded *)store;
}

static int reserve(struct embedded *embedded)
{
	size_t capacity = embedded->capacity ? embedded->capacity * 2 : 32;
	struct pending *grown;

	if (embedded->npending < embedded->capacity)
		return 0;
	grown = realloc(embedded->pending, capacity * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	embedded->pending = grown;
	embedded->capacity = capacity;
	return 0;
}

static int ids_reserve(struct embedded *embedded, uint64_t below)
{
	const struct change change = {.kind = CHANGE_IDS, .number = below + ID_BLOCK};
	int r = store_change(embedded->db, &change);

	if (!r)
		embedded->reserved = change.number;
	return r;
}

static int next_token(struct embedded *embedded, uint32_t endpoint, uint64_t *ret_token)
{
	const struct table_endpoint *row = tables_endpoint(&embedded->db->tables, endpoint);
	const struct lease_store_events *events = &embedded->base.events;
	uint64_t floor = 0;
	struct timespec now;

	if (!row)
		return VMSIG_ERR_IO;
	clock_gettime(CLOCK_REALTIME, &now);
	*ret_token = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	if (events->floor)
		floor = events->floor(embedded->base.arg, endpoint);
	if (floor < row->token)
		floor = row->token;
	if (*ret_token <= floor)
		*ret_token = floor + 1;
	return 0;
}

static uint64_t later(uint64_t now_ns, uint64_t span_ns)
{
	return span_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + span_ns;
}

static int insert(
	struct embedded *embedded, const struct lease_view *lease, uint64_t token, uint64_t now_ns)
{
	uint64_t hold_until = later(now_ns, lease->hold_max_ns);
	uint64_t deadline = later(now_ns, lease->ttl_ns);
	const struct change grant = {.kind = CHANGE_GRANT,
		.key.lease = lease->id,
		.endpoint = lease->endpoint,
		.epoch = lease->epoch,
		.number = token,
		.ttl_ns = lease->ttl_ns,
		.granted_ns = now_ns,
		/* A moment earlier than what the holder is told: early, never late. */
		.deadline_ns = deadline < hold_until ? deadline : hold_until,
		.hold_until_ns = hold_until,
		.uid = lease->uid,
		.priority = lease->priority,
		.ranges = lease->ranges,
		.nranges = lease->nranges,
		.bytes = lease->tenant,
		.len = strlen(lease->tenant)};

	return store_change(embedded->db, &grant);
}

static int embedded_grant(
	struct lease_store *store, const struct lease_view *lease, uint64_t now_ns)
{
	struct embedded *embedded = embedded_of(store);
	uint64_t token = 0;
	int r;

	/* One that another host has numbered, and that is over, is known here alone. */
	if (tables_lease(&embedded->db->tables, lease->id))
		return VMSIG_ERR_BUSY;
	r = reserve(embedded);
	if (!r && lease->id >= embedded->reserved)
		r = ids_reserve(embedded, lease->id + 1);
	if (!r)
		r = next_token(embedded, lease->endpoint, &token);
	if (!r)
		r = insert(embedded, lease, token, now_ns);
	if (r)
		return r;
	embedded->pending[embedded->npending++] = (struct pending){.id = lease->id, .token = token};
	return 0;
}

static int embedded_renew(struct lease_store *store, const struct lease_view *lease)
{
	const struct change renew = {
		.kind = CHANGE_RENEW, .key.lease = lease->id, .number = lease->deadline_ns};
	struct embedded *embedded = embedded_of(store);
	int r = reserve(embedded);

	if (!r)
		r = store_change(embedded->db, &renew);
	if (!r)
		embedded->pending[embedded->npending++] = (struct pending){.id = lease->id};
	return r;
}

static int embedded_end(struct lease_store *store, const struct lease_view *lease)
{
	struct change end = {.kind = CHANGE_END, .key.lease = lease->id};
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	/* When it may be forgotten is for the wall clock, which goes on over a reboot. */
	end.number = now.tv_sec > 1 ? (uint64_t)now.tv_sec : 1;
	return store_change(embedded_of(store)->db, &end);
}

static void embedded_settled(struct lease_store *store, int result)
{
	struct embedded *embedded = embedded_of(store);
	const struct lease_store_events *events = &store->events;
	size_t n = embedded->npending;

	/* What was reserved was not. */
	if (result)
		embedded->reserved = 0;
	/* The engine may grant the next one from inside of stored(). */
	embedded->npending = 0;
	for (size_t i = 0; i < n; i++) {
		struct pending pending = embedded->pending[i];

		if (!result && pending.token)
			events->stored(store->arg, pending.id, pending.token);
		else if (result && pending.token)
			events->failed(store->arg, pending.id, VMSIG_ERR_IO);
		else if (result)
			events->lost(store->arg, pending.id, VMSIG_ERR_IO);
	}
}

static struct lease_view view_of(const struct table_lease *lease)
{
	return (struct lease_view){.id = lease->node.id,
		.endpoint = lease->endpoint,
		.epoch = lease->epoch,
		.token = lease->token,
		.tenant = lease->tenant,
		.uid = lease->uid,
		.priority = lease->priority,
		.ranges = lease->ranges,
		.nranges = lease->nranges,
		.ttl_ns = lease->ttl_ns,
		.granted_ns = lease->granted_ns,
		.deadline_ns = lease->deadline_ns,
		.hold_until_ns = lease->hold_until_ns};
}

/* Those that were not ended. `each` may end the one that it is called for. */
static int embedded_load(struct lease_store *store,
	int (*each)(void *arg, const struct lease_view *lease), void *arg)
{
	const struct store_tables *tables = &embedded_of(store)->db->tables;
	const struct table_lease *lease = tables_lease_first(tables), *next;
	int r = 0;

	for (; !r && lease; lease = next) {
		const struct lease_view view = view_of(lease);

		next = tables_lease_after(tables, lease);
		if (!lease->ended)
			r = each(arg, &view);
	}
	return r;
}

static int embedded_next_id(struct lease_store *store, uint64_t *ret_id)
{
	*ret_id = embedded_of(store)->db->tables.next_lease;
	return 0;
}

static int embedded_find(struct lease_store *store, uint64_t id,
	char tenant[static LEASE_NAME_MAX + 1], uint64_t *ret_token)
{
	const struct table_lease *lease = tables_lease(&embedded_of(store)->db->tables, id);

	if (!lease)
		return VMSIG_ERR_NO_LEASE;
	strcpy(tenant, lease->tenant);
	*ret_token = lease->token;
	return 0;
}

static void embedded_free(struct lease_store *store)
{
	struct embedded *embedded = embedded_of(store);

	free(embedded->pending);
	free(embedded);
}

static const struct lease_store_ops embedded_ops = {
	.grant = embedded_grant,
	.renew = embedded_renew,
	.end = embedded_end,
	.settled = embedded_settled,
	.load = embedded_load,
	.next_id = embedded_next_id,
	.find = embedded_find,
	.free = embedded_free,
};

int lease_store_new(struct lease_store **ret_store, struct store *db,
	const struct lease_store_events *events, void *arg)
{
	struct embedded *embedded = calloc(1, sizeof(*embedded));

	if (!embedded)
		return -ENOMEM;
	embedded->base = (struct lease_store){.ops = &embedded_ops, .events = *events, .arg = arg};
	embedded->db = db;
	*ret_store = &embedded->base;
	return 0;
}
