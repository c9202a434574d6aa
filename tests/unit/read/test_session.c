/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: subscriptions, what a policy hides (I14), deliveries and their order (R2-R5). */
#include "tests/unit/read/rig.h"

#include "broker/policy/account.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define M VMSIG_EV_MEMCTX
#define I VMSIG_EV_MEMCTX_INVALIDATED
#define S VMSIG_EV_ENDPOINT_STATE

static void a_late_subscriber_gets_the_context_at_once(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_all, 1);
	struct core_delivery first, second;

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(session_subscribe(session, "a"), 0);
	rig_drain(rig);
	assert_true(rig_notified(rig, session));
	assert_int_equal(rig_expect(rig, session, S, 1).state, VMSIG_STATE_BOOTING);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	rig_drain(rig);
	first = rig_expect(rig, session, M, 1);
	assert_int_equal(first.pod.epoch, 1);
	assert_int_equal(first.pod.flags & VMSIG_MEMCTX_RDONLY, VMSIG_MEMCTX_RDONLY);
	assert_int_equal(first.nseg, 2);
	assert_int_equal(first.pod.nseg, 2);
	assert_int_equal(core_session_taken(session), 0);
	assert_int_equal(session_unsubscribe(session, "a"), 0);
	/* Asked anew, not copied: the adapter may have changed its mind. */
	rig->kcr3 = 0x2000;
	assert_int_equal(session_subscribe(session, "a"), 0);
	second = rig_expect(rig, session, M, 1);
	assert_int_equal(second.pod.kcr3, 0x2000);
	assert_int_not_equal(first.ram_fds[0], second.ram_fds[0]);
	assert_int_equal(rig->described, 2);
	session_free(session);
}

static void a_slow_reader_skips_epochs_in_order(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_all, 1);

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	assert_int_equal(session_subscribe(session, "a"), 0);
	rig_drain(rig);
	rig_expect(rig, session, M, 1);
	assert_int_equal(core_session_taken(session), 0);
	for (uint32_t epoch = 2; epoch < 6; epoch++) {
		assert_int_equal(rig_reset(rig, 1), 0);
		rig_drain(rig);
		assert_int_equal(rig_ready(rig, 1, epoch), 0);
		rig_drain(rig);
	}
	rig_expect(rig, session, I, 5);
	rig_expect(rig, session, M, 5);
	rig_expect_nothing(rig, session);
	session_free(session);
}

static void nothing_is_told_before_it_is_stored(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_all, 1);

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(session_subscribe(session, "a"), 0);
	rig_drain(rig);
	rig_expect(rig, session, S, 1);
	assert_int_equal(rig_reset(rig, 1), 0);
	rig_expect_nothing(rig, session);
	rig_drain(rig);
	assert_true(rig_notified(rig, session));
	rig_expect(rig, session, I, 2);
	session_free(session);
}

