/* SPDX-License-Identifier: Apache-2.0 */
/* Leases whose guest is on its way to another host, or whose host has no right to it for now: what
 * their holders and administrators hear, and what they do not. */
#include "tests/unit/write/lab.h"

#include <errno.h>

#include "broker/store/baggage.h"
#include "broker/write/state.h"
#include "vmsig/vmsig_error.h"

#define TTL_MS 3600000u /* of lab_lease(): what the rule has at most */
#define ROOM (64u << 10)

static char star[] = "*", root[] = "root";
static char *all[] = {star};
static const struct tenant tenant = {.name = root, .endpoints = all, .nendpoints = 1};
static const struct desk_admin admin = {.tenant = &tenant, .serial = "1"};

static void on_done(struct desk_wait *wait, int error, const char *detail)
{
	assert_int_equal(error, 0);
}

static int ask_revoke(struct lab *lab)
{
	static struct desk_wait wait;
	bool later;

	wait = (struct desk_wait){.done = on_done};
	return desk_revoke(lab->desk, lab_now(), &admin, lab->lease, &wait, &later);
}

static int ask_renew(struct lab *lab, uint32_t *ret_remaining_ms)
{
	return desk_renew(lab->desk, lab_now(), &lab->op, lab->lease, lab->token, ret_remaining_ms);
}

static size_t ends(struct lab *lab)
{
	lab_turn(lab);
	lab_turn(lab);
	return lab_count(lab, LAB_ENDED, lab->lease);
}

static void leave(struct lab *lab)
{
	desk_endpoint_leave(lab->desk, lab_now(), lab->endpoint);
}

static void come_back(struct lab *lab)
{
	desk_endpoint_ready(lab->desk, lab_now(), lab->endpoint, lab->epoch, &lab->page);
}

static void nothing_that_is_away_is_changed(void **state)
{
	struct lab *lab = *state;
	uint32_t left;

	lab_lease(lab);
	leave(lab);
	lab_pass(1000000 * LAB_MS);
	assert_int_equal(ask_renew(lab, &left), 0);
	assert_int_equal(left, TTL_MS - 1000000);
	assert_int_equal(ask_revoke(lab), VMSIG_ERR_BUSY);
	assert_int_equal(lab_release(lab), VMSIG_ERR_BUSY);
	assert_int_equal(ends(lab), 0);
	come_back(lab);
	assert_int_equal(ask_renew(lab, &left), 0);
	assert_int_equal(left, TTL_MS);
	assert_int_equal(ask_revoke(lab), 0);
	assert_int_equal(ends(lab), 1);
}

/* It may go on at the other host. */
static void the_end_of_one_that_is_away_is_not_told(void **state)
{
	struct lab *lab = *state;
	uint32_t left;

	lab_lease(lab);
	leave(lab);
	lab_pass((TTL_MS + 1) * LAB_MS);
	assert_int_equal(ends(lab), 0);
	assert_int_equal(ask_renew(lab, &left), VMSIG_ERR_BUSY);
	assert_non_null(strstr(lab->op.detail, "another host"));
	assert_int_equal(ends(lab), 0);
	desk_endpoint_moved(lab->desk, lab_now(), lab->endpoint, "host2");
	assert_int_equal(ends(lab), 1);
	assert_int_equal(lab_told(lab, LAB_ENDED, lab->lease).code, VMSIG_ERR_MOVED);
}

/* Who writes under it here hears where it is. */
static void a_write_after_it_says_where_to_go(void **state)
{
	struct lab *lab = *state;
	uint64_t request;

	lab_lease(lab);
	leave(lab);
	desk_endpoint_moved(lab->desk, lab_now(), lab->endpoint, "host2");
	assert_int_equal(ends(lab), 1);
	request = lab_write(lab, 1, 0x1000, 7);
	while (!lab_count(lab, LAB_REJECTED, request))
		lab_turn(lab);
	assert_int_equal(lab_told(lab, LAB_REJECTED, request).code, VMSIG_ERR_MOVED);
	assert_non_null(strstr(lab->rejected, "host2"));
	assert_int_equal(lab_word(lab, 0x1000), 0);
	/* And when the guest is back there is no such lease. */
	come_back(lab);
	request = lab_write(lab, 2, 0x1000, 7);
	while (!lab_count(lab, LAB_REJECTED, request))
		lab_turn(lab);
	assert_int_equal(lab_told(lab, LAB_REJECTED, request).code, VMSIG_ERR_NO_LEASE);
}

static void one_that_is_over_when_its_guest_stays_ends_then(void **state)
{
	struct lab *lab = *state;

	lab_lease(lab);
	leave(lab);
	lab_pass((TTL_MS + 1) * LAB_MS);
	come_back(lab);
	assert_int_equal(ends(lab), 1);
	assert_int_equal(lab_told(lab, LAB_ENDED, lab->lease).code, VMSIG_ERR_LEASE_EXPIRED);
}

