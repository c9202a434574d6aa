/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter before a QEMU whose memory goes back in time, and one that floods. */
#include "tests/integration/qemu/scene.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

#define S 1000000000ull
#define LONG_AGO 1000000000 /* the date of a snapshot */

/* The broker looks several times. */
static void look(void)
{
	unsigned asked = scene.fake.asked;

	wait_for(scene.fake.asked >= asked + 20);
}

static void start(unsigned snapshots, bool has_clock)
{
	scene.config.writable = true;
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene.fake.snapshots = snapshots;
	scene.fake.snapshot_s = LONG_AGO;
	scene.fake.has_clock = has_clock;
	scene_adapter_start();
	wait_for(scene.memctx == 1);
	/* The clock has to be seen to run for a while. */
	for (uint64_t until = uv_hrtime() + S; has_clock && uv_hrtime() < until;)
		uv_run(&scene.loop, UV_RUN_ONCE);
}

static void test_plain_stop(void **state)
{
	start(0, false);
	fake_qmp_pause(&scene.fake);
	look();
	fake_qmp_resume(&scene.fake);
	look();
	assert_int_equal(scene.invalidated, 0);
}

static void test_stop_with_snapshots(void **state)
{
	start(1, true);
	for (int i = 0; i < 3; i++) {
		fake_qmp_pause(&scene.fake);
		look();
		fake_qmp_resume(&scene.fake);
		look();
	}
	assert_int_equal(scene.invalidated, 0);
}

static void test_loaded(void **state)
{
	start(1, true);
	fake_qmp_load(&scene.fake, 10 * S);
	wait_for(scene.invalidated == 1);
	wait_for(scene.memctx == 2);
}

static void test_loaded_while_paused(void **state)
{
	start(1, true);
	fake_qmp_pause(&scene.fake);
	look();
	assert_int_equal(scene.invalidated, 0);
	fake_qmp_load(&scene.fake, S / 100);
	wait_for(scene.invalidated == 1);
	wait_for(scene.memctx == 2);
	fake_qmp_resume(&scene.fake);
	look();
	assert_int_equal(scene.invalidated, 1);
}

static void test_no_evidence(void **state)
{
	start(1, false);
	look();
	assert_int_equal(scene.invalidated, 0);
	fake_qmp_pause(&scene.fake);
	fake_qmp_resume(&scene.fake);
	wait_for(scene.invalidated == 1);
}

/* A QEMU that does not list snapshots may have some. */
static void test_no_list(void **state)
{
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene.fake.refuses_nodes = true;
	scene_adapter_start();
	wait_for(scene.memctx == 1);
	fake_qmp_pause(&scene.fake);
	fake_qmp_resume(&scene.fake);
	wait_for(scene.invalidated == 1);
}

static void test_loading_job(void **state)
{
	start(1, true);
	fake_qmp_pause(&scene.fake);
	look();
	scene.fake.job = "backup";
	scene.fake.job_status = "running";
	scene_event("JOB_STATUS_CHANGE");
	look();
	assert_int_equal(scene.invalidated, 0);
	scene.fake.job = "snapshot-load";
	scene_event("JOB_STATUS_CHANGE");
	wait_for(scene.invalidated == 1);
	wait_for(scene.memctx == 2);
	/* Told once, though it stays in the list. */
	scene_event("JOB_STATUS_CHANGE");
	look();
	assert_int_equal(scene.invalidated, 1);
}

/* Until a look says what a stop was, nothing is written. */
static void test_no_writes_in_doubt(void **state)
{
	const char *why = NULL;

	start(0, false);
	wait_for(scene.writer.may_write(scene.writer.ctx, &why) == 0);
	scene.fake.slow = true;
	fake_qmp_pause(&scene.fake);
	wait_for(scene.writer.may_write(scene.writer.ctx, &why) == VMSIG_ERR_BUSY);
	assert_non_null(strstr(why, "snapshot"));
	scene.fake.slow = false;
	fake_qmp_go_on(&scene.fake);
	wait_for(scene.writer.may_write(scene.writer.ctx, &why) == 0);
	assert_int_equal(scene.invalidated, 0);
}

