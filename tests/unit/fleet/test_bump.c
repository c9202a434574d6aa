/* SPDX-License-Identifier: Apache-2.0 */
/* A fleet that an operator has trust its store again: epochs and tokens begin above all that were
 * ever promised, also by a host that has not seen them used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/fleet/deed.h"
#include "broker/fleet/fleet.h"

#define SECOND 1000000000ull

static struct scene {
	struct fleet *fleet;
	uint64_t now_ns, cluster;
	int64_t revision;
	struct deed_generation stored;
} scene;

static void answer(const struct txn_request *request, struct txn_result *result)
{
	const struct txn_answer told = {.number = request->number,
		.outcome = TXN_OK,
		.cluster_id = scene.cluster,
		.revision = ++scene.revision,
		.results = result,
		.n = result ? 1 : 0,
		.lease = request->lease,
		.ttl_s = 10};

	fleet_answer(scene.fleet, scene.now_ns, &told);
}

static void answer_generation(const struct txn_request *request)
{
	char text[DEED_TEXT_MAX];
	struct txn_entry entry = {.mod_revision = 1};
	struct txn_result result = {.kind = TXN_GET, .entries = &entry, .n = 1};

	entry.value = (struct txn_bytes){
		.data = (uint8_t *)text, .len = deed_write_generation(&scene.stored, text)};
	answer(request, &result);
}

static void serve(const struct txn_request *request)
{
	const struct txn_op *op = request->txn.branches[TXN_THEN].ops;

	if (request->kind == TXN_WATCH || request->kind == TXN_WATCH_CANCEL)
		return;
	if (request->kind == TXN_COMMIT && op->kind == TXN_GET) {
		answer_generation(request);
		return;
	}
	if (request->kind == TXN_COMMIT)
		assert_true(deed_read_generation(&scene.stored, op->value.data, op->value.len));
	answer(request, NULL);
}

static struct fleet_memory memory; /* of the host */

static void turn(void)
{
	struct fleet_action action;

	fleet_advance(scene.fleet, scene.now_ns);
	while (fleet_next_action(scene.fleet, &action)) {
		if (action.kind == FLEET_ACT_REQUEST)
			serve(action.request);
		else if (action.kind == FLEET_ACT_REMEMBER)
			memory = action.memory;
	}
}

/* The store becomes another cluster, which freezes the fleet, and the operator trusts it. */
static void bump(uint32_t epoch_floor, uint64_t token_floor)
{
	scene.cluster++;
	scene.now_ns += 5 * SECOND;
	turn();
	assert_non_null(fleet_frozen(scene.fleet));
	assert_int_equal(fleet_bump(scene.fleet, scene.now_ns, epoch_floor, token_floor), 0);
	turn();
	assert_null(fleet_frozen(scene.fleet));
}

static void begin(void)
{
	const struct fleet_options options = {.fleet = "f",
		.host = "h",
		.boot = "b",
		.nonce = 1,
		.ttl_s = 10,
		.timeout_ms = 1000,
		.memory = memory};

	assert_int_equal(fleet_new(&scene.fleet, scene.now_ns, &options), 0);
	turn();
}

static int setup(void **state)
{
	(void)state;
	memory = (struct fleet_memory){0};
	scene = (struct scene){.now_ns = SECOND,
		.cluster = 7,
		.revision = 10,
		.stored = {.number = 1, .cluster_id = 7}};
	begin();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fleet_free(scene.fleet);
	return 0;
}

/* What other hosts have used since the store was copied nobody can ask them. */
static void it_leaves_room_for_what_others_have_used(void **state)
{
	(void)state;
	bump(100, 1000);
	assert_true(scene.stored.epoch_floor > 100 + 16 * FLEET_EPOCHS);
	assert_true(scene.stored.token_floor > 1000 + (1u << 20));
}

/* A guest that nobody has had since the one before relies on that one's. */
static void it_begins_above_each_one_before(void **state)
{
	struct deed_generation first;

	(void)state;
	bump(5000000, 50000000000);
	first = scene.stored;
	bump(0, 0);
	assert_int_equal(scene.stored.number, first.number + 1);
	assert_true(scene.stored.epoch_floor > first.epoch_floor);
	assert_true(scene.stored.token_floor > first.token_floor);
}

/* Whoever answers in the store's place uses no numbers up. */
static void one_that_is_not_believed_counts_for_nothing(void **state)
{
	(void)state;
	scene.stored = (struct deed_generation){.number = 4,
		.cluster_id = 6,
		.epoch_floor = DEED_EPOCH_MAX,
		.token_floor = DEED_TOKEN_MAX};
	bump(0, 0);
	assert_int_equal(scene.stored.number, 5);
	assert_true(scene.stored.epoch_floor < DEED_EPOCH_MAX / 2);
	assert_true(scene.stored.token_floor < DEED_TOKEN_MAX / 2);
}

/* The store that an operator is asked about is older than the bump before, and so is all that the
 * host's broker has heard since it was started. */
