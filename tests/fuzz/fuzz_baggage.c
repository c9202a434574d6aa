/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a migration brings, from hostile bytes: the first byte says what is here before, and whether
 * the same comes twice; the rest is baggage. It goes into the tables, and its leases to an engine
 * that has one of its own.
 *
 * What is refused must leave the tables as they were, as far as they count themselves; what is
 * taken is of this endpoint alone, and another lease stays whose it is.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/store/baggage.h"
#include "broker/store/state.h"
#include "lease/lease.h"

#define ENDPOINT 1u
#define OTHER 2u
#define LEASE 77u
#define TOKEN 1234567u
#define NOW_NS 1000000000ull
#define EPOCH 7u
#define HAS_ONE 1u   /* of this endpoint, with that number and token */
#define HAS_OTHER 2u /* of another endpoint, with that number */
#define TWICE 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sums {
	uint64_t leases, answers;
};

static size_t count_leases(const struct store_tables *tables)
{
	size_t n = 0;

	for (const struct table_lease *lease = tables_lease_first(tables); lease;
		lease = tables_lease_after(tables, lease))
		n++;
	return n;
}

static struct sums sums_of(const struct store *store)
{
	return (struct sums){count_leases(&store->tables), store->tables.answers.bytes};
}

static void endpoint_add(struct store *store, uint32_t id, const char *name)
{
	const struct change add = {
		.kind = CHANGE_ENDPOINT, .endpoint = id, .bytes = name, .len = strlen(name)};

	if (tables_apply(&store->tables, &add, NULL))
		abort();
}

static void lease_have(struct store *store, uint32_t endpoint)
{
	static const struct lease_range range = {0x1000, 0x1fff};
	const struct change grant = {.kind = CHANGE_GRANT,
		.key.lease = LEASE,
		.endpoint = endpoint,
		.epoch = EPOCH,
		.number = TOKEN,
		.ttl_ns = NOW_NS,
		.deadline_ns = 2 * NOW_NS,
		.hold_until_ns = 3 * NOW_NS,
		.ranges = &range,
		.nranges = 1,
		.bytes = "bob",
		.len = 3};

	if (tables_apply(&store->tables, &grant, NULL))
		abort();
}

static int on_lease(void *arg, const struct lease_view *lease)
{
	if (lease->endpoint != ENDPOINT || !lease->id || !lease->nranges ||
		lease->deadline_ns < NOW_NS)
		abort();
	(void)!lease_adopt(arg, NOW_NS, lease);
	return 0;
}

static void take(struct store *store, struct lease_engine *engine, const uint8_t *data, size_t size)
{
	const struct sums before = sums_of(store);
	struct baggage_intake intake = {.endpoint = ENDPOINT,
		.now_ns = NOW_NS,
		.token_max = INT64_MAX,
		.epoch_max = UINT32_MAX,
		.each = on_lease,
		.arg = engine};
	struct sums after;
	size_t steps = 0;
	int r;

	/* Each gets on, unless it is the last. */
	do {
		r = baggage_take(store, &intake, data, size);
		if (store_is_open(store) || steps++ > 4 + size / 4)
			abort();
	} while (r == VMSIG_ERR_BUSY);
	after = sums_of(store);
	if (r && before.leases != after.leases)
		abort();
}

/* What this host would answer for somebody else. */
static void check_answers(const struct store *store)
{
	const struct ledger_answer *answer;
	struct ledger_key key = {0};

	if (answers_next_open(&store->tables.answers, &key, &answer))
		abort();
}

static void look(const struct store *store, struct lease_engine *engine, uint8_t flags)
{
	const struct table_lease *here = tables_lease(&store->tables, LEASE);
	struct lease_action action;

	check_answers(store);
	if (flags & HAS_OTHER && (!here || here->endpoint != OTHER || here->token != TOKEN))
		abort();
	if (lease_endpoint_ready(engine, NOW_NS, ENDPOINT, EPOCH))
		abort();
	lease_advance(engine, 2 * NOW_NS);
	lease_endpoint_down(engine, 2 * NOW_NS, ENDPOINT, VMSIG_ERR_GONE);
	while (lease_next_action(engine, &action))
		if (action.lease.endpoint != ENDPOINT)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct lease_limits limits = {.leases = 1024, .ranges = 8, .waiters = 8};
	static struct store store;
	struct lease_engine *engine;
	uint8_t flags;

	if (!size || lease_engine_new(&engine, &limits, 1))
		return 0;
	flags = data[0];
	memset(&store, 0, sizeof(store));
	tables_init(&store.tables);
	endpoint_add(&store, ENDPOINT, "guest");
	endpoint_add(&store, OTHER, "other");
	if (flags & (HAS_ONE | HAS_OTHER))
		lease_have(&store, flags & HAS_OTHER ? OTHER : ENDPOINT);
	take(&store, engine, data + 1, size - 1);
	if (flags & TWICE)
		take(&store, engine, data + 1, size - 1);
	look(&store, engine, flags);
	lease_engine_free(engine);
	tables_deinit(&store.tables);
	feed_clear(&store.feed);
	free(store.undos);
	return 0;
}
