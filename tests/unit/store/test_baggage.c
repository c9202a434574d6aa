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
#include <errno.h>
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
#define EPOCH 7u
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
	unsigned taken, steps;
	unsigned refused; /* leases, before one is taken */
	struct lease_view lease;
	char tenant[LEASE_NAME_MAX + 1];
	struct lease_range range;
} lab;

/* The linker sends what the journal is to take through here. */
int __real_journal_append(struct journal *journal, enum journal_type type,
	const struct journal_keys *keys, size_t len, uint8_t **ret_body);
int __wrap_journal_append(struct journal *journal, enum journal_type type,
	const struct journal_keys *keys, size_t len, uint8_t **ret_body);
static bool lab_fails;

int __wrap_journal_append(struct journal *journal, enum journal_type type,
	const struct journal_keys *keys, size_t len, uint8_t **ret_body)
{
	return lab_fails ? VMSIG_ERR_IO : __real_journal_append(journal, type, keys, len, ret_body);
}

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
		.epoch = EPOCH,
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

static int on_lease(void *arg, const struct lease_view *lease)
{
	if (lab.refused > 0) {
		lab.refused--;
		return -ENOMEM;
	}
	lab.taken++;
	lab.lease = *lease;
	lab.range = lease->ranges[0];
	strcpy(lab.tenant, lease->tenant);
	return 0;
}

static struct baggage_intake intake(uint64_t now_ns)
{
	return (struct baggage_intake){.endpoint = lab.to.endpoint,
		.now_ns = now_ns,
		.token_max = TOKEN,
		.epoch_max = EPOCH,
		.each = on_lease};
}

static int take_as(struct baggage_intake *way, const void *data, size_t len)
{
	int r;

	lab.taken = lab.steps = 0;
	do {
		lab.steps++;
		r = baggage_take(lab.to.store, way, data, len);
	} while (r == VMSIG_ERR_BUSY);
	return r;
}

static int take(const void *data, size_t len, uint64_t now_ns)
{
	struct baggage_intake way = intake(now_ns);

	return take_as(&way, data, len);
}

static void is_answered(uint64_t sequence)
{
	const struct ledger_key key = {.lease = LEASE, .writer = 5, .sequence = sequence};
	struct ledger_entry entry;

	assert_int_equal(ledger_find(lab.to.ledger, &key, &entry), 0);
	assert_true(entry.done);
	assert_int_equal(entry.digest[0], (uint8_t)sequence);
	assert_int_equal(entry.intent, 0);
	assert_int_equal(entry.reply_len, 5);
	assert_memory_equal(entry.reply, "reply", 5);
	free(entry.reply);
}

static void end_here(void)
{
	const struct change end = {.kind = CHANGE_END, .key.lease = LEASE, .number = 1};

	assert_int_equal(store_begin(lab.to.store), 0);
	assert_int_equal(store_change(lab.to.store, &end), 0);
	assert_int_equal(store_commit(lab.to.store), 0);
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
	assert_int_equal(lab.lease.epoch, EPOCH);
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
	/* The first one had less time. */
	assert_int_equal(tables_lease(&lab.to.store->tables, LEASE)->deadline_ns, 5000 + LEFT_NS);
	/* One that was taken away meanwhile stays so, also when its broker was killed before it
	 * could say that all of it was there. */
	end_here();
	assert_int_equal(take(baggage.data, baggage.len, 7000), 0);
	assert_int_equal(lab.taken, 0);
	assert_true(tables_lease(&lab.to.store->tables, LEASE)->ended);
	/* Of another epoch it is one that comes back with its guest. */
	tables_lease(&lab.to.store->tables, LEASE)->epoch = EPOCH - 1;
	assert_int_equal(take(baggage.data, baggage.len, 7000), 0);
	assert_int_equal(lab.taken, 1);
	assert_int_equal(tables_lease(&lab.to.store->tables, LEASE)->deadline_ns, 7000 + LEFT_NS);
	free(baggage.data);
}

/* Between two hosts' clocks only spans can be told, and time goes on meanwhile. */
static void what_the_way_took_is_taken_off(void **state)
{
	struct baggage baggage = pack(1000);
	struct baggage_intake way = intake(50000);

	way.age_ns = LEFT_NS - 1;
	assert_int_equal(take_as(&way, baggage.data, baggage.len), 0);
	assert_int_equal(lab.taken, 1);
	assert_int_equal(lab.lease.deadline_ns, 50001);
	assert_int_equal(lab.lease.hold_until_ns, 50000 + 2 * LEFT_NS + 1);
	assert_int_equal(lab.lease.granted_ns, 50000 - 100 - (LEFT_NS - 1));
	end_here();
	tables_lease(&lab.to.store->tables, LEASE)->epoch = EPOCH - 1;
	/* Whatever was left is over: it is told, with no time to be used. */
	way = intake(60000);
	way.age_ns = UINT64_MAX;
	assert_int_equal(take_as(&way, baggage.data, baggage.len), 0);
	assert_int_equal(lab.lease.deadline_ns, 60000);
	assert_int_equal(lab.lease.hold_until_ns, 60000);
	free(baggage.data);
}

/* As much as there may be, and no step does more than its part; a lease is never there without all
 * that was written under it. */
