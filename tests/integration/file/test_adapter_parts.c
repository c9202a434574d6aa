/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter `file` with RAM in several files. */
#include "tests/integration/file/scene.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(several_files_are_served_as_one),
		TEST(each_of_several_files_may_end_the_session),
		TEST(lies_about_several_files_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