static void what_the_policy_hides_does_not_exist(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_a, 1);
	struct core_endpoint_info info;
	size_t cursor = 0;

	rig_boot(rig, 1, "b", VMSIG_GUARD_SEALED);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	rig_drain(rig);
	assert_int_equal(session_subscribe(session, "b"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	assert_int_equal(session_subscribe(session, "none"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	assert_int_equal(session_unsubscribe(session, "b"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	assert_int_equal(
		core_endpoint_find(rig->core, session, "b", &info), VMSIG_ERR_NO_SUCH_ENDPOINT);
	assert_false(core_endpoint_next(rig->core, session, &cursor, &info));
	assert_int_equal(session_subscribe(session, "*"), 0);
	assert_int_equal(rig_reset(rig, 1), 0);
	rig_drain(rig);
	assert_false(rig_notified(rig, session));
	rig_expect_nothing(rig, session);
	session_free(session);
}

static void count_after(struct rig *rig, struct session *session, size_t cursor, size_t n)
{
	struct core_endpoint_info info;

	for (; n; n--)
		assert_true(core_endpoint_next(rig->core, session, &cursor, &info));
	assert_false(core_endpoint_next(rig->core, session, &cursor, &info));
}

/* Where a list goes on tells whether there is something at all, and where it sorts. */
static void a_cursor_at_what_the_policy_hides_tells_nothing(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_a, 1);

	rig_add(rig, 1, "a1");
	rig_add(rig, 2, "A");
	rig_add(rig, 3, "a3");
	count_after(rig, session, 0, 2);
	count_after(rig, session, 1, 1);
	count_after(rig, session, 2, 0);
	count_after(rig, session, 77, 0);
	session_free(session);
}

static void a_glob_covers_what_comes_later(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_all, 1);

	assert_int_equal(session_subscribe(session, "a*"), 0);
	assert_int_equal(session_subscribe(session, "a*"), VMSIG_ERR_BAD_REQUEST);
	rig_add(rig, 1, "a1");
	rig_add(rig, 2, "b1");
	rig_drain(rig);
	assert_true(rig_notified(rig, session));
	assert_string_equal(rig_expect(rig, session, S, 0).name, "a1");
	rig_expect_nothing(rig, session);
	session_free(session);
}

static void subscriptions_have_a_quota(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_all, 1);
	char pattern[] = "0*";

	for (; pattern[0] < '4'; pattern[0]++)
		assert_int_equal(session_subscribe(session, pattern), 0);
	assert_int_equal(session_subscribe(session, pattern), VMSIG_ERR_QUOTA);
	assert_int_equal(session_unsubscribe(session, "0*"), 0);
	assert_int_equal(session_subscribe(session, pattern), 0);
	assert_int_equal(session_subscribe(session, ""), VMSIG_ERR_BAD_REQUEST);
	session_free(session);
}

static void globs_have_a_quota_of_their_own(void **state)
{
	static const struct tenant_quota quota = {.subscriptions = 4, .globs = 1};
	struct rig *rig = *state;
	struct tenant few = rig_all;
	struct session *session;
	char text[ACCOUNT_TEXT_MAX + 1];

	few.quota = quota;
	session = rig_session(rig, &few, 1);
	rig_add(rig, 1, "a");
	rig_add(rig, 2, "b");
	assert_int_equal(session_subscribe(session, "a*"), 0);
	assert_int_equal(session_subscribe(session, "b*"), VMSIG_ERR_QUOTA);
	account_refusal_text(core_refusal(rig->core), text, sizeof(text));
	assert_string_equal(text,
		"quota.globs of the connection: 1 of 1 globs among the subscriptions are in use, "
		"and uid 1 of tenant asks for 1 more; subscribe to plain names, or have it raised");
	assert_int_equal(session_subscribe(session, "a"), 0);
	assert_int_equal(session_subscribe(session, "b"), 0);
	assert_int_equal(session_unsubscribe(session, "a*"), 0);
	assert_int_equal(session_subscribe(session, "b*"), 0);
	session_free(session);
}

/* Each pattern that goes leaves what another one asks for, in any order. */
static void patterns_that_overlap_are_counted(void **state)
{
	static const char *const patterns[] = {"a", "a*", "*"};
	struct rig *rig = *state;

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	for (size_t last = 0; last < 3; last++) {
		struct session *session = rig_session(rig, &rig_all, 1);
		uint32_t epoch = rig_epoch(rig, "a");

		for (size_t i = 0; i < 3; i++)
			assert_int_equal(session_subscribe(session, patterns[i]), 0);
		rig_expect(rig, session, S, epoch);
		for (size_t i = 0; i < 3; i++)
			if (i != last)
				assert_int_equal(session_unsubscribe(session, patterns[i]), 0);
		assert_int_equal(rig_reset(rig, 1), 0);
		rig_drain(rig);
		rig_expect(rig, session, I, epoch + 1);
		assert_int_equal(session_unsubscribe(session, patterns[last]), 0);
		assert_int_equal(rig_reset(rig, 1), 0);
		rig_drain(rig);
		rig_expect_nothing(rig, session);
		session_free(session);
	}
}

/* Told, and the same context again in the same epoch: nobody was reset, no lease is revoked. */
static void a_guest_out_of_contact_keeps_its_epoch(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_all, 1);
	struct session *late = rig_session(rig, &rig_all, 2);

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(session_subscribe(session, "a"), 0);
	rig_drain(rig);
	rig_expect(rig, session, S, 1);
	/* What nobody has a context of can only be gone. */
	assert_int_equal(
		rig_state(rig, 1, VMSIG_STATE_UNREACHABLE, "silent"), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	rig_drain(rig);
	rig_expect(rig, session, M, 1);
	assert_int_equal(core_session_taken(session), 0);
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_UNREACHABLE, "silent"), 0);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_REVOKE_LEASES), 0);
	assert_int_equal(rig_count(rig, CORE_ACT_PERSIST_EPOCH), 0);
	assert_int_equal(rig_count(rig, CORE_ACT_BOOTSTRAP), 0);
	assert_int_equal(rig->page.state, VMSIG_STATE_UNREACHABLE);
	assert_int_equal(rig->page.epoch, 1);
	assert_int_equal(rig_expect(rig, session, S, 1).state, VMSIG_STATE_UNREACHABLE);
	assert_int_equal(session_subscribe(late, "a"), 0);
	assert_int_equal(rig_expect(rig, late, S, 1).state, VMSIG_STATE_UNREACHABLE);
	rig_expect_nothing(rig, late);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	rig_drain(rig);
	assert_int_equal(rig->page.state, VMSIG_STATE_READY);
	rig_expect(rig, session, M, 1);
	assert_int_equal(core_session_taken(session), 0);
	rig_expect(rig, late, M, 1);
	assert_int_equal(core_session_taken(late), 0);
	/* But what turns out to be another session ends this one. */
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_UNREACHABLE, "silent"), 0);
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_GONE, "ended"), 0);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_REVOKE_LEASES), 1);
	rig_expect(rig, session, I, 2);
	session_free(late);
	session_free(session);
}