/* A release that was sent before is not done after the lease was packed. */
static void a_release_that_waits_is_refused(void **state)
{
	struct lab *lab = *state;
	uint64_t request;

	lab_lease(lab);
	(void)lab_write(lab, 1, 0x1000, 7);
	assert_int_equal(lab_release(lab), 0);
	request = lab->next_request;
	leave(lab);
	while (!lab_count(lab, LAB_RELEASED, request))
		lab_turn(lab);
	assert_int_equal(lab_told(lab, LAB_RELEASED, request).code, VMSIG_ERR_BUSY);
	assert_int_equal(ends(lab), 0);
}

/* Where it goes on that is judged there; where it stays, then. */
static void a_policy_that_changes_waits_for_the_guest(void **state)
{
	struct lab *lab = *state;

	lab_lease(lab);
	leave(lab);
	lab_rule.nendpoints = 0;
	desk_reload(lab->desk, lab_now(), &lab->config);
	assert_int_equal(ends(lab), 0);
	come_back(lab);
	lab_rule.nendpoints = 1;
	assert_int_equal(ends(lab), 1);
	assert_int_equal(lab_told(lab, LAB_ENDED, lab->lease).code, VMSIG_ERR_LEASE_REVOKED);
}

static int nothing_opens(
	void *ctx, uint32_t endpoint, vmsig_coherence *page, struct desk_target **ret_target)
{
	return -ENOMEM;
}

/* Nobody is left who could end its leases. */
static void one_that_stays_and_cannot_be_written_to_has_none(void **state)
{
	struct lab *lab = *state;
	const struct desk_guest_ops *ops = lab->desk->env.ops.guests;
	struct desk_guest_ops closed = *ops;

	closed.open = nothing_opens;
	lab_lease(lab);
	leave(lab);
	lab->desk->env.ops.guests = &closed;
	come_back(lab);
	assert_int_equal(ends(lab), 1);
	assert_int_equal(lab_told(lab, LAB_ENDED, lab->lease).code, VMSIG_ERR_NO_WRITE_PATH);
	lab->desk->env.ops.guests = ops;
}

/* What did not become durable is not believed when its guest stays. */
static void one_that_is_not_durable_ends(void **state)
{
	struct lab *lab = *state;

	lab_lease(lab);
	leave(lab);
	desk_lease_lost(lab->desk, lab_now(), lab->lease, VMSIG_ERR_IO);
	assert_int_equal(ends(lab), 1);
}

/* ---- the right ---- */

static bool no(void *ctx, uint32_t endpoint)
{
	return false;
}

/* Who takes the guest over waits for what was promised before the right was gone, and no longer. */
static void without_the_right_no_time_is_promised(void **state)
{
	struct lab *lab = *state;
	const struct desk_guest_ops *ops = lab->desk->env.ops.guests;
	struct desk_guest_ops cut_off = *ops;
	uint32_t left;

	cut_off.may_prolong = no;
	lab_lease(lab);
	lab->desk->env.ops.guests = &cut_off;
	lab_pass(1000000 * LAB_MS);
	assert_int_equal(ask_renew(lab, &left), 0);
	assert_int_equal(left, TTL_MS - 1000000);
	lab->desk->env.ops.guests = ops;
	assert_int_equal(ask_renew(lab, &left), 0);
	assert_int_equal(left, TTL_MS);
	lab->desk->env.ops.guests = &cut_off;
	lab_pass(TTL_MS * LAB_MS);
	assert_int_equal(ask_renew(lab, &left), VMSIG_ERR_LEASE_EXPIRED);
	assert_int_equal(ends(lab), 1);
	lab->desk->env.ops.guests = ops;
}

/* ---- from one host to the next ---- */

/* The target is a broker of its own, with an endpoint of the same number. */
static int take(struct lab *there, const void *data, size_t len, uint64_t age_ns)
{
	struct baggage_intake intake = {.endpoint = there->endpoint,
		.age_ns = age_ns,
		.token_max = INT64_MAX,
		.epoch_max = there->epoch};

	return lab_unpack(there, &intake, data, len);
}

static void one_that_expires_on_its_way_does_not_come_alive(void **state)
{
	struct lab *here = *state, *there = lab_new();
	uint8_t *data = NULL;
	size_t len = 0;
	uint32_t left;

	assert_non_null(there);
	assert_int_equal(lab_open(there), 0);
	lab_lease(here);
	lab_pass((TTL_MS - 5000) * LAB_MS);
	leave(here);
	assert_int_equal(desk_shell_pack(here->shell, here->endpoint, true, ROOM, &data, &len), 0);
	there->lease = here->lease;
	there->token = here->token;
	/* It takes longer than what was left of it. */
	lab_pass(6000 * LAB_MS);
	assert_int_equal(ends(here), 0);
	assert_int_equal(take(there, data, len, 6000 * LAB_MS), 0);
	assert_int_equal(ask_renew(there, &left), VMSIG_ERR_LEASE_EXPIRED);
	lab_turn(there);
	assert_int_equal(ask_renew(there, &left), VMSIG_ERR_NO_LEASE);
	free(data);
	lab_close(there);
	lab_free(there);
}

