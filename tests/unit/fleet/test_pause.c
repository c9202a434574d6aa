/* SPDX-License-Identifier: Apache-2.0 */
/* A broker that ends while its guests run: what it leaves is for its next process if that finds the
 * guest that had it, and for nobody else. */
#include <limits.h>
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
	struct tenure *tenure;
	uint64_t now_ns;
	int64_t revision;
	bool owned;
	unsigned changes; /* of a deed that are still heard; others are lost on the way */
	uint64_t lost;    /* the number of one that was */
	/* What the store has of the guest. */
	struct deed deed;
	int64_t mark_revision;
	char owner[DEED_TEXT_MAX];
	size_t owner_len;
	bool baggage;
} scene;

/* ---- the store ---- */

static void answer(const struct txn_request *request, struct txn_result *results, size_t n)
{
	const struct txn_answer told = {.number = request->number,
		.outcome = TXN_OK,
		.cluster_id = CLUSTER,
		.revision = ++scene.revision,
		.results = results,
		.n = n,
		.lease = request->lease,
		.ttl_s = 10};

	fleet_answer(scene.fleet, scene.now_ns, &told);
}

static void answer_generation(const struct txn_request *request)
{
	const struct deed_generation generation = {.number = 1, .cluster_id = CLUSTER};
	char text[DEED_TEXT_MAX];
	struct txn_entry entry = {.mod_revision = 1};
	struct txn_result result = {.kind = TXN_GET, .entries = &entry, .n = 1};

	entry.value = (struct txn_bytes){
		.data = (uint8_t *)text, .len = deed_write_generation(&generation, text)};
	answer(request, &result, 1);
}

static void answer_look(const struct txn_request *request)
{
	char text[DEED_TEXT_MAX];
	struct txn_entry owner = {
		.value = {.data = (uint8_t *)scene.owner, .len = scene.owner_len}};
	struct txn_entry mark = {.mod_revision = scene.mark_revision}, baggage = {0};
	struct txn_result results[3] = {
		{.kind = TXN_GET, .entries = &owner, .n = scene.owner_len != 0},
		{.kind = TXN_GET, .entries = &mark, .n = scene.deed.change != 0},
		{.kind = TXN_GET, .entries = &baggage, .n = scene.baggage}};

	if (scene.deed.change)
		mark.value = (struct txn_bytes){
			.data = (uint8_t *)text, .len = deed_write(&scene.deed, text)};
	answer(request, results, 3);
}

static void put(const struct txn_op *op)
{
	const char *leaf = strrchr((const char *)op->key.data, '/');

	if (strcmp(leaf, "/mark") == 0) {
		assert_true(deed_read(&scene.deed, op->value.data, op->value.len));
		scene.mark_revision = scene.revision + 1;
	} else if (strcmp(leaf, "/owner") == 0) {
		memcpy(scene.owner, op->value.data, op->value.len);
		scene.owner_len = op->value.len;
	}
}

static void delete (const struct txn_op *op)
{
	if (strcmp(strrchr((const char *)op->key.data, '/'), "/baggage") == 0)
		scene.baggage = false;
}

static void answer_change(const struct txn_request *request)
{
	const struct txn_ops *ops = &request->txn.branches[TXN_THEN];

	if (!scene.changes) {
		scene.lost = request->number;
		return;
	}
	scene.changes--;
	for (size_t i = 0; i < ops->n; i++) {
		if (ops->ops[i].kind == TXN_PUT)
			put(&ops->ops[i]);
		else if (ops->ops[i].kind == TXN_DELETE)
			delete (&ops->ops[i]);
	}
	answer(request, NULL, 0);
}

static void commit(const struct txn_request *request)
{
	const struct txn_ops *ops = &request->txn.branches[TXN_THEN];
	const char *leaf = strrchr((const char *)ops->ops[0].key.data, '/');

	if (strcmp(leaf, "/generation") == 0)
		answer_generation(request);
	else if (ops->n == 3 && ops->ops[0].kind == TXN_GET)
		answer_look(request);
	else
		answer_change(request);
}

static void perform(const struct fleet_action *action)
{
	if (action->kind == FLEET_ACT_OWNED)
		scene.owned = true;
	if (action->kind != FLEET_ACT_REQUEST)
		return;
	if (action->request->kind == TXN_COMMIT)
		commit(action->request);
	else if (action->request->kind < TXN_WATCH)
		answer(action->request, NULL, 0);
}

static void turn(void)
{
	struct fleet_action action;

	fleet_advance(scene.fleet, scene.now_ns);
	while (fleet_next_action(scene.fleet, &action))
		perform(&action);
}

static void pass(unsigned seconds)
{
	while (seconds--) {
		scene.now_ns += SECOND;
		turn();
	}
}

/* ---- the guest ---- */

static void begin(uint64_t nonce, uint32_t epoch, const char *session)
{
	const struct fleet_options options = {.fleet = "f",
		.host = "h",
		.boot = "b",
		.nonce = nonce,
		.ttl_s = 10,
		.timeout_ms = 1000};

	scene.owned = false;
	assert_int_equal(fleet_new(&scene.fleet, scene.now_ns, &options), 0);
	assert_int_equal(fleet_guest_add(scene.fleet, "guest", epoch, &scene, &scene.tenure), 0);
	assert_int_equal(tenure_session(scene.tenure, scene.now_ns, session), 0);
	tenure_runs(scene.tenure, scene.now_ns);
}

/* A host that has a guest, in its epoch 5. */
static int setup(void **state)
{
	(void)state;
	scene = (struct scene){.now_ns = SECOND, .revision = 10, .changes = UINT_MAX};
	begin(1, 0, "one");
	pass(30);
	assert_true(scene.owned);
	tenure_epoch(scene.tenure, scene.now_ns, 5);
	turn();
	assert_string_equal(scene.deed.session, "one");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fleet_free(scene.fleet);
	return 0;
}

static void a_pause_keeps_epoch_and_session(void **state)
{
	(void)state;
	tenure_pauses(scene.tenure, scene.now_ns);
	turn();
	assert_int_equal(scene.deed.status, DEED_RELEASED);
	assert_string_equal(scene.deed.session, "one");
	assert_int_equal(scene.deed.epoch, 5);
}

/* The guest was started again, and the store has not heard yet that the first one is given up. */
static void a_pause_leaves_no_epoch_to_another_life_of_the_guest(void **state)
{
	(void)state;
	scene.changes = 0;
	tenure_gone(scene.tenure, scene.now_ns);
	assert_int_equal(tenure_session(scene.tenure, scene.now_ns, "two"), 0);
	tenure_runs(scene.tenure, scene.now_ns);
	turn();
	tenure_pauses(scene.tenure, scene.now_ns);
	scene.changes = UINT_MAX;
	fleet_answer(scene.fleet, scene.now_ns,
		&(struct txn_answer){.number = scene.lost, .outcome = TXN_UNKNOWN});
	pass(5);
	assert_int_equal(scene.deed.status, DEED_RELEASED);
	assert_string_equal(scene.deed.session, "");
}

/* The second process of three is killed as soon as it has the guest. */
static void what_came_with_another_life_of_the_guest_is_gone(void **state)
{
	(void)state;
	scene.baggage = true;
	fleet_free(scene.fleet);
	begin(2, 5, "two");
	scene.changes = 1;
	pass(5);
	assert_string_equal(scene.deed.session, "two");
	assert_false(scene.baggage);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_pause_keeps_epoch_and_session, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_pause_leaves_no_epoch_to_another_life_of_the_guest, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_came_with_another_life_of_the_guest_is_gone, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
