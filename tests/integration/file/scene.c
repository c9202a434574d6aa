/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/file/scene.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/adapters/provider/offer.h"
#include "broker/jobs.h"
#include "broker/ram/beneath.h"
#include "broker/ram/mounts.h"
#include "tests/support/descriptors.h"
#include "vmsig/vmsig_error.h"

#define ENDPOINT 5

const struct image_linux kernel = {
	.release = "6.1.0-test", .root = 0x200000, .text = 0x210000, .note = 0x220000, .levels = 5};
const struct image_linux next_kernel = {
	.release = "6.1.0-next", .root = 0x300000, .text = 0x310000, .note = 0x320000, .levels = 4};

struct scene scene;

/* ---- the core ---- */

static int on_register(void *core, const struct vmsig_memctx_reg *reg)
{
	assert_int_equal(reg->endpoint, ENDPOINT);
	scene.reg = *reg;
	scene.registered = scene.asked = true;
	scene.epoch++;
	return 0;
}

static int on_register_memfiles(void *core, const struct vmsig_memfiles_reg *reg)
{
	assert_true(scene.registered);
	assert_int_equal(reg->endpoint, ENDPOINT);
	scene.files = *reg;
	return 0;
}

static void on_unregister(void *core, uint32_t endpoint)
{
	scene.registered = false;
}

static int on_ram_found(void *core, uint32_t endpoint, const vmsig_ram_facts *facts)
{
	scene.facts = *facts;
	scene.found++;
	return 0;
}

static int take_memctx(const vmsig_event *ev)
{
	memcpy(&scene.pod, ev->inln, sizeof(scene.pod));
	if (scene.pod.epoch != scene.epoch)
		return VMSIG_ERR_STALE_EPOCH;
	assert_int_equal(scene.found, scene.memctx + 1);
	scene.memctx++;
	scene.state = VMSIG_STATE_READY;
	return 0;
}

static int on_event(void *core, const vmsig_event *ev)
{
	assert_true(scene.registered);
	assert_int_equal(ev->endpoint, ENDPOINT);
	if (ev->kind == VMSIG_EV_MEMCTX)
		return take_memctx(ev);
	if (ev->kind == VMSIG_EV_MEMCTX_INVALIDATED) {
		scene.invalidated++;
		scene.epoch++;
		scene.asked = true;
		return 0;
	}
	assert_int_equal(ev->kind, VMSIG_EV_ENDPOINT_STATE);
	scene.state = ((const vmsig_endpoint_status *)(const void *)ev->inln)->state;
	snprintf(scene.detail, sizeof(scene.detail), "%.*s", (int)ev->payload.len,
		(const char *)ev->payload.data);
	return 0;
}

static const vmsig_emit emit = {.register_memctx = on_register,
	.unregister_memctx = on_unregister,
	.ram_found = on_ram_found,
	.register_memfiles = on_register_memfiles,
	.event = on_event};

static void on_tick(uv_timer_t *timer)
{
	if (scene.asked && scene.registered && !scene.deaf) {
		scene.asked = false;
		scene.reg.invalidate(scene.reg.ctx, scene.epoch);
	}
}

/* ---- the scene ---- */

void turn_for(unsigned ms)
{
	uint64_t until = uv_hrtime() + ms * 1000000ull;

	while (uv_hrtime() < until)
		uv_run(&scene.loop, UV_RUN_ONCE);
}

void ram_create(const char *path, off_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

void ram_replace(off_t size)
{
	ram_create(scene.other, size);
	assert_int_equal(rename(scene.other, scene.ram), 0);
}

static void ram_write(const void *data, size_t len, off_t off)
{
	int fd = open(scene.ram, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, off), len);
	close(fd);
}

void ram_put_kernels(const struct image_linux *a, const struct image_linux *b)
{
	struct image image;

	image_init(&image);
	if (a)
		image_put_linux(&image, a);
	if (b)
		image_put_linux(&image, b);
	ram_write(image.ram, IMAGE_SIZE, 0);
	image_deinit(&image);
}

int setup(void **state)
{
	char type[MOUNTS_TYPE_MAX];

	memset(&scene, 0, sizeof(scene));
	snprintf(scene.name, sizeof(scene.name), "vm");
	snprintf(scene.dir, sizeof(scene.dir), "/tmp/vmsig-file-XXXXXX");
	assert_non_null(mkdtemp(scene.dir));
	snprintf(scene.ram, sizeof(scene.ram), "%s/ram", scene.dir);
	snprintf(scene.other, sizeof(scene.other), "%s/other", scene.dir);
	assert_int_equal(uv_loop_init(&scene.loop), 0);
	assert_int_equal(uv_timer_init(&scene.loop, &scene.tick), 0);
	assert_int_equal(uv_timer_start(&scene.tick, on_tick, 0, 1), 0);
	scene.config = (struct config_endpoint){.name = scene.name,
		.adapter = CONFIG_ADAPTER_FILE,
		.path = scene.ram,
		.owner = BENEATH_ANYBODY,
		.low = SIZE,
		.poll_ms = POLL_MS};
	/* What is kept for the process is open from here on: the table of mounts. */
	assert_int_equal(mounts_type_of_id(0, type), -ENOENT);
	scene.fds = descriptors_open();
	assert_int_equal(jobs_new(&scene.jobs, &scene.loop, 2), 0);
	return 0;
}

static void start(
	const struct adapter_ops *ops, const struct config_endpoint *config, struct offer *offer)
{
	const struct adapter_env env = {.loop = &scene.loop,
		.emit = &emit,
		.endpoint = ENDPOINT,
		.config = config,
		.jobs = scene.jobs,
		.claims = &scene.claims,
		.offer = offer};
	char error[300];

	assert_int_equal(ops->start(&scene.adapter, &env, error, sizeof(error)), 0);
}

void adapter_start(void)
{
	start(&adapter_file, &scene.config, NULL);
}

void adapter_start_offer(struct offer *offer)
{
	start(&adapter_provider, &offer->config, offer);
}

void start_given(void)
{
	scene.config.kcr3_given = true;
	scene.config.kcr3 = KCR3;
	scene.config.levels = 4;
	adapter_start();
}

void start_found(void)
{
	ram_create(scene.ram, IMAGE_SIZE);
	scene.config.low = IMAGE_SIZE;
	ram_put_kernels(&kernel, NULL);
	adapter_start();
	wait_for(scene.memctx == 1);
}

static void on_stopped(void *arg)
{
	scene.stopped = true;
}

int teardown(void **state)
{
	scene.adapter->ops->stop(scene.adapter, on_stopped, NULL);
	assert_false(scene.registered);
	wait_for(scene.stopped);
	jobs_close(scene.jobs);
	uv_close((uv_handle_t *)&scene.tick, NULL);
	uv_run(&scene.loop, UV_RUN_DEFAULT);
	assert_int_equal(descriptors_open(), scene.fds);
	jobs_free(scene.jobs);
	assert_int_equal(uv_loop_close(&scene.loop), 0);
	assert_null(scene.claims.taken);
	unlink(scene.ram);
	for (size_t i = 0; i < 3; i++)
		unlink(scene.parts[i]);
	assert_int_equal(rmdir(scene.dir), 0);
	return 0;
}
