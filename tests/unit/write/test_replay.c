/* SPDX-License-Identifier: Apache-2.0 */
/* At most once: numbers that come again, after a crash and while the first one is under way. */
#include "tests/unit/write/lab.h"

#include "vmsig/vmsig_error.h"

#define ADDR 0x3000u

/* A crash has given lower numbers back: one that is sent again is new, and those above are not. */
static void a_number_below_makes_none_above_new(void **state)
{
	struct lab *lab = *state;
	uint64_t low, again, other;

	lab_lease(lab);
	lab_write(lab, 5, ADDR, 5);
	lab_await(lab, 2);
	lab_kill(lab);
	low = lab_write(lab, 3, ADDR, 3);
	again = lab_write(lab, 5, ADDR, 5);
	other = lab_write(lab, 5, ADDR, 6);
	lab_await(lab, 5);
	assert_false(lab_told(lab, LAB_WRITTEN, low).replayed);
	assert_true(lab_told(lab, LAB_WRITTEN, again).replayed);
	assert_int_equal(lab_told(lab, LAB_REJECTED, other).code, VMSIG_ERR_REPLAY_MISMATCH);
	assert_int_equal(lab_word(lab, ADDR), 3);
}

/* Two connections may have sent it, and both wait. */
static void both_transmissions_are_answered(void **state)
{
	struct lab *lab = *state;
	uint64_t first, second;

	lab_lease(lab);
	first = lab_write_quiesced(lab, 1, ADDR, 1);
	for (int i = 0; i < 3; i++)
		lab_turn(lab);
	assert_non_null(lab->quiesced);
	second = lab_write_quiesced(lab, 1, ADDR, 1);
	for (int i = 0; i < 3; i++)
		lab_turn(lab);
	assert_int_equal(lab->nevents, 1);
	lab->quiesced(lab->quiesced_arg, 0);
	lab_await(lab, 3);
	assert_false(lab_told(lab, LAB_WRITTEN, first).replayed);
	assert_true(lab_told(lab, LAB_WRITTEN, second).replayed);
	assert_int_equal(lab_word(lab, ADDR), 1);
}

/* Nothing comes of it, for both. */
static void both_transmissions_are_rejected(void **state)
{
	struct lab *lab = *state;
	uint64_t first, second;

	lab_lease(lab);
	lab_store_works(lab, false);
	first = lab_write(lab, 1, ADDR, 1);
	second = lab_write(lab, 1, ADDR, 1);
	lab_await(lab, 3);
	assert_int_equal(lab_told(lab, LAB_REJECTED, first).code, VMSIG_ERR_IO);
	assert_int_equal(lab_told(lab, LAB_REJECTED, second).code, VMSIG_ERR_IO);
	lab_store_works(lab, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_number_below_makes_none_above_new),
		TEST(both_transmissions_are_answered),
		TEST(both_transmissions_are_rejected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
