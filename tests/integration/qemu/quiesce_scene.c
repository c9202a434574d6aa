/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/qemu/quiesce_scene.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS 5
#define SLOW_TICKS 10

struct scene scene;

/* Also keeps the loop turning: it may sleep right after a timer has changed something. */
static void on_tick(uv_timer_t *timer)
{
	if (scene.fake.slow && ++scene.ticks % SLOW_TICKS == 0)
		fake_qmp_go_on(&scene.fake);
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

/* As a link that is down: the next commands are of the next connection. */
static void on_silent(void *arg, const char *reason)
{
	on_down(arg, reason);
}

static void on_voice(void *arg)
{
	on_ready(arg, 0);
}

static uint64_t now_ns(void *ctx)
{
	return uv_hrtime();
}

static void on_turn(uv_prepare_t *turn)
{
	shares_run(scene.shares);
}

static void on_link_closed(void *arg)
{
	/* The loop runs out. */
}

/* As the adapter does it. */
static void on_quiesce_closed(void *arg)
{
	link_close(&scene.link);
	scene.quiesce_closed = true;
}

static void on_done(void *arg, int error)
{
	assert_ptr_equal(arg, &scene);
	scene.done++;
	scene.error = error;
}

bool scene_is_active(void)
{
	enum quiesce_state state = scene.quiesce.state;

	return state != QUIESCE_IDLE && state != QUIESCE_REFUSED;
}

int scene_place(const char *path)
{
	return open(path, O_PATH | O_CLOEXEC);
}

void scene_connect(void)
{
	assert_int_equal(link_open(&scene.link, scene_place(scene.socket)), 0);
	await(scene.ready);
}

int scene_setup(void **state)
{
	memset(&scene, 0, sizeof(scene));
	assert_int_equal(guardian_start(&scene.guardian, NULL), 0);
	strcpy(scene.dir, "/tmp/vmsig-quiesce-XXXXXX");
	assert_non_null(mkdtemp(scene.dir));
	snprintf(scene.socket, sizeof(scene.socket), "%s/qmp", scene.dir);
	assert_int_equal(uv_loop_init(&scene.loop), 0);
	assert_int_equal(uv_timer_init(&scene.loop, &scene.tick), 0);
	scene.began = uv_now(&scene.loop);
	uv_timer_start(&scene.tick, on_tick, TICK_MS, TICK_MS);
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, "");
	assert_int_equal(shares_new(&scene.shares, &SHARE_LIMITS_DEFAULT, now_ns, NULL), 0);
	assert_int_equal(share_get(scene.shares, SHARE_QEMU, "vm", &scene.share), 0);
	assert_int_equal(uv_prepare_init(&scene.loop, &scene.turn), 0);
	assert_int_equal(uv_prepare_start(&scene.turn, on_turn), 0);
	scene.link = (struct link){.loop = &scene.loop,
		.share = scene.share,
		.path = scene.socket,
		.timeout_ms = 5000,
		.on_ready = on_ready,
		.on_message = on_message,
		.on_silent = on_silent,
		.on_voice = on_voice,
		.on_down = on_down,
		.on_closed = on_link_closed};
	quiesce_init(&scene.quiesce, &scene.link, scene.guardian, on_quiesce_closed, NULL);
	scene_connect();
	return 0;
}

int scene_teardown(void **state)
{
	if (!scene.quiesce.closing)
		quiesce_close(&scene.quiesce);
	await(scene.quiesce_closed);
	fake_qmp_stop(&scene.fake);
	uv_close((uv_handle_t *)&scene.tick, NULL);
	uv_close((uv_handle_t *)&scene.turn, NULL);
	uv_run(&scene.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&scene.loop), 0);
	share_unref(scene.share);
	shares_free(scene.shares);
	guardian_stop(scene.guardian);
	unlink(scene.socket);
	return rmdir(scene.dir);
}

void scene_quiesce(uint64_t bound_ms)
{
	scene.done = 0;
	quiesce_start(&scene.quiesce, bound_ms, on_done, &scene);
	/* Never from inside of the call. */
	assert_int_equal(scene.done, 0);
}
