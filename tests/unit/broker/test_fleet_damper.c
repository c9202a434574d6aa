/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that goes and stays as often as it likes costs the fleet little. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/fleet_damper.h"

#define MS 1000000ull
#define MINUTE (60000 * MS)

static void who_goes_is_not_held(void **state)
{
	struct fleet_damper damper = {0};
	uint64_t now = MINUTE;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		(void)!fleet_damper_step(&damper, now, PASSAGE_STAYS);
		damper.taken = PASSAGE_STAYS;
		assert_true(fleet_damper_step(&damper, now, PASSAGE_LEAVES));
		assert_true(fleet_damper_step(&damper, now, PASSAGE_LEFT));
		assert_true(fleet_damper_step(&damper, now, PASSAGE_ENDED));
	}
}

/* A cancelled migration now and then is what happens. */
static void some_steps_back_are_taken_at_once(void **state)
{
	struct fleet_damper damper = {0};
	uint64_t now = MINUTE;

	(void)state;
	for (unsigned hour = 0; hour < 10; hour++) {
		for (unsigned i = 0; i < FLEET_DAMPER_FREE; i++) {
			assert_true(fleet_damper_step(&damper, now, PASSAGE_LEAVES));
			assert_true(fleet_damper_step(&damper, now, PASSAGE_STAYS));
			now += MS;
		}
		now += 60 * MINUTE;
	}
}

static void what_is_held_is_the_last_that_was_said(void **state)
{
	struct fleet_damper damper = {0};
	enum passage_step step = PASSAGE_ENDED;
	uint64_t now = MINUTE;

	(void)state;
	do
		assert_true(fleet_damper_step(&damper, now, PASSAGE_LEFT));
	while (fleet_damper_step(&damper, now, PASSAGE_STAYS));
	assert_true(damper.holds);
	assert_false(fleet_damper_due(&damper, now, &step));
	assert_false(fleet_damper_step(&damper, now, PASSAGE_COMES));
	assert_true(fleet_damper_due(&damper, damper.until_ns, &step));
	assert_int_equal(step, PASSAGE_COMES);
	assert_false(fleet_damper_due(&damper, damper.until_ns + MINUTE, &step));
	/* One that has gone after all is not held. */
	now = damper.until_ns;
	do
		assert_true(fleet_damper_step(&damper, now, PASSAGE_LEFT));
	while (fleet_damper_step(&damper, now, PASSAGE_STAYS));
	assert_false(fleet_damper_step(&damper, now, PASSAGE_LEFT));
	assert_false(fleet_damper_due(&damper, damper.until_ns + MINUTE, &step));
}

/* Each pattern for an hour, a hundred times a second: what is taken of it. */
static unsigned taken_of(const enum passage_step *steps, unsigned n)
{
	struct fleet_damper damper = {0};
	enum passage_step step;
	unsigned taken = 0;

	for (uint64_t i = 0, now = MINUTE; now < 61 * MINUTE; i++, now += 10 * MS) {
		taken += fleet_damper_due(&damper, now, &step);
		taken += fleet_damper_step(&damper, now, steps[i % n]);
	}
	return taken;
}

static void without_end_it_is_little(void **state)
{
	static const enum passage_step patterns[][4] = {
		{PASSAGE_LEAVES, PASSAGE_STAYS, PASSAGE_LEAVES, PASSAGE_STAYS},
		{PASSAGE_LEFT, PASSAGE_LEAVES, PASSAGE_LEFT, PASSAGE_LEAVES},
		{PASSAGE_LEAVES, PASSAGE_LEFT, PASSAGE_COMES, PASSAGE_STAYS},
		{PASSAGE_COMES, PASSAGE_STAYS, PASSAGE_COMES, PASSAGE_STAYS},
		{PASSAGE_LEAVES, PASSAGE_ENDED, PASSAGE_LEFT, PASSAGE_ENDED},
	};

	(void)state;
	/* Of 360,000 steps. In an hour 60 steps back are forgotten, and each goes with three at
	 * most that are no steps back. */
	for (unsigned i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		unsigned taken = taken_of(patterns[i], 4);

		assert_true(taken >= FLEET_DAMPER_FREE);
		assert_true(taken <= 4 * (FLEET_DAMPER_FREE + 8 + 60));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_goes_is_not_held),
		cmocka_unit_test(some_steps_back_are_taken_at_once),
		cmocka_unit_test(what_is_held_is_the_last_that_was_said),
		cmocka_unit_test(without_end_it_is_little),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
