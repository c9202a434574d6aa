/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts in flight: one a session, a bound for all, turns in order, and an end to waiting. */
#include "tests/unit/read/rig.h"

#include <errno.h>

#define M VMSIG_EV_MEMCTX
#define SECOND 1000000000ull

/* Sessions that all want the context of one endpoint that is ready. */
static void start(struct rig *rig, uint32_t inflight, struct session **sessions, size_t n)
{
	rig_limit(rig, inflight);
	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	for (size_t i = 0; i < n; i++) {
		sessions[i] = rig_session(rig, &rig_all, 1);
		assert_int_equal(session_subscribe(sessions[i], "a"), 0);
	}
	rig_drain(rig);
}

static void finish(struct session **sessions, size_t n)
{
	for (size_t i = 0; i < n; i++)
		session_free(sessions[i]);
}

static void a_session_has_one_at_a_time(void **state)
{
	struct rig *rig = *state;
	struct session *session;

	start(rig, 4, &session, 1);
	rig_boot(rig, 2, "b", VMSIG_GUARD_SEALED);
	assert_int_equal(rig_ready(rig, 2, 1), 0);
	assert_int_equal(session_subscribe(session, "b"), 0);
	rig_drain(rig);
	assert_int_equal(core_session_taken(session), VMSIG_ERR_PROTOCOL);
	rig_expect(rig, session, M, 1);
	rig_expect_nothing(rig, session);
	/* News are not held up by it. */
	assert_int_equal(rig_reset(rig, 1), 0);
	rig_drain(rig);
	rig_expect(rig, session, VMSIG_EV_MEMCTX_INVALIDATED, 2);
	assert_int_equal(core_session_taken(session), 0);
	rig_drain(rig);
	assert_true(rig_notified(rig, session));
	assert_int_equal(rig_expect(rig, session, M, 1).endpoint, 2);
	session_free(session);
}

/* The shell finds out whether it was taken, and has to know when somebody waits for that. */
static void what_is_not_said_is_asked_for(void **state)
{
	struct rig *rig = *state;
	struct session *session;

	start(rig, 4, &session, 1);
	rig_boot(rig, 2, "b", VMSIG_GUARD_SEALED);
	assert_int_equal(rig_ready(rig, 2, 1), 0);
	rig_drain(rig);
	rig_expect(rig, session, M, 1);
	core_session_unsaid(session);
	assert_false(core_session_expects(session));
	assert_int_equal(session_subscribe(session, "b"), 0);
	rig_drain(rig);
	assert_true(rig_notified(rig, session));
	rig_expect_nothing(rig, session);
	assert_true(core_session_expects(session));
	assert_int_equal(core_session_taken(session), 0);
	rig_drain(rig);
	assert_true(rig_notified(rig, session));
	rig_expect(rig, session, M, 1);
	session_free(session);
}

static void turns_come_in_order(void **state)
{
	struct rig *rig = *state;
	struct session *s[4];

	start(rig, 1, s, 4);
	rig_expect(rig, s[0], M, 1);
	for (size_t i = 1; i < 4; i++)
		rig_expect_nothing(rig, s[i]);
	for (size_t i = 1; i < 4; i++) {
		assert_int_equal(core_session_taken(s[i - 1]), 0);
		rig_drain(rig);
		assert_int_equal(rig_count(rig, CORE_ACT_NOTIFY), 1);
		assert_true(rig_notified(rig, s[i]));
		/* Nobody gets in between, though there is room. */
		if (i < 3)
			rig_expect_nothing(rig, s[3]);
		rig_expect(rig, s[i], M, 1);
	}
	finish(s, 4);
}

/* A reload raises the bound: nobody waits for another one's acknowledgement to hear of it. */
static void more_room_is_given_at_once(void **state)
{
	const struct core_limits more = {
		.endpoints = 64, .sessions = 64, .inflight = 4, .take_timeout_ns = SECOND};
	struct rig *rig = *state;
	struct session *s[2];

	start(rig, 1, s, 2);
	rig_expect(rig, s[0], M, 1);
	rig_expect_nothing(rig, s[1]);
	core_set_limits(rig->core, &more);
	rig_drain(rig);
	assert_true(rig_notified(rig, s[1]));
	rig_expect(rig, s[1], M, 1);
	finish(s, 2);
}