/* A broker that is started anew cannot know what was loaded meanwhile. */
static void test_no_fingerprint_with_snapshots(void **state)
{
	kernel.proof.placement = 0x1234;
	kernel.proof.digest = 0x5678;
	start(1, true);
	assert_string_equal(scene.session, "");
	scene_adapter_stop();
	scene.fake.snapshots = 0;
	scene.memctx = 0;
	scene_adapter_start();
	wait_for(scene.memctx == 1);
	assert_int_not_equal(strlen(scene.session), 0);
}

/* ---- who has the socket ---- */

static int connect_to(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Others wait for a socket that serves one: the cause is told as it is, and stays. */
static void test_full_backlog(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char elsewhere[96];
	int waiting[16], n = 0;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", scene.socket);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, 1), 0);
	while (n < 16 && (waiting[n] = connect_to(scene.socket)) >= 0)
		n++;
	assert_in_range(n, 1, 15);
	/* There is no QEMU. */
	snprintf(elsewhere, sizeof(elsewhere), "%s/other", scene.dir);
	fake_qmp_start(&scene.fake, &scene.loop, elsewhere, scene.ram);
	assert_int_equal(unlink(elsewhere), 0);
	scene_adapter_start();
	wait_for(strstr(scene.detail, "one client at a time"));
	for (int i = 0; i < 20; i++)
		uv_run(&scene.loop, UV_RUN_ONCE);
	assert_non_null(strstr(scene.detail, "one client at a time"));
	/* With one place free it waits there itself, on one connection. */
	close(accept(listener, NULL, NULL));
	wait_for(strstr(scene.detail, "no QMP greeting"));
	for (int i = 0; i < 300; i++)
		uv_run(&scene.loop, UV_RUN_ONCE);
	assert_non_null(strstr(scene.detail, "no QMP greeting"));
	while (n)
		close(waiting[--n]);
	close(listener);
}

/* ---- a flood ---- */

#define FLOOD 4000

static struct {
	struct share_task task;
	unsigned turns, heard;
} other;

static void on_other(struct share_task *task)
{
	other.turns++;
	share_task_ready(task);
}

/* Events without end cost their own share: somebody else's work goes on between them, and the
 * log has a few lines. */
static void test_flood(void **state)
{
	struct share *share;
	char *text = malloc(FLOOD * 40);
	size_t len = 0;
	unsigned before;

	assert_non_null(text);
	scene_start();
	for (unsigned i = 0; i < FLOOD; i++)
		len += (size_t)sprintf(text + len, "{\"event\": \"RESET\"}\r\n");
	assert_int_equal(share_get(scene.shares, SHARE_TENANT, "honest", &share), 0);
	share_task_init(&other.task, share, on_other);
	share_task_ready(&other.task);
	fake_qmp_say(&scene.fake, text);
	wait_for(scene.invalidated > 0);
	before = other.turns;
	/* The answer to what is asked after the flood comes behind it. */
	wait_for(scene.memctx > scene.invalidated);
	assert_true(other.turns - before > FLOOD / 8);
	share_task_cancel(&other.task);
	share_unref(share);
	free(text);
}

/* Each session ends as soon as it has begun: some do at once, and then one a second. */
static void test_resets_without_end(void **state)
{
	uint64_t begun;
	unsigned seen = 0;

	scene_start();
	begun = uv_hrtime();
	while (seen < 22) {
		wait_for(scene.memctx > seen);
		seen = scene.memctx;
		scene_event("RESET");
	}
	assert_true(uv_hrtime() - begun > S);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_plain_stop),
		TEST(test_stop_with_snapshots),
		TEST(test_loaded),
		TEST(test_loaded_while_paused),
		TEST(test_no_evidence),
		TEST(test_no_list),
		TEST(test_loading_job),
		TEST(test_no_writes_in_doubt),
		TEST(test_no_fingerprint_with_snapshots),
		TEST(test_full_backlog),
		TEST(test_flood),
		TEST(test_resets_without_end),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
