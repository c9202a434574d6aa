/* SPDX-License-Identifier: Apache-2.0 */
/* What a uid may have before it is a tenant: its connections, how fast it comes, its records in the
 * log, and that it is forgotten when it owes nothing. */
#include "broker/net/caller.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "vmsig/vmsig_error.h"

#define SECOND 1000000000ull

static uint32_t uids[] = {10};
static char tenant_name[] = "acme";
static struct grant_tenant tenants[] = {
	{.tenant = {.name = tenant_name, .quota = {.connections = 2}}, .uids = uids, .nuids = 1},
	{.tenant = {.name = tenant_name, .quota = {.connections = 1}}, .uids = uids, .nuids = 1}};
static const struct config config = {
	.tenants = tenants, .ntenants = 2, .connects = 100, .stranger_connects = 8};

static struct callers callers;

static int setup(void **state)
{
	return callers_init(&callers, &config, 0);
}

static int teardown(void **state)
{
	callers_deinit(&callers);
	return 0;
}

static int enter(uint32_t uid, uint64_t now_ns, struct charge *charge, const char **ret_bound)
{
	const struct account_actor actor = {.uid = uid};
	struct account_refusal refusal = {0};
	struct caller *caller;
	int r = caller_enter(&callers, &config, &actor, now_ns, charge, &caller, &refusal);

	*ret_bound = r ? refusal.slot->bound : NULL;
	return r;
}

/* Two tenants have it, with two connections and one. */
static void a_uid_has_what_its_tenants_have_together(void **state)
{
	struct charge charges[4] = {0};
	const char *bound;

	for (size_t i = 0; i < 3; i++)
		assert_int_equal(enter(10, 0, &charges[i], &bound), 0);
	assert_int_equal(enter(10, 0, &charges[3], &bound), VMSIG_ERR_QUOTA);
	assert_string_equal(bound, "connections of the uid");
	charge_refund(&charges[0]);
	assert_int_equal(enter(10, 0, &charges[3], &bound), 0);
	for (size_t i = 0; i < 4; i++)
		charge_refund(&charges[i]);
}

static void a_stranger_has_few_and_comes_seldom(void **state)
{
	struct charge charges[9] = {0};
	const char *bound;

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(enter(99, 0, &charges[i], &bound), 0);
	assert_int_equal(enter(99, 0, &charges[4], &bound), VMSIG_ERR_QUOTA);
	assert_string_equal(bound, "connections of the uid");
	for (size_t i = 0; i < 4; i++)
		charge_refund(&charges[i]);
	/* What was refused counts as well. */
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(enter(99, 0, &charges[i], &bound), 0);
	assert_int_equal(enter(99, 0, &charges[4], &bound), VMSIG_ERR_QUOTA);
	assert_string_equal(bound, "limits.stranger_connects_per_second");
	for (size_t i = 0; i < 4; i++)
		charge_refund(&charges[i]);
	assert_int_equal(enter(99, SECOND, &charges[0], &bound), 0);
	charge_refund(&charges[0]);
}

/* Coming back gains nothing; whoever stays away is forgotten. */
static void who_owes_nothing_is_forgotten(void **state)
{
	struct charge charge = {0};
	const char *bound;

	assert_int_equal(enter(99, 0, &charge, &bound), 0);
	assert_int_equal(HASH_COUNT(callers.table), 1);
	/* While it is there its connection ends the waiting, not a tick. */
	assert_false(callers_tick(&callers, &config, 10 * SECOND));
	assert_int_equal(HASH_COUNT(callers.table), 1);
	charge_refund(&charge);
	assert_int_equal(enter(99, 10 * SECOND, &charge, &bound), 0);
	charge_refund(&charge);
	assert_true(callers_tick(&callers, &config, 10 * SECOND));
	assert_int_equal(HASH_COUNT(callers.table), 1);
	assert_false(callers_tick(&callers, &config, 20 * SECOND));
	assert_int_equal(HASH_COUNT(callers.table), 0);
}

static void records_have_a_rate(void **state)
{
	struct caller *caller;
	struct charge charge = {0};
	const struct account_actor actor = {.uid = 10};
	struct account_refusal refusal;
	unsigned told = 0;

	assert_int_equal(caller_enter(&callers, &config, &actor, 0, &charge, &caller, &refusal), 0);
	for (unsigned i = 0; i < 100; i++)
		told += caller_may_log(&callers, caller, 0);
	assert_int_equal(told, 10);
	assert_int_equal(caller->left_out, 90);
	assert_true(caller_may_log(&callers, caller, SECOND));
	charge_refund(&charge);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_uid_has_what_its_tenants_have_together),
		T(a_stranger_has_few_and_comes_seldom),
		T(who_owes_nothing_is_forgotten),
		T(records_have_a_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
