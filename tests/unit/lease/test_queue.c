/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of an endpoint when it is long: who waits for whom, and that a request costs what
 * concerns it. A queue that compares everybody with everybody does not end within the limit. */
#include "lease/lease.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS 1000000ull
#define WAITERS 1024u
#define RANGES 64u

static const struct lease_limits limits = {.leases = 65536,
	.waiters = WAITERS,
	.ranges = RANGES,
	.preempt_grace_ns = 20 * MS,
	.resume_grace_ns = 30 * MS};

struct rig {
	struct lease_engine *engine;
	uint64_t now_ns, token;
	unsigned granted, notices, refused;
	uint64_t last_granted, last_refused;
	enum vmsig_error reason;
};

static void rig_drain(struct rig *rig)
{
	struct lease_action action;

	while (lease_deadline(rig->engine) == 0) {
		while (lease_next_action(rig->engine, &action)) {
			if (action.kind == LEASE_ACT_STORE_GRANT)
				lease_stored(
					rig->engine, rig->now_ns, action.lease.id, ++rig->token);
			rig->notices += action.kind == LEASE_ACT_NOTICE;
			if (action.kind == LEASE_ACT_GRANTED) {
				rig->granted++;
				rig->last_granted = action.lease.id;
			}
			if (action.kind == LEASE_ACT_REFUSED) {
				rig->refused++;
				rig->last_refused = action.lease.id;
				rig->reason = action.lease.reason;
			}
		}
		lease_advance(rig->engine, rig->now_ns);
	}
}

static uint64_t rig_token(const struct rig *rig, uint64_t id)
{
	struct lease_view view;

	assert_true(lease_find(rig->engine, id, &view));
	return view.token;
}

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	*state = rig;
	rig->now_ns = MS;
	return lease_engine_new(&rig->engine, &limits, 1) ||
	       lease_endpoint_ready(rig->engine, rig->now_ns, 1, 1);
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	lease_engine_free(rig->engine);
	free(rig);
	return 0;
}

/* Each tenant has a connection, and a number of leases. */
static int acquire(struct rig *rig, const char *tenant, uint32_t leases, uint32_t priority,
	const struct lease_range *ranges, size_t n, uint64_t *ret_id)
{
	return lease_acquire(rig->engine, rig->now_ns,
		&(struct lease_request){.endpoint = 1,
			.tenant = tenant,
			.session = (uint64_t)tenant[0],
			.ranges = ranges,
			.nranges = n,
			.wait_ns = 1000000 * MS,
			.priority = priority},
		&(struct lease_terms){.ttl_min_ns = MS,
			.ttl_max_ns = 100000 * MS,
			.hold_max_ns = 100000 * MS,
			.wait_max_ns = 1000000 * MS,
			.priority_max = 3,
			.leases = leases,
			.waits = WAITERS},
		ret_id);
}

/* Waiter `i` of many: ranges that interleave with everybody's and overlap nobody's. */
static void comb(struct lease_range *ranges, unsigned i)
{
	for (uint64_t r = 0; r < RANGES; r++)
		ranges[r] = (struct lease_range){
			.start = (r * WAITERS + i) * 16, .last = (r * WAITERS + i) * 16 + 15};
}

static void fill(struct rig *rig, uint64_t *ids, unsigned n)
{
	struct lease_range ranges[RANGES];

	for (unsigned i = 0; i < n; i++) {
		comb(ranges, i);
		assert_int_equal(acquire(rig, "many", WAITERS, 0, ranges, RANGES, &ids[i]), 0);
	}
	rig_drain(rig);
}

static void all_that_one_held_up_go_at_once(void **state)
{
	struct rig *rig = *state;
	uint64_t holder, ids[WAITERS];

	assert_int_equal(acquire(rig, "one", 1, 0, NULL, 0, &holder), 0);
	rig_drain(rig);
	fill(rig, ids, WAITERS);
	assert_int_equal(rig->granted, 1);
	assert_int_equal(
		lease_release(rig->engine, rig->now_ns, "one", holder, rig_token(rig, holder)), 0);
	rig_drain(rig);
	assert_int_equal(rig->granted, 1 + WAITERS);
	/* In the order in which they came. */
	assert_int_equal(rig->last_granted, ids[WAITERS - 1]);
}

