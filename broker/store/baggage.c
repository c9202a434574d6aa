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

/* ---- reading ---- */

struct reading {
	const uint8_t *data;
	size_t at, end;
	uint64_t lease; /* that changes are of; 0: of none yet */
	struct ledger_key intent;
	bool open; /* the answer to `intent` comes next */
	struct lease_range ranges[LEASE_RANGES_MAX];
};

static bool is_lease(const struct baggage_intake *intake, const struct change *grant)
{
	return grant->key.lease && grant->nranges && grant->len <= LEASE_NAME_MAX &&
	       !memchr(grant->bytes, 0, grant->len) && grant->number &&
	       grant->number <= intake->token_max && grant->epoch &&
	       grant->epoch <= intake->epoch_max && grant->ttl_ns && grant->ttl_ns <= INT64_MAX;
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

static bool is_in_place(
	const struct baggage_intake *intake, struct reading *reading, const struct change *change)
{
	if (change->kind == CHANGE_GRANT && !reading->open) {
		reading->lease = change->key.lease;
		return is_lease(intake, change);
	}
	return is_answer(reading, change);
}

/* False: it is damaged. */
static bool next(const struct baggage_intake *intake, struct reading *reading, struct change *ret)
{
	size_t left = reading->end - reading->at, size = 0;
	const uint8_t *at = reading->data + reading->at;

	if (left < 4)
		return false;
	for (unsigned i = 0; i < 4; i++)
		size |= (size_t)at[i] << 8 * i;
	if (size > left - 4 || change_decode(ret, reading->ranges, at + 4, size) ||
		!is_in_place(intake, reading, ret))
		return false;
	reading->at += 4 + size;
	return true;
}

/* ---- taking ---- */

/* What a step does, and forgets when it fails. */
struct taking {
	struct store *store;
	struct baggage_intake *intake;
	struct reading reading;
	size_t leases[BAGGAGE_STEP / 64 + 2]; /* where those are that it has made durable */
	size_t n;
};

/* A step does not end between what was written and its answer: a broker that is killed there would
 * have the one without the other. */
static bool goes_on(const struct reading *reading, size_t until)
{
	return reading->at < until || (reading->open && reading->at < reading->end);
}

static int check_some(struct taking *taking, size_t until)
{
	struct change change;

	while (goes_on(&taking->reading, until)) {
		if (!next(taking->intake, &taking->reading, &change))
			return VMSIG_ERR_INTERNAL;
	}
	return taking->reading.open ? VMSIG_ERR_INTERNAL : 0;
}

static uint64_t later(uint64_t now_ns, uint64_t span_ns)
{
	return span_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + span_ns;
}

static uint64_t less(uint64_t span_ns, uint64_t age_ns)
{
	return span_ns > age_ns ? span_ns - age_ns : 0;
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

/* This host's bounds. */
static void limit(const struct baggage_intake *intake, struct change *grant)
{
	char tenant[LEASE_NAME_MAX + 1];
	struct lease_view view;

	if (!intake->limit)
		return;
	view_fill(&view, grant, tenant);
	intake->limit(intake->arg, intake->now_ns, &view);
	grant->ttl_ns = view.ttl_ns;
	grant->deadline_ns = view.deadline_ns;
	grant->hold_until_ns = view.hold_until_ns;
}

/* Spans become moments again: those of when the first step was done. */
static void localise(const struct baggage_intake *intake, struct change *grant)
{
	uint64_t now_ns = intake->now_ns, age_ns = intake->age_ns;
	uint64_t granted_ns = later(age_ns, grant->granted_ns);

	grant->endpoint = intake->endpoint;
	grant->granted_ns = granted_ns < now_ns ? now_ns - granted_ns : 1;
	grant->deadline_ns = later(now_ns, less(grant->deadline_ns, age_ns));
	grant->hold_until_ns = later(now_ns, less(grant->hold_until_ns, age_ns));
	limit(intake, grant);
}

/* The change at `at`, which is sound. */
static void read_at(struct taking *taking, size_t at, struct change *ret_change)
{
	struct reading *reading = &taking->reading;
	size_t after = reading->at;
	uint64_t lease = reading->lease;

	reading->at = at;
	(void)!next(taking->intake, reading, ret_change);
	/* What follows is of the lease that was read last. */
	reading->at = after;
	reading->lease = lease;
}

/* A lease is stored behind all of its answers, so that none is ever without them. */
static int finish_lease(struct taking *taking)
{
	struct baggage_intake *intake = taking->intake;
	const struct table_lease *here;
	struct change grant;
	int r = 0;

	if (intake->grant) {
		read_at(taking, intake->grant, &grant);
		localise(intake, &grant);
		r = intake->here ? 0 : store_change(taking->store, &grant);
		here = tables_lease(&taking->store->tables, grant.key.lease);
		if (!r && here && !here->ended)
			taking->leases[taking->n++] = intake->grant;
	}
	intake->grant = 0;
	return r;
}

/* One that an earlier process of this host has stored stays as it is, also if it has ended since:
 * nobody brings back what was taken away. One of an earlier stay of the guest, in another epoch, or
 * what was left by a process that got no further, makes room for it. */
static int begin_lease(struct taking *taking, size_t at, const struct change *grant)
{
	struct baggage_intake *intake = taking->intake;
	const struct table_lease *here = tables_lease(&taking->store->tables, grant->key.lease);
	const struct change drop = {.kind = CHANGE_DROP, .key.lease = grant->key.lease};
	bool same = here && here->token == grant->number && here->endpoint == intake->endpoint;
	int r = finish_lease(taking);

	intake->other = here && !same;
	intake->here = same && (!here->ended || here->epoch == grant->epoch);
	intake->grant = intake->other ? 0 : at;
	return r || intake->other || intake->here ? r : store_change(taking->store, &drop);
}

static int store_some(struct taking *taking, size_t until)
{
	struct reading *reading = &taking->reading;
	struct change change;
	size_t at = reading->at;
	int r = 0;

	for (; !r && goes_on(reading, until); at = reading->at) {
		if (!next(taking->intake, reading, &change))
			return VMSIG_ERR_INTERNAL;
		if (change.kind == CHANGE_GRANT)
			r = begin_lease(taking, at, &change);
		else if (!taking->intake->other)
			r = store_change(taking->store, &change);
	}
	return r || at < reading->end ? r : finish_lease(taking);
}

static int tell(struct taking *taking)
{
	const struct baggage_intake *intake = taking->intake;
	char tenant[LEASE_NAME_MAX + 1];
	struct lease_view view;
	struct change grant;
	int r = 0;

	for (size_t i = 0; !r && i < taking->n; i++) {
		read_at(taking, taking->leases[i], &grant);
		localise(intake, &grant);
		view_fill(&view, &grant, tenant);
		r = intake->each(intake->arg, &view);
	}
	return r;
}

static int store_step(struct taking *taking, size_t until)
{
	struct store *store = taking->store;
	int r;

	/* What somebody else has begun is not ours to take back. */
	if (store_alone(store))
		return VMSIG_ERR_IO;
	r = store_begin(store);
	if (!r)
		r = store_some(taking, until);
	if (!r)
		r = store_commit(store);
	if (r)
		store_rollback(store);
	return r;
}

static int do_step(struct taking *taking)
{
	struct baggage_intake *intake = taking->intake;
	struct reading *reading = &taking->reading;
	size_t left = reading->end - reading->at;
	size_t until = reading->at + (left < BAGGAGE_STEP ? left : BAGGAGE_STEP);
	int r = intake->checked ? store_step(taking, until) : check_some(taking, until);

	if (r)
		return r;
	intake->at = reading->at;
	intake->lease = reading->lease;
	if (intake->at < reading->end)
		return VMSIG_ERR_BUSY;
	if (intake->checked)
		return 0;
	intake->checked = true;
	intake->at = HEAD;
	return VMSIG_ERR_BUSY;
}

int baggage_take(struct store *store, struct baggage_intake *intake, const void *data, size_t len)
{
	const struct baggage_intake before = *intake;
	struct taking taking = {.store = store, .intake = intake, .n = 0};
	int r, told = 0;

	if (len < HEAD || memcmp(data, head, HEAD) != 0)
		return VMSIG_ERR_INTERNAL;
	taking.reading.data = data;
	taking.reading.at = intake->at ? intake->at : HEAD;
	taking.reading.end = len;
	taking.reading.lease = intake->lease;
	r = do_step(&taking);
	if (!r || r == VMSIG_ERR_BUSY)
		told = tell(&taking);
	r = told ? told : r;
	if (r && r != VMSIG_ERR_BUSY)
		*intake = before;
	return r;
}