/* Somebody has these bytes: it is over, also for the next broker, whatever the disk does. */
static void one_that_cannot_be_had_here_does_not_come_back(void **state)
{
	struct lab *here = *state, *there = lab_new();
	uint8_t *data = NULL;
	struct lease_view view;
	size_t len = 0;

	assert_non_null(there);
	assert_int_equal(lab_open(there), 0);
	lab_lease(there);
	lab_lease(here);
	assert_int_equal(lab_release(here), 0);
	lab_await(here, 3);
	lab_lease(here);
	assert_int_not_equal(here->lease, there->lease);
	leave(here);
	assert_int_equal(desk_shell_pack(here->shell, here->endpoint, true, ROOM, &data, &len), 0);
	assert_int_equal(take(there, data, len, 0), 0);
	assert_false(desk_lease_find(there->desk, here->lease, &view));
	/* What else is in that batch fails. */
	lab_store_works(there, false);
	assert_int_equal(lab_release(there), 0);
	lab_turn(there);
	assert_int_equal(ends(there), 0);
	lab_store_works(there, true);
	lab_pass(1000 * LAB_MS);
	lab_await(there, 3);
	lab_kill(there);
	assert_false(desk_lease_find(there->desk, here->lease, &view));
	free(data);
	lab_close(there);
	lab_free(there);
}

static void one_that_comes_in_time_has_what_is_left(void **state)
{
	struct lab *here = *state, *there = lab_new();
	uint8_t *data = NULL;
	struct lease_view view;
	size_t len = 0;

	assert_non_null(there);
	assert_int_equal(lab_open(there), 0);
	lab_lease(here);
	leave(here);
	assert_int_equal(desk_shell_pack(here->shell, here->endpoint, true, ROOM, &data, &len), 0);
	lab_pass(6000 * LAB_MS);
	assert_int_equal(take(there, data, len, 6000 * LAB_MS), 0);
	assert_true(desk_lease_find(there->desk, here->lease, &view));
	assert_int_equal(view.deadline_ns, lab_now() + (TTL_MS - 6000) * LAB_MS);
	assert_int_equal(view.token, here->token);
	free(data);
	lab_close(there);
	lab_free(there);
}

/* The source's policy may be another one, and so may what is said of it. */
static void one_that_comes_lasts_no_longer_than_one_of_here(void **state)
{
	const struct grant_rule before = lab_rule;
	struct lab *here = *state, *there = lab_new();
	uint8_t *data = NULL;
	struct lease_view view;
	size_t len = 0;
	uint64_t granted_ns;

	assert_non_null(there);
	assert_int_equal(lab_open(there), 0);
	lab_lease(here);
	granted_ns = lab_now();
	leave(here);
	assert_int_equal(desk_shell_pack(here->shell, here->endpoint, true, ROOM, &data, &len), 0);
	lab_rule.ttl_max_ns = 30000 * LAB_MS;
	lab_rule.hold_max_ns = 600000 * LAB_MS;
	lab_pass(6000 * LAB_MS);
	assert_int_equal(take(there, data, len, 6000 * LAB_MS), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(desk_lease_find(there->desk, here->lease, &view));
		assert_int_equal(view.ttl_ns, 30000 * LAB_MS);
		assert_int_equal(view.deadline_ns, granted_ns + 36000 * LAB_MS);
		assert_int_equal(view.hold_until_ns, granted_ns + 600000 * LAB_MS);
		/* A broker that starts again knows that too. */
		if (i)
			break;
		lab_kill(there);
	}
	lab_rule = before;
	free(data);
	lab_close(there);
	lab_free(there);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_that_is_away_is_changed),
		TEST(the_end_of_one_that_is_away_is_not_told),
		TEST(a_write_after_it_says_where_to_go),
		TEST(one_that_is_over_when_its_guest_stays_ends_then),
		TEST(a_release_that_waits_is_refused),
		TEST(a_policy_that_changes_waits_for_the_guest),
		TEST(one_that_stays_and_cannot_be_written_to_has_none),
		TEST(one_that_is_not_durable_ends),
		TEST(without_the_right_no_time_is_promised),
		TEST(one_that_expires_on_its_way_does_not_come_alive),
		TEST(one_that_cannot_be_had_here_does_not_come_back),
		TEST(one_that_comes_in_time_has_what_is_left),
		TEST(one_that_comes_lasts_no_longer_than_one_of_here),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