static void a_full_connection_holds_nobody_up(void **state)
{
	struct rig *rig = *state;
	struct session *s[3];

	start(rig, 1, s, 3);
	core_advance(rig->core, rig->now = SECOND);
	rig_expect(rig, s[0], M, 1);
	rig_expect_nothing(rig, s[1]);
	rig_expect_nothing(rig, s[2]);
	assert_int_equal(core_session_taken(s[0]), 0);
	rig_drain(rig);
	assert_true(rig_notified(rig, s[1]));
	core_advance(rig->core, rig->now);
	/* It does not pull. */
	assert_true(core_deadline(rig->core) < SECOND + SECOND / 10);
	core_advance(rig->core, rig->now = core_deadline(rig->core));
	rig_drain(rig);
	assert_true(rig_notified(rig, s[2]));
	rig_expect(rig, s[2], M, 1);
	/* When it can, it is in line again. */
	rig_expect_nothing(rig, s[1]);
	assert_int_equal(core_session_taken(s[2]), 0);
	rig_drain(rig);
	assert_true(rig_notified(rig, s[1]));
	rig_expect(rig, s[1], M, 1);
	finish(s, 3);
}

/* The loop has slept since the core heard the time last: who comes next has not used up its turn
 * before it was told of it. */
static void expect_whole_turn(struct rig *rig, struct session **s)
{
	core_advance(rig->core, rig->now += 10 * SECOND);
	rig_drain(rig);
	assert_true(rig_notified(rig, s[1]));
	assert_false(rig_notified(rig, s[2]));
	rig_expect(rig, s[1], M, 1);
	finish(s, 3);
}

static void start_line(struct rig *rig, struct session **s)
{
	start(rig, 1, s, 3);
	rig_expect(rig, s[0], M, 1);
	rig_expect_nothing(rig, s[1]);
	rig_expect_nothing(rig, s[2]);
}

static void a_turn_after_an_acknowledgement_is_whole(void **state)
{
	struct session *s[3];

	start_line(*state, s);
	assert_int_equal(core_session_taken(s[0]), 0);
	expect_whole_turn(*state, s);
}

static void a_turn_after_a_departure_is_whole(void **state)
{
	struct session *s[3];

	start_line(*state, s);
	s[0] = session_free(s[0]);
	expect_whole_turn(*state, s);
}

static void a_turn_after_one_that_could_not_be_sent_is_whole(void **state)
{
	struct session *s[3];

	start_line(*state, s);
	core_session_put_back(s[0], 1);
	expect_whole_turn(*state, s);
}

static void a_turn_that_is_not_needed_passes_on(void **state)
{
	struct rig *rig = *state;
	struct session *s[3];

	start(rig, 1, s, 3);
	rig_expect(rig, s[0], M, 1);
	rig_expect_nothing(rig, s[1]);
	rig_expect_nothing(rig, s[2]);
	assert_int_equal(core_session_taken(s[0]), 0);
	assert_int_equal(session_unsubscribe(s[1], "a"), 0);
	rig_drain(rig);
	rig_expect_nothing(rig, s[1]);
	rig_drain(rig);
	assert_true(rig_notified(rig, s[2]));
	rig_expect(rig, s[2], M, 1);
	finish(s, 3);
}

static void who_leaves_gives_up_its_place(void **state)
{
	struct rig *rig = *state;
	struct session *s[3];

	start(rig, 1, s, 3);
	rig_expect(rig, s[0], M, 1);
	rig_expect_nothing(rig, s[1]);
	rig_expect_nothing(rig, s[2]);
	s[0] = session_free(s[0]);
	s[1] = session_free(s[1]);
	rig_drain(rig);
	assert_true(rig_notified(rig, s[2]));
	rig_expect(rig, s[2], M, 1);
	finish(s, 3);
}

