/* SPDX-License-Identifier: Apache-2.0 */
/* vCPUs that are stopped around a write: the guest always goes on. */
#include "tests/integration/qemu/quiesce_scene.h"

#include <signal.h>
#include <string.h>

#define BOUND_MS 1000 /* QEMU is still long before it has passed, also on a loaded machine */

static void a_running_guest_is_stopped_and_goes_on(void **state)
{
	scene_quiesce(LONG_MS);
	await(scene.done);
	assert_int_equal(scene.error, 0);
	assert_true(quiesce_is_still(&scene.quiesce));
	assert_string_equal(scene.fake.log, "stop ");
	quiesce_end(&scene.quiesce);
	assert_false(quiesce_is_still(&scene.quiesce));
	await(!scene_is_active());
	assert_string_equal(scene.fake.log, "stop cont ");
	assert_int_equal(scene.done, 1);
}

static void a_paused_guest_stays_paused(void **state)
{
	scene.fake.status = "paused";
	scene_quiesce(LONG_MS);
	await(scene.done);
	assert_int_equal(scene.error, 0);
	assert_true(quiesce_is_still(&scene.quiesce));
	quiesce_end(&scene.quiesce);
	await(!scene_is_active());
	assert_string_equal(scene.fake.log, "");
}

static void the_bound_ends_it(void **state)
{
	scene_quiesce(BOUND_MS);
	await(scene.done);
	assert_int_equal(scene.error, 0);
	/* Nobody resumes it. */
	await(!scene_is_active());
	assert_false(quiesce_is_still(&scene.quiesce));
	assert_string_equal(scene.fake.log, "stop cont ");
	quiesce_end(&scene.quiesce);
	assert_int_equal(scene.done, 1);
}

static void a_silent_qemu_is_not_waited_for(void **state)
{
	scene.fake.mute = true;
	scene_quiesce(20);
	await(scene.done);
	assert_int_equal(scene.error, VMSIG_ERR_TIMEOUT);
	assert_string_equal(scene.fake.log, "");
}

static void one_follows_the_other(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		/* Also while QEMU has not said yet that it goes on. */
		scene_quiesce(LONG_MS);
		await(scene.done);
		assert_int_equal(scene.error, 0);
		quiesce_end(&scene.quiesce);
	}
	await(!scene_is_active());
	assert_string_equal(scene.fake.log, "stop cont stop cont stop cont ");
}

static void a_lost_connection_is_made_up_for(void **state)
{
	scene_quiesce(LONG_MS);
	await(scene.done);
	assert_true(quiesce_is_still(&scene.quiesce));
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	assert_false(quiesce_is_still(&scene.quiesce));
	scene_connect();
	await(strcmp(scene.fake.log, "stop cont ") == 0);
	await(!scene_is_active());
}

/* Somebody else stops the guest as soon as it goes on. It is theirs to continue. */
static void who_stops_it_too_keeps_it_stopped(void **state)
{
	scene_quiesce(LONG_MS);
	await(scene.done);
	scene.fake.stopped_by_other = "paused";
	quiesce_end(&scene.quiesce);
	/* Before QEMU has said that it goes on. */
	scene_quiesce(LONG_MS);
	await(scene.done);
	assert_true(quiesce_is_still(&scene.quiesce));
	quiesce_end(&scene.quiesce);
	quiesce_close(&scene.quiesce);
	await(scene.quiesce_closed);
	assert_string_equal(scene.fake.log, "stop cont ");
}

/* It panics, and QEMU stops it for that: it is not for us to continue it. */
static void what_qemu_stops_meanwhile_stays_stopped(void **state)
{
	scene_quiesce(LONG_MS);
	quiesce_leave_stopped(&scene.quiesce);
	await(scene.done);
	assert_int_equal(scene.error, 0);
	quiesce_leave_stopped(&scene.quiesce);
	quiesce_end(&scene.quiesce);
	await(!scene_is_active());
	quiesce_close(&scene.quiesce);
	await(scene.quiesce_closed);
	assert_string_equal(scene.fake.log, "stop ");
}

/* QEMU answers to nothing for longer than the bound, with a cont under way. */
static void a_late_answer_settles_it(void **state)
{
	uint64_t cont;

	scene_quiesce(LONG_MS);
	await(scene.done);
	scene.fake.mute = true;
	quiesce_end(&scene.quiesce);
	cont = scene.quiesce.cont_id;
	assert_true(cont > 0);
	scene_quiesce(20);
	await(scene.done);
	assert_int_equal(scene.error, VMSIG_ERR_TIMEOUT);
	assert_true(scene_is_active());
	assert_true(quiesce_reply(
		&scene.quiesce, &(struct qmp_message){.kind = QMP_REPLY, .id = cont}));
	assert_false(scene_is_active());
	assert_false(scene.quiesce.stopped);
	assert_string_equal(scene.fake.log, "stop cont ");
}

