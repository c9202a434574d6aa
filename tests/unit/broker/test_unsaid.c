/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts whose holders do not say that they have taken them: who is looked at, and when. */
#include "broker/planes/unsaid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS 1000000ull
#define SECOND (1000 * MS)
#define PATIENCE (30 * SECOND)
#define MANY 200u

struct holder {
	struct unsaid_node node;
	bool has_read;
	unsigned looks;
};

static struct unsaid unsaid;
static struct holder holders[MANY];

static int setup(void **state)
{
	unsaid = (struct unsaid){0};
	for (size_t i = 0; i < MANY; i++)
		holders[i] = (struct holder){.has_read = false};
	return 0;
}

static bool take(struct unsaid_node *node)
{
	struct holder *holder = (struct holder *)((char *)node - offsetof(struct holder, node));

	holder->looks++;
	if (holder->has_read)
		unsaid_remove(&unsaid, node);
	return holder->has_read;
}

static unsigned looks(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < MANY; i++)
		n += holders[i].looks;
	return n;
}

static void nothing_in_flight_is_nothing_to_do(void **state)
{
	assert_true(unsaid_deadline(&unsaid, false) == UINT64_MAX);
	assert_true(unsaid_deadline(&unsaid, true) == UINT64_MAX);
	unsaid_look(&unsaid, SECOND, true, take);
	unsaid_remove(&unsaid, &holders[0].node);
	unsaid_want(&unsaid, &holders[0].node);
	assert_true(unsaid_deadline(&unsaid, true) == UINT64_MAX);
}

static void who_reads_is_found_out_once(void **state)
{
	unsaid_add(&unsaid, &holders[0].node, 5 * SECOND, PATIENCE);
	assert_true(unsaid_deadline(&unsaid, false) == 6 * SECOND);
	unsaid_look(&unsaid, 6 * SECOND - 1, false, take);
	assert_int_equal(holders[0].looks, 0);
	holders[0].has_read = true;
	unsaid_look(&unsaid, 6 * SECOND, false, take);
	assert_int_equal(holders[0].looks, 1);
	assert_false(holders[0].node.is_listed);
	assert_true(unsaid_deadline(&unsaid, false) == UINT64_MAX);
}

static void who_does_not_read_is_looked_at_again(void **state)
{
	unsaid_add(&unsaid, &holders[0].node, 0, PATIENCE);
	unsaid_add(&unsaid, &holders[1].node, 1, PATIENCE);
	holders[1].has_read = true;
	unsaid_look(&unsaid, SECOND + 1, false, take);
	assert_int_equal(holders[0].looks, 1);
	assert_false(holders[1].node.is_listed);
	assert_true(unsaid_deadline(&unsaid, false) == 2 * SECOND + 1);
}

/* It is found out several times before its connection would be ended. */
static void a_short_patience_has_shorter_pauses(void **state)
{
	unsaid_add(&unsaid, &holders[0].node, 0, 100 * MS);
	assert_true(unsaid_deadline(&unsaid, false) == 25 * MS);
	unsaid_look(&unsaid, 25 * MS, false, take);
	assert_true(unsaid_deadline(&unsaid, false) == 50 * MS);
}

static void a_hurry_looks_at_some_at_a_time(void **state)
{
	uint64_t now = SECOND / 2;

	for (size_t i = 0; i < MANY; i++)
		unsaid_add(&unsaid, &holders[i].node, i, PATIENCE);
	unsaid_look(&unsaid, now, false, take);
	assert_int_equal(looks(), 0);
	unsaid_look(&unsaid, now, true, take);
	assert_int_equal(looks(), 64);
	/* Not in each turn of a busy loop. */
	unsaid_look(&unsaid, now, true, take);
	assert_int_equal(looks(), 64);
	assert_true(unsaid_deadline(&unsaid, true) == now + MS);
	/* Each has its look before one has another. */
	for (unsigned i = 0; i < 3; i++)
		unsaid_look(&unsaid, now += MS, true, take);
	assert_int_equal(looks(), 256);
	for (size_t i = 0; i < MANY; i++)
		assert_true(holders[i].looks >= 1 && holders[i].looks <= 2);
}

/* A few are not asked twice in a look. */
static void a_hurry_asks_each_once(void **state)
{
	for (size_t i = 0; i < 3; i++)
		unsaid_add(&unsaid, &holders[i].node, 0, PATIENCE);
	holders[2].has_read = true;
	unsaid_look(&unsaid, MS, true, take);
	assert_int_equal(looks(), 3);
	assert_false(holders[2].node.is_listed);
}

static void who_waits_for_more_comes_first(void **state)
{
	for (size_t i = 0; i < MANY; i++)
		unsaid_add(&unsaid, &holders[i].node, 0, PATIENCE);
	unsaid_want(&unsaid, &holders[MANY - 1].node);
	unsaid_want(&unsaid, &holders[MANY - 1].node);
	assert_true(unsaid_deadline(&unsaid, false) == MS);
	unsaid_look(&unsaid, MS, false, take);
	assert_int_equal(holders[MANY - 1].looks, 1);
	assert_int_equal(looks(), 64);
	/* And then with the others. */
	assert_true(unsaid_deadline(&unsaid, false) == 2 * MS);
	holders[MANY - 1].has_read = true;
	for (unsigned i = 2; holders[MANY - 1].node.is_listed && i <= 6; i++)
		unsaid_look(&unsaid, i * MS, false, take);
	assert_false(holders[MANY - 1].node.is_listed);
	assert_true(unsaid_deadline(&unsaid, false) >= SECOND);
}

static void who_waits_and_does_not_read_is_in_nobodys_way(void **state)
{
	for (size_t i = 0; i < MANY; i++)
		unsaid_add(&unsaid, &holders[i].node, 0, PATIENCE);
	for (size_t i = 0; i < MANY / 2; i++)
		unsaid_want(&unsaid, &holders[i].node);
	holders[MANY - 1].has_read = true;
	for (unsigned i = 1; i <= 4; i++)
		unsaid_look(&unsaid, i * MS, true, take);
	assert_false(holders[MANY - 1].node.is_listed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(nothing_in_flight_is_nothing_to_do, setup),
		cmocka_unit_test_setup(who_reads_is_found_out_once, setup),
		cmocka_unit_test_setup(who_does_not_read_is_looked_at_again, setup),
		cmocka_unit_test_setup(a_short_patience_has_shorter_pauses, setup),
		cmocka_unit_test_setup(a_hurry_looks_at_some_at_a_time, setup),
		cmocka_unit_test_setup(a_hurry_asks_each_once, setup),
		cmocka_unit_test_setup(who_waits_for_more_comes_first, setup),
		cmocka_unit_test_setup(who_waits_and_does_not_read_is_in_nobodys_way, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