static void who_does_not_take_is_disconnected_once(void **state)
{
	struct rig *rig = *state;
	struct session *s[2];

	start(rig, 2, s, 2);
	assert_true(core_deadline(rig->core) == UINT64_MAX);
	rig_expect(rig, s[0], M, 1);
	assert_true(core_deadline(rig->core) == SECOND);
	core_advance(rig->core, rig->now = SECOND);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_DISCONNECT), 1);
	assert_ptr_equal(rig->actions[0].session, s[0]);
	assert_int_equal(rig->actions[0].error, VMSIG_ERR_TIMEOUT);
	/* Though its shell takes its time, the next one is found too. */
	rig_expect(rig, s[1], M, 1);
	assert_true(core_deadline(rig->core) == 2 * SECOND);
	core_advance(rig->core, rig->now = 2 * SECOND);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_DISCONNECT), 1);
	assert_ptr_equal(rig->actions[0].session, s[1]);
	/* Late, but no error. */
	assert_int_equal(core_session_taken(s[0]), 0);
	/* And what it gets after that has a time limit of its own. */
	assert_int_equal(rig_reset(rig, 1), 0);
	rig_drain(rig);
	assert_int_equal(rig_ready(rig, 1, 2), 0);
	rig_drain(rig);
	rig_expect(rig, s[0], VMSIG_EV_MEMCTX_INVALIDATED, 2);
	rig_expect(rig, s[0], M, 2);
	assert_true(core_deadline(rig->core) == 3 * SECOND);
	assert_int_equal(core_session_taken(s[0]), 0);
	assert_true(core_deadline(rig->core) == UINT64_MAX);
	finish(s, 2);
}

static void without_descriptors_the_context_stays_owed(void **state)
{
	struct rig *rig = *state;
	struct session *session;
	struct core_delivery delivery;

	start(rig, 1, &session, 1);
	rig->share_error = -EMFILE;
	assert_int_equal(core_session_pull(session, 0, &delivery), VMSIG_ERR_BUSY);
	assert_int_equal(core_session_pull(session, 0, &delivery), VMSIG_ERR_BUSY);
	assert_int_equal(core_session_taken(session), VMSIG_ERR_PROTOCOL);
	rig->share_error = 0;
	rig_expect(rig, session, M, 1);
	session_free(session);
}

/* Both descriptors of a context come with it; one alone is the caller's, and no context. */
static void the_page_comes_with_the_context(void **state)
{
	struct rig *rig = *state;
	struct session *session;
	struct core_delivery delivery;

	start(rig, 1, &session, 1);
	rig->page_error = -EMFILE;
	assert_int_equal(core_session_pull(session, 0, &delivery), VMSIG_ERR_BUSY);
	assert_true(delivery.nfiles == 1);
	assert_int_equal(delivery.page_fd, -1);
	rig->page_error = 0;
	delivery = rig_expect(rig, session, M, 1);
	assert_true(delivery.nfiles == 1 && delivery.page_fd >= 0);
	assert_int_not_equal(delivery.ram_fds[0], delivery.page_fd);
	assert_int_equal(rig_reset(rig, 1), 0);
	rig_drain(rig);
	delivery = rig_expect(rig, session, VMSIG_EV_MEMCTX_INVALIDATED, 2);
	assert_int_equal(delivery.page_fd, -1);
	session_free(session);
}

static void what_could_not_be_sent_is_still_owed(void **state)
{
	struct rig *rig = *state;
	struct session *session;

	start(rig, 1, &session, 1);
	rig_expect(rig, session, M, 1);
	core_session_put_back(session, 1);
	assert_int_equal(core_session_taken(session), VMSIG_ERR_PROTOCOL);
	rig_expect(rig, session, M, 1);
	/* Its endpoint may be gone by then. */
	rig_remove(rig, 1);
	core_session_put_back(session, 1);
	assert_int_equal(
		rig_expect(rig, session, VMSIG_EV_ENDPOINT_STATE, 2).state, VMSIG_STATE_GONE);
	rig_expect_nothing(rig, session);
	session_free(session);
}

/* ---- tenants ---- */

#define MANY VMSIG_MEMFILES_MAX /* files and the page are 33 pairs of descriptors */

static char star[] = "*", other_name[] = "other", third_name[] = "third";
static char *everything[] = {star};
static const struct tenant other = {.name = other_name,
	.endpoints = everything,
	.nendpoints = 1,
	.quota = {.subscriptions = 4, .globs = 4}};
