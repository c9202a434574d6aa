/* SPDX-License-Identifier: Apache-2.0 */
/* Shares of the loop's time: rounds, debts, who comes first, and nothing left behind. */
#include "broker/policy/share.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define US 1000ull
#define MS 1000000ull

static const struct share_limits limits = {
	.quantum_ns = 100 * US,
	.turn_ns = 500 * US,
	.grace_ns = 2 * MS,
	.burst_ns = 8 * MS,
	.debt_factor = 4,
	.debt_max_ns = 500 * MS,
};

struct world {
	uint64_t now_ns, waited_ns;
	struct shares *shares;
	char trace[256];
	size_t len;
};

/* A source that always has pieces of the same cost, `left` of them. */
struct source {
	struct share_task task;
	struct world *world;
	char name;
	uint64_t cost_ns, spent_ns;
	unsigned left;
};

static uint64_t world_now(void *ctx)
{
	const struct world *world = ctx;

	return world->now_ns;
}

static uint64_t world_waited(void *ctx)
{
	const struct world *world = ctx;

	return world->waited_ns;
}

static void source_run(struct share_task *task)
{
	struct source *source = (struct source *)task;
	struct world *world = source->world;

	world->now_ns += source->cost_ns;
	source->spent_ns += source->cost_ns;
	if (world->len < sizeof(world->trace) - 1)
		world->trace[world->len++] = source->name;
	world->trace[world->len] = 0;
	if (--source->left)
		share_task_ready(task);
}

static void source_init(struct source *source, struct world *world, enum share_kind kind, char name,
	uint64_t cost_ns, unsigned left)
{
	const char key[] = {name, 0};
	struct share *share;

	*source = (struct source){.world = world, .name = name, .cost_ns = cost_ns, .left = left};
	assert_int_equal(share_get(world->shares, kind, key, &share), 0);
	share_task_init(&source->task, share, source_run);
}

static void source_deinit(struct source *source)
{
	share_task_cancel(&source->task);
	source->task.share = share_unref(source->task.share);
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	*state = world;
	world->now_ns = MS;
	return shares_new(&world->shares, &limits, world_now, world);
}

static int teardown(void **state)
{
	struct world *world = *state;

	shares_free(world->shares);
	free(world);
	return 0;
}

/* Turns of the loop until `until_ns`; it sleeps when nothing is ready. */
static void run_until(struct world *world, uint64_t until_ns)
{
	while (world->now_ns < until_ns) {
		if (shares_run(world->shares))
			continue;
		if (shares_deadline(world->shares) == UINT64_MAX)
			return;
		if (shares_deadline(world->shares) > world->now_ns)
			world->now_ns = shares_deadline(world->shares);
	}
}

static void time_is_shared_not_pieces(void **state)
{
	struct world *world = *state;
	struct source big, small;

	source_init(&big, world, SHARE_TENANT, 'b', 90 * US, 1000000);
	source_init(&small, world, SHARE_TENANT, 's', 3 * US, 1000000);
	share_task_ready(&big.task);
	share_task_ready(&small.task);
	run_until(world, 200 * MS);
	assert_in_range(big.spent_ns, 90 * MS, 110 * MS);
	assert_in_range(small.spent_ns, 90 * MS, 110 * MS);
	source_deinit(&big);
	source_deinit(&small);
}

static void many_tasks_of_one_share_count_once(void **state)
{
	struct world *world = *state;
	struct source many[16], one;
	uint64_t spent_ns = 0;

	for (size_t i = 0; i < 16; i++) {
		source_init(&many[i], world, SHARE_TENANT, 'm', 10 * US, 1000000);
		share_task_ready(&many[i].task);
	}
	source_init(&one, world, SHARE_TENANT, 'o', 10 * US, 1000000);
	share_task_ready(&one.task);
	run_until(world, 100 * MS);
	for (size_t i = 0; i < 16; i++) {
		assert_true(many[i].spent_ns > 0);
		spent_ns += many[i].spent_ns;
		source_deinit(&many[i]);
	}
	assert_in_range(one.spent_ns, 45 * MS, 55 * MS);
	assert_in_range(spent_ns, 45 * MS, 55 * MS);
	source_deinit(&one);
}

static void a_turn_ends_and_says_that_there_is_more(void **state)
{
	struct world *world = *state;
	struct source source;
	uint64_t start_ns = world->now_ns;

	source_init(&source, world, SHARE_TENANT, 't', 100 * US, 100);
	share_task_ready(&source.task);
	assert_true(shares_run(world->shares));
	assert_in_range(world->now_ns - start_ns, 500 * US, 600 * US);
	source_deinit(&source);
	assert_false(shares_run(world->shares));
}

