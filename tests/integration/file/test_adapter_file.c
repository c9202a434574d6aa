/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter `file` with RAM in one file. */
#include "tests/integration/file/scene.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

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
		TEST(it_stops_before_the_file_exists),
		TEST(it_stops_at_once),
		TEST(it_stops_during_a_scan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