static void a_broker_that_is_started_again_begins_above_them_too(void **state)
{
	struct deed_generation first;

	(void)state;
	bump(5000000, 50000000000);
	scene.now_ns += 5 * SECOND;
	turn();
	first = scene.stored;
	fleet_free(scene.fleet);
	scene.stored = (struct deed_generation){.number = 1, .cluster_id = 7};
	begin();
	bump(0, 0);
	assert_int_equal(scene.stored.number, first.number + 1);
	assert_true(scene.stored.epoch_floor > first.epoch_floor);
	assert_true(scene.stored.token_floor > first.token_floor);
}

/* It says that it is the same generation, and is not believed. */
static void one_that_names_the_same_generation_counts_for_nothing(void **state)
{
	struct deed_generation first;

	(void)state;
	bump(5000000, 50000000000);
	first = scene.stored;
	scene.cluster++;
	scene.stored.cluster_id = scene.cluster;
	scene.stored.epoch_floor = 0;
	scene.stored.token_floor = 0;
	scene.now_ns += 5 * SECOND;
	turn();
	assert_non_null(fleet_frozen(scene.fleet));
	assert_int_equal(fleet_bump(scene.fleet, scene.now_ns, 0, 0), 0);
	turn();
	assert_true(scene.stored.epoch_floor > first.epoch_floor);
	assert_true(scene.stored.token_floor > first.token_floor);
}

/* Of which it knows the numbers alone. */
static void it_leaves_room_for_bumps_without_this_host(void **state)
{
	(void)state;
	scene.stored = (struct deed_generation){.number = 3,
		.cluster_id = 6,
		.epoch_floor = 2 * FLEET_BUMP_EPOCHS,
		.token_floor = 2 * FLEET_BUMP_TOKENS};
	bump(0, 0);
	assert_int_equal(scene.stored.number, 4);
	assert_true(scene.stored.epoch_floor > 2 * FLEET_BUMP_EPOCHS);
	assert_true(scene.stored.token_floor > 2 * FLEET_BUMP_TOKENS);
}

/* Where there is no room left there is no less than was asked for, and no more than can be read. */
static void the_last_ones_are_still_ones(void **state)
{
	(void)state;
	bump(DEED_EPOCH_FLOOR_MAX, DEED_TOKEN_FLOOR_MAX);
	assert_int_equal(scene.stored.epoch_floor, DEED_EPOCH_FLOOR_MAX);
	assert_int_equal(scene.stored.token_floor, DEED_TOKEN_FLOOR_MAX);
}

/* Whoever can write to the store takes no numbers from guests for good: it freezes the fleet, and
 * a bump begins above what was trusted before. */
static void is_not_believed(uint64_t number)
{
	scene.stored = (struct deed_generation){.number = number,
		.cluster_id = 7,
		.epoch_floor = DEED_EPOCH_MAX,
		.token_floor = DEED_TOKEN_MAX};
	scene.now_ns += 5 * SECOND;
	turn();
	assert_non_null(fleet_frozen(scene.fleet));
	bump(100, 1000);
	assert_int_equal(scene.stored.number, number + 1);
	assert_true(scene.stored.epoch_floor > 100);
	assert_true(scene.stored.epoch_floor < DEED_EPOCH_FLOOR_MAX / 2);
	assert_true(scene.stored.token_floor < DEED_TOKEN_FLOOR_MAX / 2);
}

static void floors_that_leave_no_numbers_are_not_believed(void **state)
{
	(void)state;
	is_not_believed(2);
	is_not_believed(scene.stored.number);
}

/* Nor the numbers of bumps themselves. */
static void a_generation_that_leaves_none_is_not_believed(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t before = scene.stored.number;

		scene.stored.number = i ? before + DEED_BUMPS_MAX + 1 : INT64_MAX;
		scene.now_ns += 5 * SECOND;
		turn();
		assert_non_null(fleet_frozen(scene.fleet));
		assert_int_equal(fleet_bump(scene.fleet, scene.now_ns, 0, 0), 0);
		turn();
		assert_null(fleet_frozen(scene.fleet));
		assert_int_equal(scene.stored.number, before + 1);
	}
	scene.stored.number += DEED_BUMPS_MAX;
	scene.now_ns += 5 * SECOND;
	turn();
	assert_null(fleet_frozen(scene.fleet));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			it_leaves_room_for_what_others_have_used, setup, teardown),
		cmocka_unit_test_setup_teardown(it_begins_above_each_one_before, setup, teardown),
		cmocka_unit_test_setup_teardown(
			one_that_is_not_believed_counts_for_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_broker_that_is_started_again_begins_above_them_too, setup, teardown),
		cmocka_unit_test_setup_teardown(
			one_that_names_the_same_generation_counts_for_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(
			it_leaves_room_for_bumps_without_this_host, setup, teardown),
		cmocka_unit_test_setup_teardown(the_last_ones_are_still_ones, setup, teardown),
		cmocka_unit_test_setup_teardown(
			floors_that_leave_no_numbers_are_not_believed, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_generation_that_leaves_none_is_not_believed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