static const struct tenant third = {.name = third_name,
	.endpoints = everything,
	.nendpoints = 1,
	.quota = {.subscriptions = 4, .globs = 4}};

static void start_many(struct rig *rig, uint32_t inflight)
{
	rig_limit(rig, inflight);
	rig->nfiles = MANY;
	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
}

static struct session *reader(struct rig *rig, const struct tenant *tenant)
{
	struct session *session = rig_session(rig, tenant, 1);

	session_take_files(session);
	assert_int_equal(session_subscribe(session, "a"), 0);
	rig_drain(rig);
	return session;
}

/* Whose holders take nothing has its part of the room, and others have theirs at once. */
static void a_tenant_fills_no_more_than_its_part(void **state)
{
	struct rig *rig = *state;
	struct session *s[4];

	start_many(rig, 100);
	for (size_t i = 0; i < 3; i++)
		s[i] = reader(rig, &rig_all);
	s[3] = reader(rig, &other);
	rig_expect(rig, s[0], M, 1);
	rig_expect_nothing(rig, s[1]);
	rig_expect_nothing(rig, s[2]);
	rig_expect(rig, s[3], M, 1);
	/* Its own line goes on with its own room. */
	assert_int_equal(core_session_taken(s[3]), 0);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_NOTIFY), 0);
	assert_int_equal(core_session_taken(s[0]), 0);
	rig_drain(rig);
	assert_true(rig_notified(rig, s[1]));
	rig_expect(rig, s[1], M, 1);
	rig_expect_nothing(rig, s[2]);
	finish(s, 4);
}

static void tenants_in_line_are_served_in_turns(void **state)
{
	struct rig *rig = *state;
	struct session *s[5];

	start_many(rig, 40);
	for (size_t i = 0; i < 3; i++)
		s[i] = reader(rig, &rig_all);
	s[3] = reader(rig, &other);
	s[4] = reader(rig, &third);
	rig_expect(rig, s[0], M, 1);
	for (size_t i = 1; i < 5; i++)
		rig_expect_nothing(rig, s[i]);
	for (size_t i = 0; i < 4; i++) {
		static const size_t order[] = {0, 3, 4, 1, 2};

		assert_int_equal(core_session_taken(s[order[i]]), 0);
		rig_drain(rig);
		assert_int_equal(rig_count(rig, CORE_ACT_NOTIFY), 1);
		assert_true(rig_notified(rig, s[order[i + 1]]));
		rig_expect(rig, s[order[i + 1]], M, 1);
	}
	finish(s, 5);
}

/* Nor does a tenant that has gone altogether hold up others. */
static void who_leaves_its_tenants_line_leaves_it_whole(void **state)
{
	struct rig *rig = *state;
	struct session *s[4];

	start_many(rig, 40);
	s[0] = reader(rig, &rig_all);
	s[1] = reader(rig, &rig_all);
	s[2] = reader(rig, &other);
	s[3] = reader(rig, &other);
	rig_expect(rig, s[0], M, 1);
	for (size_t i = 1; i < 4; i++)
		rig_expect_nothing(rig, s[i]);
	s[1] = session_free(s[1]);
	s[2] = session_free(s[2]);
	s[0] = session_free(s[0]);
	rig_drain(rig);
	assert_true(rig_notified(rig, s[3]));
	rig_expect(rig, s[3], M, 1);
	finish(s, 4);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(a_session_has_one_at_a_time),
		T(what_is_not_said_is_asked_for),
		T(turns_come_in_order),
		T(more_room_is_given_at_once),
		T(a_full_connection_holds_nobody_up),
		T(a_turn_after_an_acknowledgement_is_whole),
		T(a_turn_after_a_departure_is_whole),
		T(a_turn_after_one_that_could_not_be_sent_is_whole),
		T(a_turn_that_is_not_needed_passes_on),
		T(who_leaves_gives_up_its_place),
		T(who_does_not_take_is_disconnected_once),
		T(without_descriptors_the_context_stays_owed),
		T(the_page_comes_with_the_context),
		T(what_could_not_be_sent_is_still_owed),
		T(a_tenant_fills_no_more_than_its_part),
		T(tenants_in_line_are_served_in_turns),
		T(who_leaves_its_tenants_line_leaves_it_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
