/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The adapter `file` on a real loop with real files, under a fake core that records what it
 * hears and asks for bootstraps a turn later, as the shell does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/adapters/adapter.h"
#include "broker/adapters/memfiles_reg.h"
#include "broker/jobs.h"
#include "broker/ram/beneath.h"
#include "broker/ram/claims.h"
#include "tests/unit/guest/image.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_memctx.h"
#include "tests/support/descriptors.h"

#define ENDPOINT 5
#define PATIENCE_MS 60000
#define POLL_MS 10
#define SIZE (1u << 20)
#define KCR3 0x7000ull
#define QUIET_MS (5 * POLL_MS)

static const struct image_linux kernel = {
	.release = "6.1.0-test", .root = 0x200000, .text = 0x210000, .note = 0x220000, .levels = 5};
static const struct image_linux next_kernel = {
	.release = "6.1.0-next", .root = 0x300000, .text = 0x310000, .note = 0x320000, .levels = 4};

static struct scene {
	uv_loop_t loop;
	uv_timer_t tick;
	char name[8], dir[64], ram[96], other[96];
	char parts[3][96], *files_of[3]; /* of RAM in several files */
	struct config_endpoint config;
	struct jobs *jobs;
	struct claims claims;
	struct adapter *adapter;
	vmsig_memctx_reg reg;
	vmsig_memfiles_reg files;
	bool registered, asked, deaf, stopped;
	uint32_t epoch;
	unsigned memctx, invalidated, found;
	vmsig_memctx pod;
	vmsig_ram_facts facts;
	uint32_t state;
	char detail[512];
	size_t fds;
} scene;

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

/* Turns the loop until the condition holds. */
#define wait_for(condition)                                                                        \
	do {                                                                                       \
		uint64_t until = uv_hrtime() + PATIENCE_MS * 1000000ull;                           \
		while (!(condition) && uv_hrtime() < until)                                        \
			uv_run(&scene.loop, UV_RUN_ONCE);                                          \
		if (!(condition))                                                                  \
			fail_msg("%s did not come; state %u '%s'", #condition, scene.state,        \
				scene.detail);                                                     \
	} while (0)

static void turn_for(unsigned ms)
{
	uint64_t until = uv_hrtime() + ms * 1000000ull;

	while (uv_hrtime() < until)
		uv_run(&scene.loop, UV_RUN_ONCE);
}

