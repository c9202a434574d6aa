/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints whose RAM is in several files: who gets them, and what they take of the bound. */
#include "tests/unit/read/rig.h"

#include <errno.h>
#include <string.h>

#include "broker/adapters/memfiles_reg.h"

#define M VMSIG_EV_MEMCTX
#define STATE VMSIG_EV_ENDPOINT_STATE

static struct session *subscriber(struct rig *rig, const char *name, bool takes_files)
{
	struct session *session = rig_session(rig, &rig_all, 1);

	if (takes_files)
		session_take_files(session);
	assert_int_equal(session_subscribe(session, name), 0);
	rig_drain(rig);
	return session;
}

static void boot(struct rig *rig, uint32_t id, const char *name, uint32_t nfiles)
{
	rig->nfiles = nfiles;
	rig_boot(rig, id, name, VMSIG_GUARD_SEALED);
	assert_int_equal(rig_ready(rig, id, 1), 0);
	rig_drain(rig);
}

static void all_files_come_in_one_delivery(void **state)
{
	struct rig *rig = *state;
	struct core_delivery delivery;
	struct session *session;

	boot(rig, 1, "a", 3);
	session = subscriber(rig, "a", true);
	delivery = rig_expect(rig, session, M, 1);
	assert_int_equal(delivery.nfiles, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(delivery.ram_fds[i], delivery.ram_fds[0] + (int)i);
		assert_int_equal(delivery.ram_sizes[i], 4096 * (i + 1));
	}
	assert_true(delivery.page_fd > delivery.ram_fds[2]);
	session_free(session);
}

/* It is told why instead, and a list says the same; one file is served as ever. */
static void who_takes_one_file_is_told_so(void **state)
{
	struct rig *rig = *state;
	struct core_endpoint_info info;
	struct core_delivery delivery;
	struct session *session;

	boot(rig, 1, "a", 2);
	session = subscriber(rig, "a", false);
	delivery = rig_expect(rig, session, STATE, 1);
	assert_int_equal(delivery.state, VMSIG_STATE_READY);
	assert_int_equal(delivery.nfiles, 0);
	assert_non_null(strstr(delivery.detail, "UNSUPPORTED"));
	assert_non_null(strstr(delivery.detail, "several files"));
	rig_expect_nothing(rig, session);
	assert_int_equal(core_endpoint_find(rig->core, session, "a", &info), 0);
	assert_string_equal(info.detail, delivery.detail);
	/* The files become one. */
	assert_int_equal(rig_reset(rig, 1), 0);
	rig->nfiles = 1;
	rig_ram(rig, 1, VMSIG_GUARD_SEALED, "");
	assert_int_equal(rig_ready(rig, 1, 2), 0);
	rig_drain(rig);
	rig_expect(rig, session, VMSIG_EV_MEMCTX_INVALIDATED, 2);
	assert_int_equal(rig_expect(rig, session, M, 2).nfiles, 1);
	session_free(session);
}

/* 5 files and a page are 3 pairs of descriptors. */
static void many_files_take_as_much_room(void **state)
{
	struct rig *rig = *state;
	struct session *one, *many, *other;

	rig_limit(rig, 4);
	boot(rig, 1, "a", 5);
	boot(rig, 2, "b", 1);
	many = subscriber(rig, "a", true);
	one = subscriber(rig, "b", true);
	other = subscriber(rig, "a", true);
	rig_expect(rig, many, M, 1);
	/* 1 is left: not enough for another one, which gets in line, ... */
	rig_expect_nothing(rig, other);
	/* ... and nobody passes by it. */
	rig_expect_nothing(rig, one);
	assert_int_equal(core_session_taken(many), 0);
	rig_drain(rig);
	assert_true(rig_notified(rig, other));
	assert_true(rig_notified(rig, one));
	rig_expect(rig, other, M, 1);
	rig_expect(rig, one, M, 1);
	session_free(one);
	session_free(many);
	session_free(other);
}

static void what_never_fits_goes_alone(void **state)
{
	struct rig *rig = *state;
	struct session *many, *one;

	rig_limit(rig, 2);
	boot(rig, 1, "a", VMSIG_MEMFILES_MAX);
	boot(rig, 2, "b", 1);
	one = subscriber(rig, "b", true);
	many = subscriber(rig, "a", true);
	rig_expect(rig, one, M, 1);
	rig_expect_nothing(rig, many);
	assert_int_equal(core_session_taken(one), 0);
	rig_drain(rig);
	rig_expect(rig, many, M, 1);
	assert_int_equal(session_unsubscribe(one, "b"), 0);
	assert_int_equal(session_subscribe(one, "b"), 0);
	rig_expect_nothing(rig, one);
	assert_int_equal(core_session_taken(many), 0);
	rig_drain(rig);
	rig_expect(rig, one, M, 1);
	session_free(many);
	session_free(one);
}

/* The room of a turn is that of the context it was for; another one needs its own. */
static void a_turn_for_less_is_not_enough(void **state)
{
	struct rig *rig = *state;
	struct session *first, *session;

	rig_limit(rig, 1);
	boot(rig, 1, "a", 1);
	first = subscriber(rig, "a", true);
	session = subscriber(rig, "a", true);
	rig_expect(rig, first, M, 1);
	rig_expect_nothing(rig, session);
	assert_int_equal(core_session_taken(first), 0);
	rig_drain(rig);
	/* Meanwhile RAM has got more files. */
	rig->nfiles = 9;
	rig_ram(rig, 1, VMSIG_GUARD_SEALED, "");
	rig_expect(rig, session, M, 1);
	session_free(first);
	session_free(session);
}

static void descriptors_that_are_not_had_leave_it_pending(void **state)
{
	struct rig *rig = *state;
	struct core_delivery delivery;
	struct session *session;

	boot(rig, 1, "a", 2);
	session = subscriber(rig, "a", true);
	rig->share_error = -EMFILE;
	assert_int_equal(core_session_pull(session, rig->now, &delivery), VMSIG_ERR_BUSY);
	assert_int_equal(delivery.nfiles, 0);
	rig->share_error = 0;
	rig_expect(rig, session, M, 1);
	core_session_put_back(session, 1);
	rig_expect(rig, session, M, 1);
	session_free(session);
}

static void more_files_than_there_may_be_are_refused(void **state)
{
	struct rig *rig = *state;
	const vmsig_ram_facts facts = {.bytes = 1, .files = VMSIG_MEMFILES_MAX + 1};
	const vmsig_memfiles_reg none = {.endpoint = 1};

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(rig->seam->ram_found(rig->seam->core, 1, &facts), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(
		rig->seam->register_memfiles(rig->seam->core, &none), VMSIG_ERR_BAD_REQUEST);
	assert_null(core_endpoint_memfiles(rig->core, 1));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_files_come_in_one_delivery),
		TEST(who_takes_one_file_is_told_so),
		TEST(many_files_take_as_much_room),
		TEST(what_never_fits_goes_alone),
		TEST(a_turn_for_less_is_not_enough),
		TEST(descriptors_that_are_not_had_leave_it_pending),
		TEST(more_files_than_there_may_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