static void a_lone_request_comes_first(void **state)
{
	struct world *world = *state;
	struct source flood[4], honest;

	for (size_t i = 0; i < 4; i++) {
		source_init(&flood[i], world, SHARE_TENANT, (char)('a' + i), 50 * US, 100000);
		share_task_ready(&flood[i].task);
	}
	run_until(world, 20 * MS);
	source_init(&honest, world, SHARE_TENANT, 'h', 5 * US, 1);
	share_task_ready(&honest.task);
	world->len = 0;
	assert_true(shares_run(world->shares));
	assert_int_equal(world->trace[0], 'h');
	for (size_t i = 0; i < 4; i++)
		source_deinit(&flood[i]);
	source_deinit(&honest);
}

/* So that its answer leaves; but not every turn, or who always asks would never have one. */
static void a_turn_ends_behind_a_lone_request_and_the_next_does_not(void **state)
{
	struct world *world = *state;
	struct source flood, honest;

	source_init(&flood, world, SHARE_TENANT, 'f', 50 * US, 100000);
	source_init(&honest, world, SHARE_TENANT, 'h', 5 * US, 2);
	share_task_ready(&flood.task);
	run_until(world, 20 * MS);
	for (unsigned turn = 0; turn < 2; turn++) {
		honest.left = 1;
		share_task_ready(&honest.task);
		world->len = 0;
		assert_true(shares_run(world->shares));
		assert_int_equal(world->trace[0], 'h');
		assert_int_equal(world->trace[1], turn ? 'f' : 0);
	}
	source_deinit(&flood);
	source_deinit(&honest);
}

/* What comes of its piece, before the loop looks for events, is done in the same turn. */
static void what_comes_of_a_lone_request_is_done_in_its_turn(void **state)
{
	struct world *world = *state;
	struct source flood, honest;

	source_init(&flood, world, SHARE_TENANT, 'f', 50 * US, 100000);
	source_init(&honest, world, SHARE_TENANT, 'h', 5 * US, 1);
	share_task_ready(&flood.task);
	run_until(world, 20 * MS);
	share_task_ready(&honest.task);
	world->len = 0;
	assert_true(shares_run(world->shares));
	honest.left = 1;
	share_task_ready(&honest.task);
	assert_true(shares_continue(world->shares));
	assert_string_equal(world->trace, "hh");
	source_deinit(&flood);
	source_deinit(&honest);
}

/* Whoever lets its last task end and begins anew at once gets no more than who just goes on. */
static void coming_and_going_gains_nothing(void **state)
{
	struct world *world = *state;
	struct source steady, comer;

	source_init(&steady, world, SHARE_TENANT, 's', 20 * US, 1000000);
	source_init(&comer, world, SHARE_TENANT, 'c', 20 * US, 1);
	share_task_ready(&steady.task);
	while (world->now_ns < 200 * MS) {
		comer.left = 1;
		share_task_ready(&comer.task);
		assert_true(shares_run(world->shares));
	}
	assert_true(comer.spent_ns <= steady.spent_ns + MS);
	source_deinit(&steady);
	source_deinit(&comer);
}

static void an_overdraft_is_paid_by_sleeping(void **state)
{
	struct world *world = *state;
	struct source glutton, honest;

	source_init(&glutton, world, SHARE_TENANT, 'g', 50 * MS, 1000);
	source_init(&honest, world, SHARE_TENANT, 'h', 10 * US, 10000000);
	share_task_ready(&glutton.task);
	share_task_ready(&honest.task);
	run_until(world, 2000 * MS);
	assert_in_range(glutton.spent_ns, 300 * MS, 450 * MS);
	assert_in_range(honest.spent_ns, 1500 * MS, 1750 * MS);
	/* Alone, it sleeps as well: somebody may come at any moment. */
	source_deinit(&honest);
	world->len = 0;
	run_until(world, world->now_ns + 1000 * MS);
	assert_in_range(world->len, 3, 6);
	source_deinit(&glutton);
}