static void ram_create(const char *path, off_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

/* The file is replaced, as by somebody who starts another VM. */
static void ram_replace(off_t size)
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

/* Writes an image with these kernels over the file, in place. */
static void ram_put_kernels(const struct image_linux *a, const struct image_linux *b)
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

static int setup(void **state)
{
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
	scene.fds = descriptors_open();
	assert_int_equal(jobs_new(&scene.jobs, &scene.loop, 2), 0);
	return 0;
}

static void adapter_start(void)
{
	const struct adapter_env env = {.loop = &scene.loop,
		.emit = &emit,
		.endpoint = ENDPOINT,
		.config = &scene.config,
		.jobs = scene.jobs,
		.claims = &scene.claims};
	char error[300];

	assert_int_equal(adapter_file.start(&scene.adapter, &env, error, sizeof(error)), 0);
}

/* With a root that the configuration gives. */
static void start_given(void)
{
	scene.config.kcr3_given = true;
	scene.config.kcr3 = KCR3;
	scene.config.levels = 4;
	adapter_start();
}

static void start_found(void)
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

static int teardown(void **state)
{
	adapter_file.stop(scene.adapter, on_stopped, NULL);
	assert_false(scene.registered);
	wait_for(scene.stopped);
	jobs_close(scene.jobs);
	assert_int_equal(descriptors_open(), scene.fds);
	uv_close((uv_handle_t *)&scene.tick, NULL);
	uv_run(&scene.loop, UV_RUN_DEFAULT);
	jobs_free(scene.jobs);
	assert_int_equal(uv_loop_close(&scene.loop), 0);
	assert_null(scene.claims.taken);
	unlink(scene.ram);
	for (size_t i = 0; i < 3; i++)
		unlink(scene.parts[i]);
	assert_int_equal(rmdir(scene.dir), 0);
	return 0;
}

/* ---- tests ---- */

static void a_given_root_is_served_low(void **state)
{
	const vmsig_memseg *segs;
	vmsig_memctx pod;
	uint32_t nseg;

	ram_create(scene.ram, SIZE);
	start_given();
	wait_for(scene.memctx == 1);
	assert_int_equal(scene.pod.kcr3, KCR3);
	assert_int_equal(scene.pod.low, SIZE);
	assert_int_equal(scene.pod.nseg, 0);
	assert_int_equal(scene.pod.flags, VMSIG_MEMCTX_RDONLY | VMSIG_MEMCTX_SPARSE);
	assert_int_equal(scene.facts.bytes, SIZE);
	assert_true(scene.facts.session[0]);
	scene.reg.describe(scene.reg.ctx, &pod, &segs, &nseg);
	assert_int_equal(pod.kcr3, KCR3);
	assert_int_equal(nseg, 0);
	assert_null(segs);
}

static void a_given_root_is_served_in_segments(void **state)
{
	vmsig_memseg config[] = {
		{.gpa = 1ull << 32, .len = 0x40000, .file_off = 0xc0000},
		{.gpa = 0, .len = 0xa0000, .file_off = 0},
		{.gpa = 0xc0000, .len = 0x20000, .file_off = 0xa0000},
	};
	const vmsig_memseg *segs;
	vmsig_memctx pod;
	uint32_t nseg;

	ram_create(scene.ram, SIZE);
	scene.config.low = 0;
	scene.config.segs = config;
	scene.config.nseg = 3;
	start_given();
	wait_for(scene.memctx == 1);
	assert_int_equal(scene.pod.nseg, 3);
	assert_int_equal(scene.pod.low, 0xc0000);
	assert_int_equal(scene.facts.bytes, SIZE);
	scene.reg.describe(scene.reg.ctx, &pod, &segs, &nseg);
	assert_int_equal(nseg, 3);
	assert_int_equal(segs[0].gpa, 0);
	assert_int_equal(segs[1].gpa, 0xc0000);
	assert_int_equal(segs[2].gpa, 1ull << 32);
}

static void each_descriptor_is_a_new_read_only_one(void **state)
{
	char byte;
	int a, b;

	ram_create(scene.ram, SIZE);
	start_given();
	assert_int_equal(scene.reg.share_fd(scene.reg.ctx), -ENOENT);
	wait_for(scene.memctx == 1);
	a = scene.reg.share_fd(scene.reg.ctx);
	b = scene.reg.share_fd(scene.reg.ctx);
	assert_true(a >= 0 && b >= 0 && a != b);
	assert_int_equal(fcntl(a, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(fcntl(b, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
	/* Of its own open file description: no offset is shared. */
	assert_int_equal(lseek(a, 100, SEEK_SET), 100);
	assert_int_equal(lseek(b, 0, SEEK_CUR), 0);
	assert_int_equal(write(a, "x", 1), -1);
	assert_int_equal(read(b, &byte, 1), 1);
	close(a);
	close(b);
}

static void the_file_may_come_late(void **state)
{
	start_given();
	wait_for(scene.state == VMSIG_STATE_GONE);
	assert_non_null(strstr(scene.detail, scene.ram));
	/* First as QEMU makes it, then of a size that is too small, then whole. */
	ram_create(scene.ram, 0);
	wait_for(strstr(scene.detail, "empty"));
	assert_int_equal(truncate(scene.ram, SIZE / 2), 0);
	wait_for(strstr(scene.detail, "low"));
	assert_int_equal(scene.state, VMSIG_STATE_GONE);
	assert_int_equal(truncate(scene.ram, SIZE), 0);
	wait_for(scene.memctx == 1);
	assert_int_equal(scene.epoch, 1);
	assert_int_equal(scene.invalidated, 0);
}

static void a_replaced_file_ends_the_session(void **state)
{
	char session[VMSIG_SESSION_MAX];

	ram_create(scene.ram, SIZE);
	start_given();
	wait_for(scene.memctx == 1);
	memcpy(session, scene.facts.session, sizeof(session));
	ram_replace(SIZE);
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.invalidated, 1);
	assert_int_equal(scene.pod.epoch, 2);
	assert_string_not_equal(session, scene.facts.session);
}

static void a_shrunk_file_ends_the_session(void **state)
{
	ram_create(scene.ram, SIZE);
	start_given();
	wait_for(scene.memctx == 1);
	assert_int_equal(truncate(scene.ram, SIZE - 4096), 0);
	wait_for(scene.invalidated == 1 && scene.state == VMSIG_STATE_GONE);
	assert_int_equal(scene.reg.share_fd(scene.reg.ctx), -ENOENT);
	assert_int_equal(truncate(scene.ram, SIZE), 0);
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.invalidated, 1);
}

static void a_removed_file_may_come_back(void **state)
{
	ram_create(scene.ram, SIZE);
	start_given();
	wait_for(scene.memctx == 1);
	assert_int_equal(unlink(scene.ram), 0);
	wait_for(scene.invalidated == 1 && scene.state == VMSIG_STATE_GONE);
	ram_create(scene.ram, SIZE);
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.invalidated, 1);
}

/* One change is one epoch, however long the core takes to ask. */
static void a_session_ends_once(void **state)
{
	ram_create(scene.ram, SIZE);
	start_given();
	wait_for(scene.memctx == 1);
	scene.deaf = true;
	assert_int_equal(unlink(scene.ram), 0);
	wait_for(scene.invalidated == 1);
	turn_for(QUIET_MS);
	assert_int_equal(scene.invalidated, 1);
	assert_int_equal(scene.memctx, 1);
	scene.deaf = false;
	wait_for(scene.state == VMSIG_STATE_GONE);
}

static void nothing_is_done_before_the_core_asks(void **state)
{
	ram_create(scene.ram, SIZE);
	scene.deaf = true;
	start_given();
	turn_for(QUIET_MS);
	assert_int_equal(scene.found, 0);
	scene.deaf = false;
	wait_for(scene.memctx == 1);
	assert_int_equal(scene.pod.epoch, 1);
}

static void a_kernel_is_found(void **state)
{
	struct stat before, after;

	start_found();
	assert_int_equal(scene.pod.kcr3, kernel.root);
	assert_int_equal(
		scene.pod.flags, VMSIG_MEMCTX_RDONLY | VMSIG_MEMCTX_SPARSE | VMSIG_MEMCTX_LA57);
	assert_int_equal(stat(scene.ram, &before), 0);
	turn_for(QUIET_MS);
	assert_int_equal(stat(scene.ram, &after), 0);
	assert_int_equal(before.st_blocks, after.st_blocks);
	assert_int_equal(scene.invalidated, 0);
	assert_int_equal(scene.memctx, 1);
}

static void a_kernel_may_come_late(void **state)
{
	ram_create(scene.ram, IMAGE_SIZE);
	scene.config.low = IMAGE_SIZE;
	adapter_start();
	wait_for(scene.state == VMSIG_STATE_BOOTING && strstr(scene.detail, "no kernel"));
	ram_put_kernels(&kernel, &next_kernel);
	wait_for(strstr(scene.detail, "2 kernels"));
	assert_int_equal(scene.memctx, 0);
	ram_put_kernels(&kernel, NULL);
	wait_for(scene.memctx == 1);
	assert_int_equal(scene.epoch, 1);
}

static void an_overwritten_kernel_ends_the_session(void **state)
{
	start_found();
	ram_put_kernels(NULL, NULL);
	wait_for(scene.invalidated == 1);
	wait_for(scene.state == VMSIG_STATE_BOOTING && strstr(scene.detail, "no kernel"));
	ram_put_kernels(&next_kernel, NULL);
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.pod.kcr3, next_kernel.root);
	assert_int_equal(scene.pod.epoch, 2);
	assert_false(scene.pod.flags & VMSIG_MEMCTX_LA57);
}

/* A bootstrap that belongs to an older epoch is dropped, not delivered. */
static void an_epoch_that_ends_during_a_scan_is_not_served(void **state)
{
	ram_create(scene.ram, IMAGE_SIZE);
	scene.config.low = IMAGE_SIZE;
	ram_put_kernels(&kernel, NULL);
	adapter_start();
	for (unsigned i = 0; i < 4; i++) {
		scene.epoch++;
		scene.reg.invalidate(scene.reg.ctx, scene.epoch);
	}
	scene.asked = false;
	wait_for(scene.memctx == 1);
	assert_int_equal(scene.pod.epoch, 5);
	turn_for(QUIET_MS);
	assert_int_equal(scene.memctx, 1);
}

/* ---- several files ---- */

/* A hole, then a file with a kernel in it, then a hole: the kernel's file is at 0 in the guest,
 * what lies before and behind it is high up. */
static void parts_create(void)
{
	static vmsig_memseg segs[] = {{.gpa = 0, .len = IMAGE_SIZE, .file_off = SIZE},
		{.gpa = 1ull << 32, .len = SIZE, .file_off = 0},
		{.gpa = 1ull << 33, .len = SIZE, .file_off = SIZE + IMAGE_SIZE}};

	for (size_t i = 0; i < 3; i++) {
		snprintf(scene.parts[i], sizeof(scene.parts[i]), "%s/part%zu", scene.dir, i);
		scene.files_of[i] = scene.parts[i];
		ram_create(scene.parts[i], i == 1 ? IMAGE_SIZE : SIZE);
	}
	memcpy(scene.ram, scene.parts[1], sizeof(scene.ram));
	ram_put_kernels(&kernel, NULL);
	scene.config.path = NULL;
	scene.config.files = scene.files_of;
	scene.config.nfiles = 3;
	scene.config.low = 0;
	scene.config.segs = segs;
	scene.config.nseg = 3;
}

static blkcnt_t blocks_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_blocks;
}

