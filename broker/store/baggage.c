/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/baggage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/store/state.h"
#include "vmsig/vmsig_error.h"

static const char head[] = "vmsig-baggage 1\n";
#define HEAD (sizeof(head) - 1)

/* ---- packing ---- */

static int reserve(struct baggage *baggage, size_t more)
{
	size_t need = baggage->len + more, size = baggage->size ? baggage->size : 1024;
	uint8_t *grown;

	if (need > baggage->max)
		return VMSIG_ERR_QUOTA;
	if (need <= baggage->size)
		return 0;
	while (size < need)
		size *= 2;
	grown = realloc(baggage->data, size);
	if (!grown)
		return -ENOMEM;
	baggage->data = grown;
	baggage->size = size;
	return 0;
}

static int put(struct baggage *baggage, const struct change *change)
{
	size_t size = change_size(change);
	int r = reserve(baggage, 4 + size);

	if (r)
		return r;
	for (unsigned i = 0; i < 4; i++)
		baggage->data[baggage->len++] = (uint8_t)(size >> 8 * i);
	change_encode(change, baggage->data + baggage->len);
	baggage->len += size;
	return 0;
}

static uint64_t span(uint64_t from_ns, uint64_t to_ns)
{
	return to_ns > from_ns ? to_ns - from_ns : 0;
}

static int put_lease(struct baggage *baggage, const struct lease_view *lease, uint64_t now_ns)
{
	const struct change grant = {.kind = CHANGE_GRANT,
		.key.lease = lease->id,
		.epoch = lease->epoch,
		.number = lease->token,
		.ttl_ns = lease->ttl_ns,
		.granted_ns = span(lease->granted_ns, now_ns),
		.deadline_ns = span(now_ns, lease->deadline_ns),
		.hold_until_ns = span(now_ns, lease->hold_until_ns),
		.uid = lease->uid,
		.priority = lease->priority,
		.ranges = lease->ranges,
		.nranges = lease->nranges,
		.bytes = lease->tenant,
		.len = strlen(lease->tenant)};

	return put(baggage, &grant);
}

struct packing {
	struct baggage *baggage;
	const void *unknown;
	size_t unknown_len;
};

static int put_answer(void *arg, const struct ledger_key *key, const struct ledger_answer *answer)
{
	const struct packing *packing = arg;
	const struct change intend = {.kind = CHANGE_INTEND, .key = *key, .digest = answer->digest};
	struct change settle = {
		.kind = CHANGE_SETTLE, .key = *key, .bytes = answer->reply, .len = answer->len};
	int r;

	if (!answer->done && !packing->unknown)
		return VMSIG_ERR_BUSY;
	if (!answer->done) {
		settle.bytes = packing->unknown;
		settle.len = packing->unknown_len;
	}
	r = put(packing->baggage, &intend);
	return r ? r : put(packing->baggage, &settle);
}

int baggage_add(struct baggage *baggage, const struct store *store, const struct lease_view *lease,
	uint64_t now_ns, const void *unknown, size_t unknown_len)
{
	struct packing packing = {
		.baggage = baggage, .unknown = unknown, .unknown_len = unknown_len};
	size_t before = baggage->len;
	int r = 0;

	if (!before) {
		r = reserve(baggage, HEAD);
		if (r)
			return r;
		memcpy(baggage->data, head, HEAD);
		baggage->len = HEAD;
	}
	r = put_lease(baggage, lease, now_ns);
	if (!r)
		r = answers_each_of(&store->tables.answers, lease->id, put_answer, &packing);
	if (r)
		baggage->len = before;
	return r;
}

/* ---- taking ---- */

struct reading {
	const uint8_t *at, *end;
	uint64_t lease; /* that changes are of; 0: of none yet */
	struct ledger_key intent;
	bool open; /* the answer to `intent` comes next */
	struct lease_range ranges[LEASE_RANGES_MAX];
};

static bool begin(struct reading *reading, const void *data, size_t len)
{
	if (len < HEAD || memcmp(data, head, HEAD) != 0)
		return false;
	*reading = (struct reading){
		.at = (const uint8_t *)data + HEAD, .end = (const uint8_t *)data + len};
	return true;
}

/* What is open here is open nowhere else: nobody is still to answer it, and no record of this host
 * is of it. */
static bool is_answer(struct reading *reading, const struct change *change)
{
	const struct ledger_key *key = &change->key;
	bool answers = change->kind == CHANGE_SETTLE && reading->open &&
		       key->writer == reading->intent.writer &&
		       key->sequence == reading->intent.sequence;
	bool intends = change->kind == CHANGE_INTEND && !reading->open && !change->number;

	reading->open = intends;
	reading->intent = *key;
	return reading->lease && key->lease == reading->lease && (answers || intends);
}