static void a_weak_guard_gets_a_reason_and_no_context(void **state)
{
	struct rig *rig = *state;
	struct session *strict = rig_session(rig, &rig_strict, 1);
	struct core_delivery delivery;

	rig_boot(rig, 1, "a", VMSIG_GUARD_MODE);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	rig_drain(rig);
	assert_int_equal(session_subscribe(strict, "a"), 0);
	delivery = rig_expect(rig, strict, S, 1);
	assert_int_equal(delivery.state, VMSIG_STATE_READY);
	assert_int_equal(delivery.guard, VMSIG_GUARD_MODE);
	assert_non_null(strstr(delivery.detail, "WEAK_GUARD"));
	assert_non_null(strstr(delivery.detail, "ro-mount"));
	rig_expect_nothing(rig, strict);
	/* A guard that got stronger is enough from now on. */
	rig_ram(rig, 1, VMSIG_GUARD_RO_MOUNT, "");
	rig_drain(rig);
	assert_true(rig_notified(rig, strict));
	rig_expect(rig, strict, M, 1);
	assert_int_equal(core_session_taken(strict), 0);
	/* And one that got weaker is told to who holds a context. */
	rig_ram(rig, 1, VMSIG_GUARD_NONE, "");
	rig_drain(rig);
	assert_int_equal(rig_expect(rig, strict, S, 1).guard, VMSIG_GUARD_NONE);
	session_free(strict);
}