static void several_files_are_served_as_one(void **state)
{
	uint64_t sizes[VMSIG_MEMFILES_MAX];
	int fds[VMSIG_MEMFILES_MAX];

	parts_create();
	adapter_start();
	wait_for(scene.memctx == 1);
	assert_int_equal(scene.pod.kcr3, kernel.root);
	assert_int_equal(scene.pod.nseg, 3);
	assert_int_equal(scene.facts.files, 3);
	assert_int_equal(scene.facts.bytes, IMAGE_SIZE + 2 * SIZE);
	/* The search has not made anything of the holes. */
	assert_int_equal(blocks_of(scene.parts[0]), 0);
	assert_int_equal(blocks_of(scene.parts[2]), 0);
	assert_int_equal(scene.reg.share_fd(scene.reg.ctx), -EOPNOTSUPP);
	assert_int_equal(scene.files.share(scene.files.ctx, fds, sizes), 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(fcntl(fds[i], F_GETFL) & O_ACCMODE, O_RDONLY);
		assert_int_equal(sizes[i], i == 1 ? IMAGE_SIZE : SIZE);
		close(fds[i]);
	}
}

static void each_of_several_files_may_end_the_session(void **state)
{
	char session[VMSIG_SESSION_MAX];

	parts_create();
	adapter_start();
	wait_for(scene.memctx == 1);
	memcpy(session, scene.facts.session, sizeof(session));
	assert_true(strlen(session) < VMSIG_SESSION_MAX - 1);
	assert_int_equal(truncate(scene.parts[2], SIZE / 2), 0);
	wait_for(scene.invalidated == 1 && scene.state == VMSIG_STATE_GONE);
	assert_non_null(strstr(scene.detail, "the files behind it"));
	assert_int_equal(truncate(scene.parts[2], SIZE), 0);
	wait_for(scene.memctx == 2);
	assert_string_equal(session, scene.facts.session);
	/* Another file, of the same size. */
	ram_create(scene.other, SIZE);
	assert_int_equal(rename(scene.other, scene.parts[0]), 0);
	wait_for(scene.memctx == 3);
	assert_string_not_equal(session, scene.facts.session);
}

