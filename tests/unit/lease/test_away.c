/* SPDX-License-Identifier: Apache-2.0 */
/* Leases whose guest is on its way to another host: none ends here, as they go on there, and nobody
 * hears that one has. What was due meanwhile is due when the guest stays. And leases that come are
 * listed among those that are here. */
#include "lease/lease.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS 1000000ull
#define TTL (100 * MS)
#define GRACE (30 * MS)
#define FOREIGN (77ull << 40)

struct rig {
	struct lease_engine *engine;
	uint64_t now_ns, token, id;
	unsigned ended;
	enum vmsig_error reason;
};

static const struct lease_limits limits = {.leases = 64,
	.waiters = 8,
	.ranges = 8,
	.preempt_grace_ns = GRACE,
	.resume_grace_ns = GRACE};
static const struct lease_terms terms = {.ttl_min_ns = MS,
	.ttl_max_ns = TTL,
	.hold_max_ns = 1000 * TTL,
	.wait_max_ns = 1000 * TTL,
	.priority_max = 3,
	.leases = 64,
	.waits = 8};

static void drain(struct rig *rig)
{
	struct lease_action action;

	while (lease_next_action(rig->engine, &action)) {
		if (action.kind == LEASE_ACT_STORE_GRANT)
			lease_stored(rig->engine, rig->now_ns, action.lease.id, ++rig->token);
		if (action.kind != LEASE_ACT_ENDED)
			continue;
		rig->ended++;
		rig->reason = action.lease.reason;
	}
}

static void pass(struct rig *rig, uint64_t ns)
{
	rig->now_ns += ns;
	lease_advance(rig->engine, rig->now_ns);
	drain(rig);
}

static void acquire(struct rig *rig, const char *tenant, uint32_t endpoint, uint32_t priority)
{
	const struct lease_request request = {.endpoint = endpoint,
		.tenant = tenant,
		.session = (uint64_t)tenant[0],
		.wait_ns = 1000 * TTL,
		.priority = priority};

	assert_int_equal(lease_acquire(rig->engine, rig->now_ns, &request, &terms, &rig->id), 0);
	drain(rig);
}

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	*state = rig;
	rig->now_ns = MS;
	return lease_engine_new(&rig->engine, &limits, 1) ||
	       lease_endpoint_ready(rig->engine, rig->now_ns, 1, 1) ||
	       lease_endpoint_ready(rig->engine, rig->now_ns, 2, 1);
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	lease_engine_free(rig->engine);
	free(rig);
	return 0;
}

static int renew(struct rig *rig)
{
	uint64_t deadline_ns;

	return lease_renew(rig->engine, rig->now_ns, "alice", 1, 1, &deadline_ns);
}

static void time_ends_none(void **state)
{
	struct rig *rig = *state;

	acquire(rig, "alice", 1, 0);
	lease_endpoint_away(rig->engine, 1);
	assert_true(lease_deadline(rig->engine) == UINT64_MAX);
	pass(rig, 10 * TTL);
	assert_int_equal(rig->ended, 0);
	/* Nor does anybody hear that it is over. */
	assert_int_equal(renew(rig), VMSIG_ERR_BUSY);
	assert_int_equal(
		lease_resume(rig->engine, rig->now_ns, "alice", 0, 1, 1, 5, NULL), VMSIG_ERR_BUSY);
	lease_endpoint_down(rig->engine, rig->now_ns, 1, VMSIG_ERR_MOVED);
	drain(rig);
	assert_int_equal(rig->ended, 1);
	assert_int_equal(rig->reason, VMSIG_ERR_MOVED);
}

static void one_that_stays_ends_as_it_was_to(void **state)
{
	struct rig *rig = *state;

	acquire(rig, "alice", 1, 0);
	lease_endpoint_away(rig->engine, 1);
	pass(rig, TTL / 2);
	assert_int_equal(lease_endpoint_ready(rig->engine, rig->now_ns, 1, 1), 0);
	pass(rig, TTL / 2 - 1);
	assert_int_equal(rig->ended, 0);
	lease_endpoint_away(rig->engine, 1);
	pass(rig, TTL);
	assert_int_equal(rig->ended, 0);
	assert_int_equal(lease_endpoint_ready(rig->engine, rig->now_ns, 1, 1), 0);
	pass(rig, 0);
	assert_int_equal(rig->ended, 1);
	assert_int_equal(rig->reason, VMSIG_ERR_LEASE_EXPIRED);
}

/* Holders go to the other host, priorities and administrators wait. */
static void nothing_else_ends_one(void **state)
{
	struct rig *rig = *state;

	acquire(rig, "alice", 1, 0);
	acquire(rig, "bob", 1, 1);
	lease_endpoint_away(rig->engine, 1);
	lease_disconnect(rig->engine, rig->now_ns, 'a');
	pass(rig, 2 * GRACE);
	assert_int_equal(
		lease_revoke(rig->engine, rig->now_ns, 1, VMSIG_ERR_LEASE_REVOKED), VMSIG_ERR_BUSY);
	assert_int_equal(lease_release(rig->engine, rig->now_ns, "alice", 1, 1), VMSIG_ERR_BUSY);
	assert_int_equal(rig->ended, 0);
	/* What is of other guests has nothing to do with it. */
	acquire(rig, "carol", 2, 0);
	assert_int_equal(lease_release(rig->engine, rig->now_ns, "carol", rig->id, rig->token), 0);
}

static void those_that_came_are_listed_by_their_ids(void **state)
{
	static const struct lease_range ranges[] = {{0, 15}, {16, 31}, {32, 47}};
	static const uint64_t ids[] = {FOREIGN + 5, FOREIGN + 1, FOREIGN + 9};
	struct rig *rig = *state;
	struct lease_view view = {.endpoint = 2, .epoch = 1, .tenant = "bob", .nranges = 1};
	uint64_t cursor = 0, before = 0;
	unsigned n = 0;

	view.token = 9;
	view.ttl_ns = TTL;
	view.deadline_ns = view.hold_until_ns = rig->now_ns + TTL;
	for (unsigned i = 0; i < 3; i++) {
		view.id = ids[i];
		view.ranges = &ranges[i];
		assert_int_equal(lease_adopt(rig->engine, rig->now_ns, &view), 0);
		acquire(rig, "alice", 1, 0);
	}
	while (lease_next(rig->engine, &cursor, &view)) {
		assert_true(view.id > before);
		before = view.id;
		n++;
	}
	assert_int_equal(n, 6);
	assert_int_equal(before, FOREIGN + 9);
	assert_true(rig->id < FOREIGN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(time_ends_none),
		TEST(one_that_stays_ends_as_it_was_to),
		TEST(nothing_else_ends_one),
		TEST(those_that_came_are_listed_by_their_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