static void a_file_mode_stops_neither_root_nor_the_owner(void **state)
{
	static const struct {
		uint32_t uid;
		enum vmsig_guard guard;
	} holders[] = {{0, VMSIG_GUARD_NONE}, {7, VMSIG_GUARD_NONE}, {8, VMSIG_GUARD_MODE}};
	const struct core_endpoint_config config = {.id = 1,
		.name = "a",
		.adapter = "test",
		.min_guard = VMSIG_GUARD_MODE,
		.page = &((struct rig *)*state)->page};
	struct rig *rig = *state;

	assert_int_equal(core_endpoint_add(rig->core, &config), 0);
	rig_register(rig, 1);
	rig_ram(rig, 1, VMSIG_GUARD_MODE, "");
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	rig_drain(rig);
	for (size_t i = 0; i < 3; i++) {
		struct session *session = rig_session(rig, &rig_all, holders[i].uid);
		bool served = holders[i].guard == VMSIG_GUARD_MODE;

		assert_int_equal(session_subscribe(session, "a"), 0);
		assert_int_equal(
			rig_expect(rig, session, served ? M : S, 1).guard, holders[i].guard);
		session_free(session);
	}
}

static void an_endpoint_that_goes_and_comes_is_told_in_order(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_all, 1);
	struct core_endpoint_config config = {
		.id = 1, .name = "a", .adapter = "test", .page = &rig->page};

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	assert_int_equal(session_subscribe(session, "a"), 0);
	rig_drain(rig);
	rig_expect(rig, session, M, 1);
	assert_int_equal(core_session_taken(session), 0);
	/* Twice, and nobody reads: that costs nothing more, and ends with the newest. */
	for (unsigned i = 0; i < 2; i++) {
		config.epoch = rig_epoch(rig, "a") + 1;
		rig_remove(rig, 1);
		assert_int_equal(core_endpoint_add(rig->core, &config), 0);
		rig_register(rig, 1);
		rig_drain(rig);
	}
	rig_expect(rig, session, I, rig_epoch(rig, "a"));
	rig_expect_nothing(rig, session);
	rig_remove(rig, 1);
	rig_drain(rig);
	assert_int_equal(rig_expect(rig, session, S, config.epoch + 2).state, VMSIG_STATE_GONE);
	rig_expect_nothing(rig, session);
	session_free(session);
}

static void a_new_policy_takes_away_and_gives(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_all, 1);
	struct core_delivery delivery;

	rig_boot(rig, 1, "b", VMSIG_GUARD_SEALED);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	assert_int_equal(session_subscribe(session, "*"), 0);
	assert_int_equal(session_subscribe(session, "a*"), 0);
	rig_drain(rig);
	rig_expect(rig, session, M, 1);
	assert_int_equal(core_session_taken(session), 0);
	session_set_tenant(session, &rig_a);
	/* What the policy took away is told, whatever else the session drops. */
	assert_int_equal(session_unsubscribe(session, "a*"), 0);
	rig_drain(rig);
	assert_true(rig_notified(rig, session));
	delivery = rig_expect(rig, session, S, 1);
	assert_int_equal(delivery.state, VMSIG_STATE_GONE);
	assert_string_equal(delivery.name, "b");
	rig_expect_nothing(rig, session);
	session_set_tenant(session, &rig_all);
	rig_expect(rig, session, M, 1);
	session_free(session);
}

static void subscribers_are_counted_by_tenant(void **state)
{
	struct rig *rig = *state;
	struct session *one = rig_session(rig, &rig_all, 1), *two = rig_session(rig, &rig_all, 1);
	struct session *other = rig_session(rig, &rig_a, 1);
	struct core_endpoint_info info;

	rig_add(rig, 1, "a");
	assert_int_equal(session_subscribe(one, "a"), 0);
	assert_int_equal(session_subscribe(one, "*"), 0);
	assert_int_equal(session_subscribe(two, "*"), 0);
	assert_int_equal(session_subscribe(other, "*"), 0);
	assert_int_equal(core_endpoint_find(rig->core, one, "a", &info), 0);
	assert_int_equal(info.subscribers, 2);
	assert_int_equal(core_endpoint_find(rig->core, NULL, "a", &info), 0);
	assert_int_equal(info.subscribers, 3);
	session_set_tenant(two, &rig_a);
	session_free(one);
	assert_int_equal(core_endpoint_find(rig->core, other, "a", &info), 0);
	assert_int_equal(info.subscribers, 2);
	session_free(two);
	session_free(other);
	assert_int_equal(core_endpoint_find(rig->core, NULL, "a", &info), 0);
	assert_int_equal(info.subscribers, 0);
}

