/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPUs that are stopped around a write, between the real QMP connection, the real guardian
 * and a fake QEMU: the guest always goes on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/adapters/qemu/guardian.h"
#include "broker/adapters/qemu/quiesce.h"
#include "tests/integration/qemu/fake_qmp.h"
#include "vmsig/vmsig_error.h"

#define PATIENCE_MS 10000
#define TICK_MS 5
#define LONG_MS 60000 /* a bound that does not come */

static struct scene {
	uv_loop_t loop;
	char dir[64], socket[96];
	struct fake_qmp fake;
	struct link link;
	struct quiesce quiesce;
	struct guardian *guardian;
	bool ready, quiesce_closed;
	unsigned done;
	int error;
	uv_timer_t tick;
	uint64_t began;
} scene;

/* Also keeps the loop turning: it may sleep right after a timer has changed something. */
static void on_tick(uv_timer_t *timer)
{
	if (uv_now(timer->loop) - scene.began < PATIENCE_MS)
		return;
	fail_msg("nothing happens; QEMU was told: %s", scene.fake.log);
}

static void on_ready(void *arg, pid_t pid)
{
	scene.ready = true;
	quiesce_link_ready(&scene.quiesce);
}

static void on_message(void *arg, struct qmp_message *message)
{
	if (message->kind == QMP_REPLY)
		(void)!quiesce_reply(&scene.quiesce, message);
}

static void on_down(void *arg, const char *reason)
{
	scene.ready = false;
	quiesce_link_down(&scene.quiesce);
}

static void on_link_closed(void *arg)
{
	/* The loop runs out. */
}

static void on_quiesce_closed(void *arg)
{
	scene.quiesce_closed = true;
}

static void on_done(void *arg, int error)
{
	assert_ptr_equal(arg, &scene);
	scene.done++;
	scene.error = error;
}

#define await(condition)                                                                           \
	while (!(condition))                                                                       \
	uv_run(&scene.loop, UV_RUN_ONCE)

static void connect_link(void)
{
	assert_int_equal(link_open(&scene.link), 0);
	await(scene.ready);
}

static int setup(void **state)
{
	memset(&scene, 0, sizeof(scene));
	assert_int_equal(guardian_start(&scene.guardian), 0);
	strcpy(scene.dir, "/tmp/vmsig-quiesce-XXXXXX");
	assert_non_null(mkdtemp(scene.dir));
	snprintf(scene.socket, sizeof(scene.socket), "%s/qmp", scene.dir);
	assert_int_equal(uv_loop_init(&scene.loop), 0);
	assert_int_equal(uv_timer_init(&scene.loop, &scene.tick), 0);
	scene.began = uv_now(&scene.loop);
	uv_timer_start(&scene.tick, on_tick, TICK_MS, TICK_MS);
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, "");
	scene.link = (struct link){.loop = &scene.loop,
		.path = scene.socket,
		.timeout_ms = 5000,
		.on_ready = on_ready,
		.on_message = on_message,
		.on_down = on_down,
		.on_closed = on_link_closed};
	quiesce_init(&scene.quiesce, &scene.link, scene.guardian, on_quiesce_closed, NULL);
	connect_link();
	return 0;
}

static int teardown(void **state)
{
	if (!scene.quiesce_closed)
		quiesce_close(&scene.quiesce);
	link_close(&scene.link);
	fake_qmp_stop(&scene.fake);
	uv_close((uv_handle_t *)&scene.tick, NULL);
	uv_run(&scene.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&scene.loop), 0);
	assert_true(scene.quiesce_closed);
	guardian_stop(scene.guardian);
	unlink(scene.socket);
	return rmdir(scene.dir);
}

static void start(uint64_t bound_ms)
{
	scene.done = 0;
	quiesce_start(&scene.quiesce, bound_ms, on_done, &scene);
	/* Never from inside of the call. */
	assert_int_equal(scene.done, 0);
}

static void a_running_guest_is_stopped_and_goes_on(void **state)
{
	start(LONG_MS);
	await(scene.done);
	assert_int_equal(scene.error, 0);
	assert_true(quiesce_is_still(&scene.quiesce));
	assert_string_equal(scene.fake.log, "stop ");
	quiesce_end(&scene.quiesce);
	assert_false(quiesce_is_still(&scene.quiesce));
	await(!quiesce_is_active(&scene.quiesce));
	assert_string_equal(scene.fake.log, "stop cont ");
	assert_int_equal(scene.done, 1);
}

