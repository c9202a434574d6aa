/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes with a guest from one host's store to another's: leases and the answers to writes under
 * them, as they were, and durable there. What is damaged is refused as a whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/store/baggage.h"
#include "broker/store/ledger.h"
#include "broker/store/state.h"
#include "tests/support/scratch.h"
#include "vmsig/vmsig_error.h"

#define LEASE (77ull << 20)
#define TOKEN 1234567ull
#define LEFT_NS 5000u /* of the lease */
#define ROOM (64u << 10)

struct host {
	char dir[64];
	struct store *store;
	struct ledger *ledger;
	uint32_t endpoint;
};

static struct lab {
	struct host from, to;
	unsigned taken;
	struct lease_view lease;
	char tenant[LEASE_NAME_MAX + 1];
	struct lease_range range;
} lab;

static void host_open(struct host *host)
{
	char error[512];

	if (store_open(&host->store, host->dir, error, sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(ledger_new(&host->ledger, host->store), 0);
}

static void host_close(struct host *host)
{
	host->ledger = ledger_free(host->ledger);
	host->store = store_close(host->store);
}

static void host_new(struct host *host, const char *endpoint)
{
	struct store_endpoint row;

	strcpy(host->dir, "/tmp/vmsig-baggage-XXXXXX");
	scratch_make(host->dir);
	host_open(host);
	assert_int_equal(store_endpoint(host->store, "other", &row), 0);
	assert_int_equal(store_endpoint(host->store, endpoint, &row), 0);
	host->endpoint = row.id;
}

static int setup(void **state)
{
	struct store_endpoint row;

	memset(&lab, 0, sizeof(lab));
	host_new(&lab.from, "vm");
	host_new(&lab.to, "guest");
	assert_int_equal(store_endpoint(lab.to.store, "guest2", &row), 0);
	return 0;
}

static int teardown(void **state)
{
	host_close(&lab.from);
	host_close(&lab.to);
	scratch_run("rm -rf %s %s", lab.from.dir, lab.to.dir);
	return 0;
}

/* ---- a lease with answers ---- */

static struct lease_view view(uint64_t now_ns)
{
	static const struct lease_range range = {.start = 0x1000, .last = 0x1fff};

	return (struct lease_view){.id = LEASE,
		.token = TOKEN,
		.epoch = 7,
		.uid = 1000,
		.priority = 3,
		.state = LEASE_ACTIVE,
		.tenant = "alice",
		.ranges = &range,
		.nranges = 1,
		.ttl_ns = 9000,
		.granted_ns = now_ns - 100,
		.deadline_ns = now_ns + LEFT_NS,
		.hold_until_ns = now_ns + 3 * LEFT_NS};
}

static void answer(uint64_t sequence, bool settled)
{
	const struct ledger_key key = {.lease = LEASE, .writer = 5, .sequence = sequence};
	const uint8_t digest[LEDGER_DIGEST] = {(uint8_t)sequence};

	assert_int_equal(store_begin(lab.from.store), 0);
	assert_int_equal(ledger_intend(lab.from.ledger, &key, digest, 99), 0);
	if (settled)
		assert_int_equal(ledger_settle(lab.from.ledger, &key, "reply", 5), 0);
	assert_int_equal(store_commit(lab.from.store), 0);
}

static struct baggage pack(uint64_t now_ns)
{
	struct baggage baggage = {.max = ROOM};
	const struct lease_view lease = view(now_ns);

	assert_int_equal(baggage_add(&baggage, lab.from.store, &lease, now_ns, NULL, 0), 0);
	return baggage;
}

static void on_lease(void *arg, const struct lease_view *lease)
{
	lab.taken++;
	lab.lease = *lease;
	lab.range = lease->ranges[0];
	strcpy(lab.tenant, lease->tenant);
}

static int take(const void *data, size_t len, uint64_t now_ns)
{
	lab.taken = 0;
	return baggage_take(lab.to.store, lab.to.endpoint, now_ns, data, len, on_lease, NULL);
}

static void is_answered(uint64_t sequence)
{
	const struct ledger_key key = {.lease = LEASE, .writer = 5, .sequence = sequence};
	struct ledger_entry entry;

	assert_int_equal(ledger_find(lab.to.ledger, &key, &entry), 0);
	assert_true(entry.done);
	assert_int_equal(entry.digest[0], sequence);
	assert_int_equal(entry.intent, 0);
	assert_int_equal(entry.reply_len, 5);
	assert_memory_equal(entry.reply, "reply", 5);
	free(entry.reply);
}

/* ---- tests ---- */

static void all_of_it_is_there_and_durable(void **state)
{
	const uint64_t here_ns = 1000000, there_ns = 42000000;
	struct baggage baggage;
	uint64_t highest;

	for (uint64_t sequence = 1; sequence <= 40; sequence++)
		answer(sequence, true);
	baggage = pack(here_ns);
	assert_int_equal(take(baggage.data, baggage.len, there_ns), 0);
	assert_int_equal(lab.taken, 1);
	assert_int_equal(lab.lease.id, LEASE);
	assert_int_equal(lab.lease.token, TOKEN);
	assert_int_equal(lab.lease.epoch, 7);
	assert_int_equal(lab.lease.endpoint, lab.to.endpoint);
	assert_int_equal(lab.lease.deadline_ns, there_ns + LEFT_NS);
	assert_int_equal(lab.lease.hold_until_ns, there_ns + 3 * LEFT_NS);
	assert_int_equal(lab.lease.granted_ns, there_ns - 100);
	assert_int_equal(lab.range.last, 0x1fff);
	assert_string_equal(lab.tenant, "alice");
	host_close(&lab.to);
	host_open(&lab.to);
	for (uint64_t sequence = 1; sequence <= 40; sequence++)
		is_answered(sequence);
	assert_int_equal(ledger_highest(lab.to.ledger, LEASE, 5, &highest), 0);
	assert_int_equal(highest, 40);
	assert_int_equal(tables_lease(&lab.to.store->tables, LEASE)->token, TOKEN);
	assert_int_equal(tables_endpoint(&lab.to.store->tables, lab.to.endpoint)->token, TOKEN);
	free(baggage.data);
}

/* By a broker that was killed before it could say so, or because the guest comes back. */
static void the_same_comes_twice(void **state)
{
	struct baggage baggage;

	answer(1, true);
	baggage = pack(1000);
	assert_int_equal(take(baggage.data, baggage.len, 5000), 0);
	assert_int_equal(take(baggage.data, baggage.len, 6000), 0);
	assert_int_equal(lab.taken, 1);
	is_answered(1);
	free(baggage.data);
}

static void a_lease_with_that_number_stays(void **state)
{
	struct baggage baggage;

	answer(1, true);
	baggage = pack(1000);
	assert_int_equal(take(baggage.data, baggage.len, 5000), 0);
	tables_lease(&lab.to.store->tables, LEASE)->token = TOKEN + 1;
	assert_int_equal(take(baggage.data, baggage.len, 6000), 0);
	assert_int_equal(lab.taken, 0);
	assert_int_equal(tables_lease(&lab.to.store->tables, LEASE)->token, TOKEN + 1);
	free(baggage.data);
}

static void what_is_under_way_is_waited_for_or_unknown(void **state)
{
	const struct ledger_key key = {.lease = LEASE, .writer = 5, .sequence = 2};
	const struct lease_view lease = view(1000);
	struct baggage baggage = {.max = ROOM};
	struct ledger_entry entry;

	answer(1, true);
	answer(2, false);
	assert_int_equal(
		baggage_add(&baggage, lab.from.store, &lease, 1000, NULL, 0), VMSIG_ERR_BUSY);
	assert_int_equal(baggage.len, 0);
	assert_int_equal(baggage_add(&baggage, lab.from.store, &lease, 1000, "?", 1), 0);
	assert_int_equal(take(baggage.data, baggage.len, 5000), 0);
	is_answered(1);
	assert_int_equal(ledger_find(lab.to.ledger, &key, &entry), 0);
	assert_true(entry.done);
	assert_memory_equal(entry.reply, "?", 1);
	free(entry.reply);
	free(baggage.data);
}

static void one_that_does_not_fit_is_left_out(void **state)
{
	const struct lease_view lease = view(1000);
	struct baggage baggage = {.max = 200};

	for (uint64_t sequence = 1; sequence <= 40; sequence++)
		answer(sequence, true);
	assert_int_equal(
		baggage_add(&baggage, lab.from.store, &lease, 1000, NULL, 0), VMSIG_ERR_QUOTA);
	assert_int_equal(baggage.len, 0);
	free(baggage.data);
}

/* Cut anywhere, and with any byte changed: taken whole, or not at all. */
static void damage_is_refused(void **state)
{
	struct baggage baggage;
	uint8_t *copy;

	answer(1, true);
	baggage = pack(1000);
	copy = malloc(baggage.len);
	assert_non_null(copy);
	for (size_t len = 0; len < baggage.len; len++) {
		memcpy(copy, baggage.data, len);
		if (take(copy, len, 5000))
			assert_int_equal(lab.taken, 0);
	}
	for (size_t at = 0; at < baggage.len; at++) {
		memcpy(copy, baggage.data, baggage.len);
		copy[at] ^= 0x55;
		if (take(copy, baggage.len, 5000))
			assert_int_equal(lab.taken, 0);
		assert_false(store_is_open(lab.to.store));
	}
	free(copy);
	free(baggage.data);
}

static size_t put_change(uint8_t *to, const struct change *change)
{
	size_t size = change_size(change);

	for (unsigned i = 0; i < 4; i++)
		to[i] = (uint8_t)(size >> 8 * i);
	change_encode(change, to + 4);
	return 4 + size;
}

/* Else this host would answer it at its next start, in the name of whoever has that record. */
static void what_nobody_answers_is_refused(void **state)
{
	static const uint8_t digest[LEDGER_DIGEST];
	struct change intend = {.kind = CHANGE_INTEND,
		.key = {.lease = LEASE, .writer = 5, .sequence = 9},
		.digest = digest};
	const struct change settle = {
		.kind = CHANGE_SETTLE, .key = intend.key, .bytes = "reply", .len = 5};
	struct baggage baggage = pack(1000);
	uint8_t copy[1024];
	size_t len;

	memcpy(copy, baggage.data, baggage.len);
	len = baggage.len + put_change(copy + baggage.len, &intend);
	assert_int_equal(take(copy, len, 5000), VMSIG_ERR_INTERNAL);
	/* Again, before the first has its answer. */
	len += put_change(copy + len, &intend);
	len += put_change(copy + len, &settle);
	assert_int_equal(take(copy, len, 5000), VMSIG_ERR_INTERNAL);
	intend.number = 1;
	len = baggage.len + put_change(copy + baggage.len, &intend);
	len += put_change(copy + len, &settle);
	assert_int_equal(take(copy, len, 5000), VMSIG_ERR_INTERNAL);
	assert_null(tables_lease(&lab.to.store->tables, LEASE));
	intend.number = 0;
	len = baggage.len + put_change(copy + baggage.len, &intend);
	len += put_change(copy + len, &settle);
	assert_int_equal(take(copy, len, 5000), 0);
	assert_int_equal(lab.taken, 1);
	free(baggage.data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_of_it_is_there_and_durable),
		TEST(the_same_comes_twice),
		TEST(a_lease_with_that_number_stays),
		TEST(what_is_under_way_is_waited_for_or_unknown),
		TEST(one_that_does_not_fit_is_left_out),
		TEST(damage_is_refused),
		TEST(what_nobody_answers_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