static void coming_and_going_in_a_long_queue_is_cheap(void **state)
{
	struct rig *rig = *state;
	uint64_t holder, ids[WAITERS], id;
	struct lease_range ranges[RANGES];

	assert_int_equal(acquire(rig, "one", 1, 0, NULL, 0, &holder), 0);
	rig_drain(rig);
	fill(rig, ids, WAITERS - 1);
	comb(ranges, WAITERS - 1);
	for (unsigned i = 0; i < 2000; i++) {
		assert_int_equal(acquire(rig, "x", 1, 0, ranges, RANGES, &id), 0);
		assert_int_equal(lease_release(rig->engine, rig->now_ns, "x", id, 0), 0);
		rig_drain(rig);
	}
	assert_int_equal(rig->granted, 1);
	assert_int_equal(rig->refused, 2000);
}

/* Everybody wants all of it: one after the other, each in its turn. */
static void a_chain_is_granted_in_order(void **state)
{
	struct rig *rig = *state;
	uint64_t ids[WAITERS], first;

	assert_int_equal(acquire(rig, "one", 1, 0, NULL, 0, &first), 0);
	rig_drain(rig);
	for (unsigned i = 0; i < WAITERS; i++)
		assert_int_equal(acquire(rig, "many", 1, 0, NULL, 0, &ids[i]), 0);
	assert_int_equal(
		lease_release(rig->engine, rig->now_ns, "one", first, rig_token(rig, first)), 0);
	for (unsigned i = 0; i < WAITERS; i++) {
		rig_drain(rig);
		assert_int_equal(rig->granted, i + 2);
		assert_int_equal(rig->last_granted, ids[i]);
		assert_int_equal(lease_release(rig->engine, rig->now_ns, "many", ids[i],
					 rig_token(rig, ids[i])),
			0);
	}
}

static void a_queue_gets_nobody_more_than_the_tenant_may_hold(void **state)
{
	struct rig *rig = *state;
	uint64_t holder, ids[5];
	struct lease_range range;

	assert_int_equal(acquire(rig, "one", 1, 0, NULL, 0, &holder), 0);
	rig_drain(rig);
	for (unsigned i = 0; i < 5; i++) {
		range = (struct lease_range){.start = i * 16, .last = i * 16 + 15};
		assert_int_equal(acquire(rig, "greedy", 1, 0, &range, 1, &ids[i]), 0);
	}
	rig_drain(rig);
	assert_int_equal(
		lease_release(rig->engine, rig->now_ns, "one", holder, rig_token(rig, holder)), 0);
	rig_drain(rig);
	assert_int_equal(rig->granted, 2);
	assert_int_equal(rig->last_granted, ids[0]);
	assert_int_equal(rig->refused, 4);
	assert_int_equal(rig->reason, VMSIG_ERR_QUOTA);
}

/* It came while the store was busy with the one it may preempt. */
static void who_is_more_urgent_is_noticed_when_the_store_has_answered(void **state)
{
	struct rig *rig = *state;
	uint64_t holder, urgent;
	struct lease_view view;

	assert_int_equal(acquire(rig, "one", 1, 0, NULL, 0, &holder), 0);
	assert_int_equal(acquire(rig, "urgent", 1, 2, NULL, 0, &urgent), 0);
	rig_drain(rig);
	assert_int_equal(rig->notices, 1);
	rig->now_ns += 21 * MS;
	lease_advance(rig->engine, rig->now_ns);
	rig_drain(rig);
	assert_int_equal(rig->last_granted, urgent);
	assert_false(lease_find(rig->engine, holder, &view));
}

static void a_lost_connection_takes_its_waiters_along(void **state)
{
	struct rig *rig = *state;
	uint64_t holder, lost, next;

	assert_int_equal(acquire(rig, "one", 1, 0, NULL, 0, &holder), 0);
	assert_int_equal(acquire(rig, "lost", 1, 0, NULL, 0, &lost), 0);
	assert_int_equal(acquire(rig, "next", 1, 0, NULL, 0, &next), 0);
	rig_drain(rig);
	lease_disconnect(rig->engine, rig->now_ns, 'l');
	rig_drain(rig);
	assert_int_equal(rig->last_refused, lost);
	assert_int_equal(
		lease_release(rig->engine, rig->now_ns, "one", holder, rig_token(rig, holder)), 0);
	rig_drain(rig);
	assert_int_equal(rig->last_granted, next);
}

