/* SPDX-License-Identifier: Apache-2.0 */
/* What a host hears of the store by a watch: one at a time, begun anew when it has missed
 * something.
 */
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
#define CLUSTER 7u

static struct scene {
	struct fleet *fleet;
	uint64_t now_ns, cluster, generation;
	int64_t revision;
	uint64_t watches[8], cancelled[8]; /* in their order */
	unsigned nwatches, ncancelled;
	unsigned looks; /* at guests */
} scene;

static void answer(const struct txn_request *request, struct txn_result *results, size_t n)
{
	const struct txn_answer told = {.number = request->number,
		.outcome = TXN_OK,
		.cluster_id = scene.cluster,
		.revision = ++scene.revision,
		.results = results,
		.n = n,
		.lease = request->lease,
		.ttl_s = 10};

	fleet_answer(scene.fleet, scene.now_ns, &told);
}

static void answer_generation(const struct txn_request *request)
{
	char text[DEED_TEXT_MAX];
	const struct deed_generation generation = {
		.number = scene.generation, .cluster_id = scene.cluster};
	struct txn_entry entry = {.mod_revision = 1};
	struct txn_result result = {.kind = TXN_GET, .entries = &entry, .n = 1};

	entry.value = (struct txn_bytes){
		.data = (uint8_t *)text, .len = deed_write_generation(&generation, text)};
	answer(request, &result, 1);
}

/* Another host has it. */
static void answer_look(const struct txn_request *request)
{
	char text[] = "another";
	struct txn_entry owner = {.value = {.data = (uint8_t *)text, .len = sizeof(text)}};
	struct txn_result results[3] = {
		{.kind = TXN_GET, .entries = &owner, .n = 1}, {.kind = TXN_GET}, {.kind = TXN_GET}};

	scene.looks++;
	answer(request, results, 3);
}

static void commit(const struct txn_request *request)
{
	const struct txn_ops *ops = &request->txn.branches[TXN_THEN];

	if (ops->n == 3) {
		answer_look(request);
	} else if (ops->ops[0].kind == TXN_GET) {
		answer_generation(request);
	} else {
		scene.generation++;
		answer(request, NULL, 0);
	}
}

static void serve(const struct txn_request *request)
{
	if (request->kind == TXN_WATCH)
		scene.watches[scene.nwatches++] = request->number;
	else if (request->kind == TXN_WATCH_CANCEL)
		scene.cancelled[scene.ncancelled++] = request->number;
	else if (request->kind != TXN_COMMIT)
		answer(request, NULL, 0);
	else
		commit(request);
}

static void turn(void)
{
	struct fleet_action action;

	fleet_advance(scene.fleet, scene.now_ns);
	while (fleet_next_action(scene.fleet, &action)) {
		if (action.kind == FLEET_ACT_REQUEST)
			serve(action.request);
	}
}

static int setup(void **state)
{
	const struct fleet_options options = {.fleet = "f",
		.host = "h",
		.boot = "b",
		.nonce = 1,
		.ttl_s = 10,
		.timeout_ms = 1000};

	(void)state;
	scene = (struct scene){
		.now_ns = SECOND, .cluster = CLUSTER, .generation = 1, .revision = 10};
	assert_int_equal(fleet_new(&scene.fleet, scene.now_ns, &options), 0);
	turn();
	assert_int_equal(scene.nwatches, 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fleet_free(scene.fleet);
	return 0;
}

static void a_bump_ends_the_watch_of_what_was_before(void **state)
{
	(void)state;
	scene.cluster++;
	scene.now_ns += 5 * SECOND;
	turn();
	assert_non_null(fleet_frozen(scene.fleet));
	assert_int_equal(fleet_bump(scene.fleet, scene.now_ns, 0, 0), 0);
	turn();
	assert_null(fleet_frozen(scene.fleet));
	assert_int_equal(scene.nwatches, 2);
	assert_int_equal(scene.ncancelled, 1);
	assert_int_equal(scene.cancelled[0], scene.watches[0]);
}

static void what_was_missed_is_read(void **state)
{
	struct txn_notice notice = {.kind = TXN_COMPACTED, .cluster_id = CLUSTER};
	struct tenure *tenure;
	unsigned before;

	(void)state;
	assert_int_equal(fleet_guest_add(scene.fleet, "guest", 0, NULL, &tenure), 0);
	tenure_runs(tenure, scene.now_ns);
	turn();
	before = scene.looks;
	assert_int_equal(before, 1);
	notice.number = scene.watches[0];
	fleet_notice(scene.fleet, scene.now_ns, &notice);
	turn();
	assert_int_equal(scene.nwatches, 2);
	assert_int_equal(scene.looks, before + 1);
	/* It has ended by itself. */
	assert_int_equal(scene.ncancelled, 0);
	/* Another's are nothing to it. */
	fleet_notice(scene.fleet, scene.now_ns, &notice);
	turn();
	assert_int_equal(scene.nwatches, 2);
	fleet_guest_remove(tenure, scene.now_ns);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_bump_ends_the_watch_of_what_was_before, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_missed_is_read, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