static void a_debt_outlives_the_connection(void **state)
{
	struct world *world = *state;
	struct source source;
	uint64_t due_ns;

	source_init(&source, world, SHARE_UID, 'u', 50 * MS, 1);
	share_task_ready(&source.task);
	assert_false(shares_run(world->shares));
	due_ns = shares_deadline(world->shares);
	assert_int_equal(due_ns, world->now_ns + (50 * MS - 100 * US) * 4);
	source_deinit(&source);
	source_init(&source, world, SHARE_UID, 'u', US, 1);
	share_task_ready(&source.task);
	assert_false(shares_run(world->shares));
	assert_int_equal(source.spent_ns, 0);
	world->now_ns = due_ns;
	assert_false(shares_run(world->shares));
	assert_int_equal(source.spent_ns, US);
	source_deinit(&source);
}

static void a_debt_has_a_bound(void **state)
{
	struct world *world = *state;
	struct share *share;

	assert_int_equal(share_get(world->shares, SHARE_TENANT, "t", &share), 0);
	share_charge(share, 3600000 * MS);
	assert_in_range(shares_deadline(world->shares), world->now_ns + 1900 * MS,
		world->now_ns + 2000 * MS);
	share_unref(share);
}

/* Work that is no task: its pieces may come at once, and no round lies between them. */
static void pieces_within_a_burst_cost_rounds_only(void **state)
{
	struct world *world = *state;
	struct share *share;

	assert_int_equal(share_get(world->shares, SHARE_TENANT, "t", &share), 0);
	for (unsigned turn = 0; turn < 100; turn++) {
		(void)shares_run(world->shares);
		for (unsigned i = 0; i < 64; i++)
			share_charge(share, 100 * US);
		assert_int_equal(shares_deadline(world->shares), UINT64_MAX);
	}
	share_unref(share);
}

static void more_than_a_burst_in_a_turn_is_slept_for(void **state)
{
	struct world *world = *state;
	struct share *share;

	assert_int_equal(share_get(world->shares, SHARE_TENANT, "t", &share), 0);
	(void)shares_run(world->shares);
	for (unsigned i = 0; i < 81; i++)
		share_charge(share, 100 * US);
	assert_in_range(
		shares_deadline(world->shares), world->now_ns + 32 * MS, world->now_ns + 33 * MS);
	share_unref(share);
}

/* Pieces that end while it sleeps make the sleep longer, and do not begin it anew. */
static void a_sleep_gets_longer_by_what_is_done_meanwhile(void **state)
{
	struct world *world = *state;
	struct share *share;
	uint64_t due_ns;

	assert_int_equal(share_get(world->shares, SHARE_TENANT, "t", &share), 0);
	share_charge(share, 10 * MS);
	due_ns = shares_deadline(world->shares);
	world->now_ns += 20 * MS;
	share_charge(share, 100 * US);
	assert_int_equal(shares_deadline(world->shares), due_ns + 400 * US);
	share_unref(share);
}

/* While the thread waits for a CPU, nobody's work is done. */
static void waits_for_a_cpu_are_not_charged(void **state)
{
	struct world *world = *state;
	struct share_scope scope;
	struct share *share;

	assert_int_equal(share_get(world->shares, SHARE_TENANT, "t", &share), 0);
	world->waited_ns = 1000 * MS;
	shares_know_waits(world->shares, world_waited);
	share_enter(&scope, world->shares, share);
	world->now_ns += 10 * MS;
	world->waited_ns += 9 * MS;
	assert_int_equal(share_leave(&scope), 10 * MS);
	assert_int_equal(shares_deadline(world->shares), UINT64_MAX);
	share_enter(&scope, world->shares, share);
	world->now_ns += 10 * MS;
	(void)share_leave(&scope);
	assert_true(shares_deadline(world->shares) != UINT64_MAX);
	share_unref(share);
}

/* What it waited long ago spares nobody anything. */
static void earlier_waits_do_not_count(void **state)
{
	struct world *world = *state;
	struct share_scope scope;
	struct share *share;

	assert_int_equal(share_get(world->shares, SHARE_TENANT, "t", &share), 0);
	shares_know_waits(world->shares, world_waited);
	world->waited_ns += 500 * MS;
	world->now_ns += 1000 * MS;
	(void)shares_run(world->shares);
	share_enter(&scope, world->shares, share);
	world->now_ns += 10 * MS;
	(void)share_leave(&scope);
	assert_true(shares_deadline(world->shares) != UINT64_MAX);
	share_unref(share);
}

static void the_administrator_never_sleeps(void **state)
{
	struct world *world = *state;
	struct source admin, flood;

	source_init(&admin, world, SHARE_ADMIN, 'a', 50 * MS, 3);
	source_init(&flood, world, SHARE_TENANT, 'f', 50 * US, 1000000);
	share_task_ready(&flood.task);
	share_task_ready(&admin.task);
	run_until(world, 160 * MS);
	assert_int_equal(admin.left, 0);
	assert_true(flood.spent_ns > 0);
	source_deinit(&admin);
	source_deinit(&flood);
}