/* No command can be sent at the moment. */
static void a_cont_that_cannot_be_sent_is_tried_again(void **state)
{
	uint64_t id;

	scene_quiesce(LONG_MS);
	await(scene.done);
	while (link_command(&scene.link, "query-status", NULL, &id) == 0)
		;
	quiesce_end(&scene.quiesce);
	assert_int_equal(scene.quiesce.cont_id, 0);
	await(!scene_is_active());
	assert_string_equal(scene.fake.log, "stop cont ");
}

/* The connection comes between the refusal and the word of it. */
static void a_connection_forgets_nobody_who_waits(void **state)
{
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	scene_quiesce(LONG_MS);
	quiesce_link_ready(&scene.quiesce);
	await(scene.done);
	assert_int_equal(scene.error, VMSIG_ERR_GONE);
	scene_connect();
}

static void one_without_a_connection_is_refused(void **state)
{
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	scene_quiesce(LONG_MS);
	await(scene.done);
	assert_int_equal(scene.error, VMSIG_ERR_GONE);
	scene_connect();
}

/* The adapter goes while the guest is stopped: not before it goes on. */
static void an_endpoint_that_is_given_up_goes_on(void **state)
{
	scene_quiesce(LONG_MS);
	await(scene.done);
	quiesce_close(&scene.quiesce);
	assert_false(quiesce_is_still(&scene.quiesce));
	await(scene.quiesce_closed);
	assert_string_equal(scene.fake.log, "stop cont ");
	assert_int_equal(scene.fake.accepted, 1);
}

static void one_that_waits_when_it_is_given_up_is_told(void **state)
{
	scene.fake.mute = true;
	scene_quiesce(LONG_MS);
	quiesce_close(&scene.quiesce);
	assert_int_equal(scene.done, 1);
	assert_int_equal(scene.error, VMSIG_ERR_GONE);
}

/* There is no connection to say it over: the guardian makes one. */
static void the_guardian_continues_what_is_given_up(void **state)
{
	scene_quiesce(LONG_MS);
	await(scene.done);
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	quiesce_close(&scene.quiesce);
	await(strcmp(scene.fake.log, "stop cont ") == 0);
	assert_int_equal(scene.fake.accepted, 2);
}

/* QEMU answers to its next client what the last one has asked, and forgets what nobody stays
 * for: the guardian waits for its own answers. */
static void the_guardian_takes_no_answer_for_its_own(void **state)
{
	scene_quiesce(LONG_MS);
	await(scene.done);
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	scene.fake.late = scene.fake.slow = true;
	quiesce_close(&scene.quiesce);
	await(strcmp(scene.fake.log, "stop cont ") == 0);
}

/* QEMU says that there is nothing to continue. The guardian leaves it at that. */
static void a_refused_cont_is_not_repeated(void **state)
{
	scene_quiesce(LONG_MS);
	await(scene.done);
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	scene.fake.refuses_cont = true;
	quiesce_close(&scene.quiesce);
	await(scene.fake.accepted == 2);
	await(!scene.fake.connected);
	/* Waits for its end. */
	scene.guardian = guardian_stop(scene.guardian);
	uv_run(&scene.loop, UV_RUN_NOWAIT);
	assert_int_equal(scene.fake.accepted, 2);
	assert_string_equal(scene.fake.log, "stop cont ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_running_guest_is_stopped_and_goes_on),
		TEST(a_paused_guest_stays_paused),
		TEST(the_bound_ends_it),
		TEST(a_silent_qemu_is_not_waited_for),
		TEST(one_follows_the_other),
		TEST(a_lost_connection_is_made_up_for),
		TEST(who_stops_it_too_keeps_it_stopped),
		TEST(what_qemu_stops_meanwhile_stays_stopped),
		TEST(a_late_answer_settles_it),
		TEST(a_cont_that_cannot_be_sent_is_tried_again),
		TEST(a_connection_forgets_nobody_who_waits),
		TEST(one_without_a_connection_is_refused),
		TEST(an_endpoint_that_is_given_up_goes_on),
		TEST(one_that_waits_when_it_is_given_up_is_told),
		TEST(the_guardian_continues_what_is_given_up),
		TEST(the_guardian_takes_no_answer_for_its_own),
		TEST(a_refused_cont_is_not_repeated),
	};

	/* As in vmsigd. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
