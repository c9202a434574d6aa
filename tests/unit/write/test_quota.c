/* SPDX-License-Identifier: Apache-2.0 */
/* What is refused for want of room says who asked, whose room it was, of what, and how much. */
#include "tests/unit/write/lab.h"

#include <string.h>

#include "broker/policy/tenant.h"
#include "vmsig/vmsig_error.h"

#define ADDR 0x3000u

static void assert_says(const char *sentence, const char *const words[])
{
	for (; *words; words++) {
		if (!strstr(sentence, *words))
			fail_msg("'%s' does not say '%s'", sentence, *words);
	}
}

static void a_lease_too_many_names_the_tenant_and_its_rule(void **state)
{
	static const char *const words[] = {"'leases' of the write rule", "tenant alice",
		"1 of 1 leases", "uid 1000", "asks for 1 more", NULL};
	struct lab *lab = *state;

	lab_rule.leases = 1;
	lab_lease(lab);
	assert_int_equal(lab_acquire(lab, false), VMSIG_ERR_QUOTA);
	assert_says(lab->op.detail, words);
	lab_rule.leases = 64;
	assert_int_equal(lab_acquire(lab, false), 0);
	assert_string_equal(lab->op.detail, "");
}

static void what_others_use_is_not_told(void **state)
{
	static const char *const words[] = {
		"limits.leases of the broker", "64 leases and requests that wait", NULL};
	struct lab *lab = *state;

	lab_rule.leases = lab_rule.waits = 1000;
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(lab_acquire(lab, false), 0);
	assert_int_equal(lab_acquire(lab, false), VMSIG_ERR_QUOTA);
	assert_says(lab->op.detail, words);
	assert_null(strstr(lab->op.detail, "64 of 64"));
	lab_rule.leases = lab_rule.waits = 64;
}

static void a_release_too_many_says_so(void **state)
{
	static const char *const words[] = {
		"of the connection", "1024 of 1024 releases", "asks for 1 more", NULL};
	struct lab *lab = *state;
	uint64_t last = 0;

	lab_lease(lab);
	while (lab_release(lab) == 0)
		last = lab->next_request;
	assert_says(lab->op.detail, words);
	/* They are no writes: another one has its room. */
	assert_int_equal(account_used(&lab->op.account, DESK_WRITES), 0);
	while (!lab_count(lab, LAB_RELEASED, last))
		lab_turn(lab);
}

static void a_writer_too_many_says_so(void **state)
{
	static const char *const words[] = {
		"of the lease", "1024 of 1024 processes that have written", "uid 1000", NULL};
	struct lab *lab = *state;
	uint64_t id = 0;

	lab_lease(lab);
	for (lab->writer = 1; lab->writer <= 1024; lab->writer++)
		id = lab_write(lab, 1, ADDR, lab->writer);
	lab_await(lab, 1 + 1024);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, 0);
	id = lab_write(lab, 1, ADDR, 7);
	lab_await(lab, 2 + 1024);
	assert_int_equal(lab_told(lab, LAB_REJECTED, id).code, VMSIG_ERR_QUOTA);
	assert_says(lab->rejected, words);
	/* Those that have written may. */
	lab->writer = 512;
	id = lab_write(lab, 2, ADDR, 8);
	lab_await(lab, 3 + 1024);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_lease_too_many_names_the_tenant_and_its_rule),
		TEST(what_others_use_is_not_told),
		TEST(a_release_too_many_says_so),
		TEST(a_writer_too_many_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