static void scopes_nest(void **state)
{
	struct world *world = *state;
	struct share *outer, *inner;
	struct share_scope a, b;
	uint64_t ns;

	assert_int_equal(share_get(world->shares, SHARE_TENANT, "outer", &outer), 0);
	assert_int_equal(share_get(world->shares, SHARE_QEMU, "inner", &inner), 0);
	assert_null(shares_current(world->shares));
	share_enter(&a, world->shares, outer);
	world->now_ns += 10 * US;
	share_enter(&b, world->shares, inner);
	assert_ptr_equal(shares_current(world->shares), inner);
	world->now_ns += 30 * US;
	assert_int_equal(share_leave(&b), 30 * US);
	assert_ptr_equal(shares_current(world->shares), outer);
	assert_int_equal(share_leave(&a), 10 * US);
	assert_ptr_equal(shares_take_longest(world->shares, &ns), inner);
	assert_int_equal(ns, 30 * US);
	assert_string_equal(share_kind_name(inner), "qemu");
	assert_string_equal(share_key(inner), "inner");
	assert_null(shares_take_longest(world->shares, &ns));
	share_unref(outer);
	share_unref(inner);
}

static void a_task_changes_its_payer(void **state)
{
	struct world *world = *state;
	struct source source;
	struct share *stranger, *tenant;
	uint64_t ns;

	source_init(&source, world, SHARE_UID, 'u', 10 * US, 1);
	stranger = source.task.share;
	assert_int_equal(share_get(world->shares, SHARE_TENANT, "t", &tenant), 0);
	share_task_ready(&source.task);
	share_task_move(&source.task, tenant);
	share_unref(stranger);
	assert_false(shares_run(world->shares));
	assert_ptr_equal(shares_take_longest(world->shares, &ns), tenant);
	source_deinit(&source);
}

/* A thousand sockets that are all readable: to look at them takes longer than a turn. */
static void a_turn_lasts_as_long_as_the_look_before_it(void **state)
{
	static const struct share_limits defaults = SHARE_LIMITS_DEFAULT;
	struct world *world = *state;
	struct source source;
	uint64_t began;

	shares_free(world->shares);
	assert_int_equal(shares_new(&world->shares, &defaults, world_now, world), 0);
	source_init(&source, world, SHARE_TENANT, 'a', 10 * US, 1000000);
	share_task_ready(&source.task);
	shares_looked(world->shares, 200 * US);
	began = world->now_ns;
	assert_true(shares_run(world->shares));
	assert_in_range(world->now_ns - began, 200 * US, 210 * US);
	/* Not longer than others can wait, and after a sleep as always. */
	shares_looked(world->shares, 900 * MS);
	began = world->now_ns;
	assert_true(shares_run(world->shares));
	assert_in_range(world->now_ns - began, 200 * US, 300 * US);
	shares_looked(world->shares, 0);
	began = world->now_ns;
	assert_true(shares_run(world->shares));
	assert_in_range(world->now_ns - began, defaults.turn_ns, 50 * US);
	source_deinit(&source);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(time_is_shared_not_pieces),
		TEST(many_tasks_of_one_share_count_once),
		TEST(a_turn_ends_and_says_that_there_is_more),
		TEST(a_turn_lasts_as_long_as_the_look_before_it),
		TEST(a_lone_request_comes_first),
		TEST(a_turn_ends_behind_a_lone_request_and_the_next_does_not),
		TEST(what_comes_of_a_lone_request_is_done_in_its_turn),
		TEST(coming_and_going_gains_nothing),
		TEST(an_overdraft_is_paid_by_sleeping),
		TEST(a_debt_outlives_the_connection),
		TEST(a_debt_has_a_bound),
		TEST(pieces_within_a_burst_cost_rounds_only),
		TEST(more_than_a_burst_in_a_turn_is_slept_for),
		TEST(a_sleep_gets_longer_by_what_is_done_meanwhile),
		TEST(waits_for_a_cpu_are_not_charged),
		TEST(earlier_waits_do_not_count),
		TEST(the_administrator_never_sleeps),
		TEST(scopes_nest),
		TEST(a_task_changes_its_payer),
	};

	return cmocka_run_group_tests_name("share", tests, NULL, NULL);
}