static void a_paused_guest_stays_paused(void **state)
{
	scene.fake.status = "paused";
	start(LONG_MS);
	await(scene.done);
	assert_int_equal(scene.error, 0);
	assert_true(quiesce_is_still(&scene.quiesce));
	quiesce_end(&scene.quiesce);
	await(!quiesce_is_active(&scene.quiesce));
	assert_string_equal(scene.fake.log, "");
}

static void the_bound_ends_it(void **state)
{
	start(20);
	await(scene.done);
	assert_int_equal(scene.error, 0);
	/* Nobody resumes it. */
	await(!quiesce_is_active(&scene.quiesce));
	assert_false(quiesce_is_still(&scene.quiesce));
	assert_string_equal(scene.fake.log, "stop cont ");
	quiesce_end(&scene.quiesce);
	assert_int_equal(scene.done, 1);
}

static void a_silent_qemu_is_not_waited_for(void **state)
{
	scene.fake.mute = true;
	start(20);
	await(scene.done);
	assert_int_equal(scene.error, VMSIG_ERR_TIMEOUT);
	assert_string_equal(scene.fake.log, "");
}

static void one_follows_the_other(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		/* Also while QEMU has not said yet that it goes on. */
		start(LONG_MS);
		await(scene.done);
		assert_int_equal(scene.error, 0);
		quiesce_end(&scene.quiesce);
	}
	await(!quiesce_is_active(&scene.quiesce));
	assert_string_equal(scene.fake.log, "stop cont stop cont stop cont ");
}

static void a_lost_connection_is_made_up_for(void **state)
{
	start(LONG_MS);
	await(scene.done);
	assert_true(quiesce_is_still(&scene.quiesce));
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	assert_false(quiesce_is_still(&scene.quiesce));
	connect_link();
	await(strcmp(scene.fake.log, "stop cont ") == 0);
	await(!quiesce_is_active(&scene.quiesce));
}

static void one_without_a_connection_is_refused(void **state)
{
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	start(LONG_MS);
	await(scene.done);
	assert_int_equal(scene.error, VMSIG_ERR_GONE);
	connect_link();
}

/* The adapter goes while the guest is stopped: the guardian lets it go on. */
static void an_endpoint_that_is_given_up_goes_on(void **state)
{
	start(LONG_MS);
	await(scene.done);
	quiesce_close(&scene.quiesce);
	await(scene.quiesce_closed);
	link_close(&scene.link);
	await(strcmp(scene.fake.log, "stop cont ") == 0);
	assert_int_equal(scene.fake.accepted, 2);
}

/* The process that has armed it dies by SIGKILL. */
static void a_killed_broker_is_made_up_for(void **state)
{
	int ready[2];
	char byte;
	pid_t pid;

	link_close(&scene.link);
	await(!scene.fake.connected);
	scene.fake.status = "paused";
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct guardian *guardian;

		if (guardian_start(&guardian) || guardian_arm(guardian, "/nowhere/qmp") ||
			guardian_arm(guardian, scene.socket) || write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_string_equal(scene.fake.log, "");
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	await(strcmp(scene.fake.log, "cont ") == 0);
	close(ready[0]);
	close(ready[1]);
}

static void a_disarmed_guardian_does_nothing(void **state)
{
	struct guardian *guardian;

	link_close(&scene.link);
	await(!scene.fake.connected);
	assert_int_equal(guardian_start(&guardian), 0);
	assert_int_equal(guardian_arm(guardian, scene.socket), 0);
	guardian_disarm(guardian, scene.socket);
	/* Waits for its end. */
	guardian_stop(guardian);
	uv_run(&scene.loop, UV_RUN_NOWAIT);
	assert_int_equal(scene.fake.accepted, 1);
	assert_int_equal(guardian_arm(NULL, scene.socket), -ENOENT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_running_guest_is_stopped_and_goes_on),
		TEST(a_paused_guest_stays_paused),
		TEST(the_bound_ends_it),
		TEST(a_silent_qemu_is_not_waited_for),
		TEST(one_follows_the_other),
		TEST(a_lost_connection_is_made_up_for),
		TEST(one_without_a_connection_is_refused),
		TEST(an_endpoint_that_is_given_up_goes_on),
		TEST(a_killed_broker_is_made_up_for),
		TEST(a_disarmed_guardian_does_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