static bool is_in_place(struct reading *reading, const struct change *change)
{
	if (change->kind == CHANGE_GRANT && !reading->open) {
		reading->lease = change->key.lease;
		return reading->lease && change->nranges && change->len <= LEASE_NAME_MAX &&
		       change->number <= INT64_MAX && change->ttl_ns && change->ttl_ns <= INT64_MAX;
	}
	return is_answer(reading, change);
}

/* False: at the end; *ret_error. */
static bool next(struct reading *reading, struct change *ret_change, int *ret_error)
{
	size_t left = (size_t)(reading->end - reading->at), size = 0;

	*ret_error = left || reading->open ? VMSIG_ERR_INTERNAL : 0;
	if (left < 4)
		return false;
	for (unsigned i = 0; i < 4; i++)
		size |= (size_t)reading->at[i] << 8 * i;
	if (size > left - 4 || change_decode(ret_change, reading->ranges, reading->at + 4, size) ||
		!is_in_place(reading, ret_change))
		return false;
	reading->at += 4 + size;
	*ret_error = 0;
	return true;
}

static uint64_t later(uint64_t now_ns, uint64_t span_ns)
{
	return span_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + span_ns;
}

/* Spans become moments again. */
static void localise(struct change *grant, uint32_t endpoint, uint64_t now_ns)
{
	grant->endpoint = endpoint;
	grant->granted_ns = grant->granted_ns < now_ns ? now_ns - grant->granted_ns : 1;
	grant->deadline_ns = later(now_ns, grant->deadline_ns);
	grant->hold_until_ns = later(now_ns, grant->hold_until_ns);
}

static bool is_same(const struct table_lease *here, const struct change *grant)
{
	return here->token == grant->number && here->endpoint == grant->endpoint;
}

/* *ret_other: another lease has its number. */
static int store_lease(struct store *store, const struct change *grant, bool *ret_other)
{
	const struct table_lease *here = tables_lease(&store->tables, grant->key.lease);
	const struct change drop = {.kind = CHANGE_DROP, .key.lease = grant->key.lease};
	int r = 0;

	*ret_other = here && !is_same(here, grant);
	if (*ret_other)
		return 0;
	if (here)
		r = store_change(store, &drop);
	return r ? r : store_change(store, grant);
}

static int store_all(
	struct store *store, uint32_t endpoint, uint64_t now_ns, const void *data, size_t len)
{
	struct reading reading;
	struct change change;
	bool other = false;
	int r = begin(&reading, data, len) ? 0 : VMSIG_ERR_INTERNAL;

	while (!r && next(&reading, &change, &r)) {
		if (change.kind == CHANGE_GRANT) {
			localise(&change, endpoint, now_ns);
			r = store_lease(store, &change, &other);
		} else if (!other) {
			r = store_change(store, &change);
		}
	}
	return r;
}

/* The tenant of a change is no string. */
static void view_fill(
	struct lease_view *view, const struct change *grant, char tenant[static LEASE_NAME_MAX + 1])
{
	memcpy(tenant, grant->bytes, grant->len);
	tenant[grant->len] = '\0';
	*view = (struct lease_view){.id = grant->key.lease,
		.token = grant->number,
		.endpoint = grant->endpoint,
		.epoch = grant->epoch,
		.uid = grant->uid,
		.priority = grant->priority,
		.tenant = tenant,
		.ranges = grant->ranges,
		.nranges = grant->nranges,
		.ttl_ns = grant->ttl_ns,
		.granted_ns = grant->granted_ns,
		.deadline_ns = grant->deadline_ns,
		.hold_until_ns = grant->hold_until_ns};
}

static void tell_all(const struct store *store, uint32_t endpoint, uint64_t now_ns,
	const void *data, size_t len, void (*each)(void *arg, const struct lease_view *lease),
	void *arg)
{
	char tenant[LEASE_NAME_MAX + 1];
	const struct table_lease *here;
	struct reading reading;
	struct lease_view view;
	struct change change;
	int r;

	if (!begin(&reading, data, len))
		return;
	while (next(&reading, &change, &r)) {
		here = change.kind == CHANGE_GRANT ? tables_lease(&store->tables, change.key.lease)
						   : NULL;
		if (!here)
			continue;
		localise(&change, endpoint, now_ns);
		if (!is_same(here, &change))
			continue;
		view_fill(&view, &change, tenant);
		each(arg, &view);
	}
}

int baggage_take(struct store *store, uint32_t endpoint, uint64_t now_ns, const void *data,
	size_t len, void (*each)(void *arg, const struct lease_view *lease), void *arg)
{
	int r;

	/* What somebody else has begun is not ours to take back. */
	if (store_alone(store))
		return VMSIG_ERR_IO;
	r = store_begin(store);
	if (!r)
		r = store_all(store, endpoint, now_ns, data, len);
	if (!r)
		r = store_commit(store);
	if (r) {
		store_rollback(store);
		return r;
	}
	tell_all(store, endpoint, now_ns, data, len, each, arg);
	return 0;
}