static void much_is_taken_in_steps(void **state)
{
	struct baggage_intake way = intake(5000);
	struct baggage baggage = {.max = 16 * BAGGAGE_STEP};
	const struct lease_view lease = view(1000);
	unsigned steps = 0;
	int r;

	for (uint64_t sequence = 1; sequence <= 900; sequence++)
		answer(sequence, true);
	assert_int_equal(baggage_add(&baggage, lab.from.store, &lease, 1000, NULL, 0), 0);
	assert_true(baggage.len > 4 * BAGGAGE_STEP);
	lab.taken = 0;
	for (r = VMSIG_ERR_BUSY; r == VMSIG_ERR_BUSY; steps++) {
		size_t before = way.at;

		assert_null(tables_lease(&lab.to.store->tables, LEASE));
		r = baggage_take(lab.to.store, &way, baggage.data, baggage.len);
		assert_true(way.at < before || way.at - before < BAGGAGE_STEP + 200);
		assert_false(store_is_open(lab.to.store));
	}
	assert_int_equal(r, 0);
	assert_int_equal(lab.taken, 1);
	assert_true(steps > 8);
	is_answered(1);
	is_answered(900);
	free(baggage.data);
}

/* A disk that is full for a while is no damage: it goes on where it was. */
static void a_step_that_fails_is_done_again(void **state)
{
	struct baggage_intake way = intake(5000);
	struct baggage baggage;

	answer(1, true);
	baggage = pack(1000);
	lab.taken = 0;
	assert_int_equal(
		baggage_take(lab.to.store, &way, baggage.data, baggage.len), VMSIG_ERR_BUSY);
	lab_fails = true;
	assert_int_equal(baggage_take(lab.to.store, &way, baggage.data, baggage.len), VMSIG_ERR_IO);
	lab_fails = false;
	assert_int_equal(lab.taken, 0);
	assert_null(tables_lease(&lab.to.store->tables, LEASE));
	/* Nor what somebody else has open and does not end. */
	assert_int_equal(store_begin(lab.to.store), 0);
	assert_int_equal(baggage_take(lab.to.store, &way, baggage.data, baggage.len), VMSIG_ERR_IO);
	assert_true(store_is_open(lab.to.store));
	store_rollback(lab.to.store);
	/* Nor what there is no memory for, which is durable by then. */
	lab.refused = 1;
	assert_int_equal(baggage_take(lab.to.store, &way, baggage.data, baggage.len), -ENOMEM);
	assert_int_equal(lab.taken, 0);
	assert_non_null(tables_lease(&lab.to.store->tables, LEASE));
	assert_int_equal(baggage_take(lab.to.store, &way, baggage.data, baggage.len), 0);
	assert_int_equal(lab.taken, 1);
	is_answered(1);
	free(baggage.data);
}

/* Whoever writes into etcd gives no token that others may have, or get. */
static void foreign_numbers_are_refused(void **state)
{
	struct baggage baggage = pack(1000);
	struct baggage_intake way = intake(5000);

	way.token_max = TOKEN - 1;
	assert_int_equal(take_as(&way, baggage.data, baggage.len), VMSIG_ERR_INTERNAL);
	way = intake(5000);
	way.epoch_max = EPOCH - 1;
	assert_int_equal(take_as(&way, baggage.data, baggage.len), VMSIG_ERR_INTERNAL);
	assert_int_equal(lab.taken, 0);
	assert_null(tables_lease(&lab.to.store->tables, LEASE));
	assert_int_equal(take(baggage.data, baggage.len, 5000), 0);
	assert_int_equal(lab.taken, 1);
	free(baggage.data);
}

static void a_span_without_end_is_refused(void **state)
{
	static const uint64_t spans[] = {0, (uint64_t)INT64_MAX + 1, UINT64_MAX};
	struct lease_view lease = view(1000);

	for (size_t i = 0; i < sizeof(spans) / sizeof(*spans); i++) {
		struct baggage baggage = {.max = ROOM};

		lease.ttl_ns = spans[i];
		assert_int_equal(baggage_add(&baggage, lab.from.store, &lease, 1000, NULL, 0), 0);
		assert_int_equal(take(baggage.data, baggage.len, 5000), VMSIG_ERR_INTERNAL);
		free(baggage.data);
	}
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

static void the_answers_of_each_lease_come_with_it(void **state)
{
	const struct ledger_key key = {.lease = LEASE + 1, .writer = 5, .sequence = 3};
	static const uint8_t digest[LEDGER_DIGEST] = {3};
	struct lease_view second = view(1000);
	struct ledger_entry entry;
	struct baggage baggage;

	answer(1, true);
	baggage = pack(1000);
	second.id = LEASE + 1;
	second.token = TOKEN - 1;
	assert_int_equal(store_begin(lab.from.store), 0);
	assert_int_equal(ledger_intend(lab.from.ledger, &key, digest, 99), 0);
	assert_int_equal(ledger_settle(lab.from.ledger, &key, "other", 5), 0);
	assert_int_equal(store_commit(lab.from.store), 0);
	assert_int_equal(baggage_add(&baggage, lab.from.store, &second, 1000, NULL, 0), 0);
	assert_int_equal(take(baggage.data, baggage.len, 5000), 0);
	assert_int_equal(lab.taken, 2);
	is_answered(1);
	assert_int_equal(ledger_find(lab.to.ledger, &key, &entry), 0);
	assert_memory_equal(entry.reply, "other", 5);
	free(entry.reply);
	free(baggage.data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_of_it_is_there_and_durable),
		TEST(the_same_comes_twice),
		TEST(what_the_way_took_is_taken_off),
		TEST(much_is_taken_in_steps),
		TEST(a_step_that_fails_is_done_again),
		TEST(foreign_numbers_are_refused),
		TEST(a_span_without_end_is_refused),
		TEST(a_lease_with_that_number_stays),
		TEST(what_is_under_way_is_waited_for_or_unknown),
		TEST(one_that_does_not_fit_is_left_out),
		TEST(damage_is_refused),
		TEST(what_nobody_answers_is_refused),
		TEST(the_answers_of_each_lease_come_with_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