static void actions_of_a_freed_session_are_gone(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_all, 1);

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(session_subscribe(session, "a"), 0);
	session_free(session);
	rig_drain(rig);
	assert_int_equal(rig->nactions, 0);
}

static void sessions_have_a_limit(void **state)
{
	struct rig *rig = *state;
	struct session *sessions[8], *one_more;

	for (size_t i = 0; i < 8; i++)
		sessions[i] = rig_session(rig, &rig_all, 1);
	assert_int_equal(session_new(&one_more, rig->core, &rig_all, 1, NULL), VMSIG_ERR_QUOTA);
	for (size_t i = 0; i < 8; i++)
		session_free(sessions[i]);
}

/* Who has a word in it may be a QEMU that was taken over. */
static void what_is_told_of_an_endpoint_is_text(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_all, 1);
	struct core_delivery told;
	char why[400] = "";

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(session_subscribe(session, "a"), 0);
	rig_drain(rig);
	rig_expect(rig, session, S, 1);
	strcpy(why, "QEMU: \x1b[2J\xc2\x9b\xff");
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_BOOTING, why), 0);
	rig_drain(rig);
	told = rig_expect(rig, session, S, 1);
	assert_string_equal(told.detail, "QEMU: ?[2J??");
	/* Where it is cut no character is. */
	strcpy(why, "x");
	while (strlen(why) + 3 < sizeof(why))
		strcat(why, "\xc3\xa9");
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_BOOTING, why), 0);
	rig_drain(rig);
	told = rig_expect(rig, session, S, 1);
	assert_int_equal(strlen(told.detail), 255);
	assert_memory_equal(told.detail, why, 255);
	/* It is the same still, which is told nobody. */
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_BOOTING, why), 0);
	rig_drain(rig);
	rig_expect_nothing(rig, session);
	strcpy(why, "");
	while (strlen(why) + 3 < sizeof(why))
		strcat(why, "\xc3\xa9");
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_BOOTING, why), 0);
	rig_drain(rig);
	assert_int_equal(strlen(rig_expect(rig, session, S, 1).detail), 254);
	session_free(session);
}

/* Told, and read on in the same epoch, also by who comes later: first the context, then what is
 * the matter with it. */
static void a_guest_that_panicked_stays_readable(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_all, 1);
	struct session *late = rig_session(rig, &rig_all, 2);
	struct core_delivery told;

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(session_subscribe(session, "a"), 0);
	rig_drain(rig);
	rig_expect(rig, session, S, 1);
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_PANICKED, "panic"), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	rig_drain(rig);
	rig_expect(rig, session, M, 1);
	assert_int_equal(core_session_taken(session), 0);
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_PANICKED, "panic"), 0);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_REVOKE_LEASES), 0);
	assert_int_equal(rig_count(rig, CORE_ACT_PERSIST_EPOCH), 0);
	assert_int_equal(rig_count(rig, CORE_ACT_BOOTSTRAP), 0);
	assert_int_equal(rig->page.state, VMSIG_STATE_PANICKED);
	assert_int_equal(rig->page.epoch, 1);
	told = rig_expect(rig, session, S, 1);
	assert_int_equal(told.state, VMSIG_STATE_PANICKED);
	assert_string_equal(told.detail, "panic");
	rig_expect_nothing(rig, session);
	assert_int_equal(session_subscribe(late, "a"), 0);
	rig_expect(rig, late, M, 1);
	assert_int_equal(core_session_taken(late), 0);
	assert_int_equal(rig_expect(rig, late, S, 1).state, VMSIG_STATE_PANICKED);
	rig_expect_nothing(rig, late);
	/* Out of contact and back, it has panicked still. */
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_UNREACHABLE, "silent"), 0);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_PANICKED, "panic"), 0);
	rig_drain(rig);
	rig_expect(rig, session, M, 1);
	assert_int_equal(core_session_taken(session), 0);
	assert_int_equal(rig_expect(rig, session, S, 1).state, VMSIG_STATE_PANICKED);
	/* A reset is what it always was. */
	assert_int_equal(rig_reset(rig, 1), 0);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_REVOKE_LEASES), 1);
	rig_expect(rig, session, I, 2);
	session_free(late);
	session_free(session);
}