static void lies_about_several_files_are_told(void **state)
{
	parts_create();
	/* Twice the same one, by another name. */
	assert_int_equal(unlink(scene.parts[2]), 0);
	assert_int_equal(link(scene.parts[0], scene.parts[2]), 0);
	adapter_start();
	wait_for(scene.state == VMSIG_STATE_GONE &&
		 (strstr(scene.detail, "the same file") || strstr(scene.detail, "link")));
	/* No whole pages, with another one behind it. */
	assert_int_equal(unlink(scene.parts[2]), 0);
	ram_create(scene.parts[2], SIZE);
	assert_int_equal(truncate(scene.parts[0], SIZE - 1), 0);
	wait_for(strstr(scene.detail, "no multiple"));
	/* One that is not there. */
	assert_int_equal(truncate(scene.parts[0], SIZE), 0);
	assert_int_equal(unlink(scene.parts[2]), 0);
	wait_for(strstr(scene.detail, scene.parts[2]));
	ram_create(scene.parts[2], SIZE);
	wait_for(scene.memctx == 1);
	assert_int_equal(scene.epoch, 1);
}

/* The three below end in teardown(), which counts descriptors; a sanitizer counts memory. */
static void it_stops_before_the_file_exists(void **state)
{
	adapter_start();
	wait_for(scene.state == VMSIG_STATE_GONE);
}

static void it_stops_at_once(void **state)
{
	ram_create(scene.ram, SIZE);
	start_given();
}

static void it_stops_during_a_scan(void **state)
{
	ram_create(scene.ram, IMAGE_SIZE);
	scene.config.low = IMAGE_SIZE;
	ram_put_kernels(&kernel, NULL);
	adapter_start();
	scene.asked = false;
	scene.reg.invalidate(scene.reg.ctx, scene.epoch);
	assert_int_equal(scene.memctx, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_given_root_is_served_low),
		TEST(a_given_root_is_served_in_segments),
		TEST(each_descriptor_is_a_new_read_only_one),
		TEST(the_file_may_come_late),
		TEST(a_replaced_file_ends_the_session),
		TEST(a_shrunk_file_ends_the_session),
		TEST(a_removed_file_may_come_back),
		TEST(a_session_ends_once),
		TEST(nothing_is_done_before_the_core_asks),
		TEST(a_kernel_is_found),
		TEST(a_kernel_may_come_late),
		TEST(an_overwritten_kernel_ends_the_session),
		TEST(an_epoch_that_ends_during_a_scan_is_not_served),
		TEST(several_files_are_served_as_one),
		TEST(each_of_several_files_may_end_the_session),
		TEST(lies_about_several_files_are_told),
		TEST(it_stops_before_the_file_exists),
		TEST(it_stops_at_once),
		TEST(it_stops_during_a_scan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