static int admit(const struct rig *rig, const char *tenant, uint64_t id, uint64_t token)
{
	const struct lease_range byte = {0, 0};

	return lease_admit(rig->engine, rig->now_ns, tenant, id, token, 1, &byte);
}

/* Somebody was told so: that the one it was revoked for has gone meanwhile changes nothing. */
static void check_revoked_for_good(struct rig *rig, void (*leave)(struct rig *rig, uint64_t urgent))
{
	uint64_t holder, urgent, token;

	assert_int_equal(acquire(rig, "one", 1, 0, NULL, 0, &holder), 0);
	rig_drain(rig);
	token = rig_token(rig, holder);
	assert_int_equal(acquire(rig, "urgent", 1, 2, NULL, 0, &urgent), 0);
	rig_drain(rig);
	assert_int_equal(admit(rig, "one", holder, token), 0);
	rig->now_ns += 21 * MS;
	assert_int_equal(admit(rig, "one", holder, token), VMSIG_ERR_LEASE_REVOKED);
	leave(rig, urgent);
	assert_int_not_equal(admit(rig, "one", holder, token), 0);
	rig_drain(rig);
	assert_int_not_equal(admit(rig, "one", holder, token), 0);
}

static void disconnect(struct rig *rig, uint64_t urgent)
{
	lease_disconnect(rig->engine, rig->now_ns, 'u');
}

static void withdraw(struct rig *rig, uint64_t urgent)
{
	assert_int_equal(lease_release(rig->engine, rig->now_ns, "urgent", urgent, 0), 0);
}

static void revoke(struct rig *rig, uint64_t urgent)
{
	assert_int_equal(
		lease_revoke(rig->engine, rig->now_ns, urgent, VMSIG_ERR_LEASE_REVOKED), 0);
}

static void a_revocation_outlives_who_waits_for_it(void **state)
{
	check_revoked_for_good(*state, disconnect);
}

static void a_revocation_outlives_a_request_that_is_withdrawn(void **state)
{
	check_revoked_for_good(*state, withdraw);
}

static void a_revocation_outlives_a_request_that_is_revoked(void **state)
{
	check_revoked_for_good(*state, revoke);
}

/* Nobody has looked at the time in between, and it is the same as if somebody had. */
static void who_waits_no_longer_than_the_grace_has_nobody_go(void **state)
{
	struct rig *rig = *state;
	uint64_t holder, token, urgent;
	const struct lease_request request = {.endpoint = 1,
		.tenant = "urgent",
		.session = 'u',
		.wait_ns = 10 * MS,
		.priority = 2};
	const struct lease_terms terms = {.ttl_max_ns = MS,
		.hold_max_ns = MS,
		.wait_max_ns = 10 * MS,
		.priority_max = 2,
		.leases = 1,
		.waits = 1};

	assert_int_equal(acquire(rig, "one", 1, 0, NULL, 0, &holder), 0);
	rig_drain(rig);
	token = rig_token(rig, holder);
	assert_int_equal(lease_acquire(rig->engine, rig->now_ns, &request, &terms, &urgent), 0);
	rig_drain(rig);
	rig->now_ns += 21 * MS;
	assert_int_equal(admit(rig, "one", holder, token), 0);
	lease_advance(rig->engine, rig->now_ns);
	rig_drain(rig);
	assert_int_equal(rig->last_refused, urgent);
	assert_int_equal(admit(rig, "one", holder, token), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_that_one_held_up_go_at_once),
		TEST(coming_and_going_in_a_long_queue_is_cheap),
		TEST(a_chain_is_granted_in_order),
		TEST(a_queue_gets_nobody_more_than_the_tenant_may_hold),
		TEST(who_is_more_urgent_is_noticed_when_the_store_has_answered),
		TEST(a_lost_connection_takes_its_waiters_along),
		TEST(a_revocation_outlives_who_waits_for_it),
		TEST(a_revocation_outlives_a_request_that_is_withdrawn),
		TEST(a_revocation_outlives_a_request_that_is_revoked),
		TEST(who_waits_no_longer_than_the_grace_has_nobody_go),
	};

	return cmocka_run_group_tests_name("lease_queue", tests, NULL, NULL);
}