/* To another host: who holds a context hears that it is over and where to go on; what the adapter
 * says of what is left here is no news, until there is a guest again. */
static void a_guest_that_moved_is_told_to_be_elsewhere(void **state)
{
	struct rig *rig = *state;
	struct session *session = rig_session(rig, &rig_all, 1);
	struct core_endpoint_info info;
	struct core_delivery told;

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(session_subscribe(session, "a"), 0);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	rig_drain(rig);
	rig_expect(rig, session, M, 1);
	assert_int_equal(core_session_taken(session), 0);
	core_endpoint_moved(rig->core, 1, "there");
	rig_drain(rig);
	rig_expect(rig, session, I, 2);
	told = rig_expect(rig, session, S, 2);
	assert_int_equal(told.state, VMSIG_STATE_MOVED);
	assert_string_equal(told.host, "there");
	assert_non_null(strstr(told.detail, "there"));
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_BOOTING, "was migrated away"), 0);
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_GONE, "QEMU has ended"), 0);
	rig_drain(rig);
	rig_expect_nothing(rig, session);
	assert_int_equal(core_endpoint_find(rig->core, session, "a", &info), 0);
	assert_int_equal(info.state, VMSIG_STATE_MOVED);
	assert_string_equal(info.host, "there");
	/* Another one is awaited, and comes. */
	core_endpoint_moved(rig->core, 1, NULL);
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_BOOTING, "waits"), 0);
	rig_drain(rig);
	told = rig_expect(rig, session, S, 2);
	assert_int_equal(told.state, VMSIG_STATE_BOOTING);
	assert_string_equal(told.host, "");
	assert_int_equal(rig_ready(rig, 1, 2), 0);
	rig_drain(rig);
	rig_expect(rig, session, M, 2);
	assert_int_equal(core_session_taken(session), 0);
	core_endpoint_moved(rig->core, 1, NULL);
	rig_drain(rig);
	rig_expect_nothing(rig, session);
	session_free(session);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(a_late_subscriber_gets_the_context_at_once),
		T(a_slow_reader_skips_epochs_in_order),
		T(nothing_is_told_before_it_is_stored),
		T(what_the_policy_hides_does_not_exist),
		T(a_cursor_at_what_the_policy_hides_tells_nothing),
		T(a_glob_covers_what_comes_later),
		T(subscriptions_have_a_quota),
		T(globs_have_a_quota_of_their_own),
		T(patterns_that_overlap_are_counted),
		T(a_guest_out_of_contact_keeps_its_epoch),
		T(what_is_told_of_an_endpoint_is_text),
		T(a_guest_that_panicked_stays_readable),
		T(a_guest_that_moved_is_told_to_be_elsewhere),
		T(a_weak_guard_gets_a_reason_and_no_context),
		T(a_file_mode_stops_neither_root_nor_the_owner),
		T(an_endpoint_that_goes_and_comes_is_told_in_order),
		T(a_new_policy_takes_away_and_gives),
		T(subscribers_are_counted_by_tenant),
		T(actions_of_a_freed_session_are_gone),
		T(sessions_have_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
