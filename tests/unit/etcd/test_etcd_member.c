/* SPDX-License-Identifier: Apache-2.0 */
/* Which member is asked, and how long one that failed is left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "broker/etcd/member.h"

static void stays_with_the_one_that_answers(void **state)
{
	struct etcd_members members = {.n = 3, .chance = 1};
	struct etcd_member *first = etcd_members_pick(&members, 0);

	(void)state;
	etcd_member_worked(first);
	assert_ptr_equal(etcd_members_pick(&members, 10), first);
}

static void goes_on_to_the_next_and_comes_back(void **state)
{
	struct etcd_members members = {.n = 2, .chance = 1};
	struct etcd_member *first = etcd_members_pick(&members, 0), *second;

	(void)state;
	etcd_member_failed(&members, first, 0);
	second = etcd_members_pick(&members, 0);
	assert_non_null(second);
	assert_ptr_not_equal(first, second);
	etcd_member_failed(&members, second, 0);
	assert_null(etcd_members_pick(&members, 0));
	assert_true(etcd_members_wake(&members) <= ETCD_BACKOFF_MS);
	assert_non_null(etcd_members_pick(&members, etcd_members_wake(&members)));
}

static void rests_longer_each_time_up_to_a_bound(void **state)
{
	struct etcd_members members = {.n = 1, .chance = 7};
	struct etcd_member *only = &members.list[0];
	uint64_t now = 0, rest = 0;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		etcd_member_failed(&members, only, now);
		rest = only->rests_until_ms - now;
		assert_in_range(rest, ETCD_BACKOFF_MS / 2, ETCD_BACKOFF_MAX_MS);
		now = only->rests_until_ms;
	}
	assert_true(rest >= ETCD_BACKOFF_MAX_MS / 2);
	etcd_member_worked(only);
	etcd_member_failed(&members, only, now);
	assert_true(only->rests_until_ms - now <= ETCD_BACKOFF_MS);
}

static void many_requests_find_out_once(void **state)
{
	struct etcd_members members = {.n = 1, .chance = 7};
	uint64_t until;

	(void)state;
	etcd_member_failed(&members, &members.list[0], 0);
	until = members.list[0].rests_until_ms;
	etcd_member_failed(&members, &members.list[0], 1);
	assert_int_equal(members.list[0].rests_until_ms, until);
	assert_int_equal(members.list[0].failures, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stays_with_the_one_that_answers),
		cmocka_unit_test(goes_on_to_the_next_and_comes_back),
		cmocka_unit_test(rests_longer_each_time_up_to_a_bound),
		cmocka_unit_test(many_requests_find_out_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
