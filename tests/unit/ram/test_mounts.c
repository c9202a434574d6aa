/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of mounts while they come and go, and what it costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/ram/mounts.h"

#define ROUNDS 50
#define LOOKS 1000

static char dir[] = "/run/vmsig-mounts-XXXXXX";

/* Mounts of its own, which vanish with it. */
static int setup(void **state)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
		mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	return rmdir(dir);
}

static uint64_t id_of(int fd)
{
	struct statx stx;

	assert_int_equal(statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &stx), 0);
	return stx.stx_mnt_id;
}

/* The kernel gives the id of a mount that has gone to the next one. */
static void a_mount_is_what_it_is_now(void **state)
{
	static const char *const types[] = {"tmpfs", "ramfs"};
	uint64_t first = 0;
	unsigned again = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		char type[MOUNTS_TYPE_MAX];
		int fd;

		assert_int_equal(mount("none", dir, types[i % 2], 0, NULL), 0);
		fd = open(dir, O_PATH | O_CLOEXEC);
		assert_true(fd >= 0);
		first = first ? first : id_of(fd);
		again += id_of(fd) == first;
		assert_int_equal(mounts_type_of_id(id_of(fd), type), 0);
		assert_string_equal(type, types[i % 2]);
		close(fd);
		assert_int_equal(umount(dir), 0);
	}
	print_message("the first one's id was that of %u of %u\n", again, ROUNDS);
}

static void a_mount_that_has_gone_is_none(void **state)
{
	char type[MOUNTS_TYPE_MAX];
	uint64_t id;
	int fd;

	assert_int_equal(mount("none", dir, "tmpfs", 0, NULL), 0);
	fd = open(dir, O_PATH | O_CLOEXEC);
	assert_true(fd >= 0);
	id = id_of(fd);
	assert_int_equal(mounts_type_of_id(id, type), 0);
	close(fd);
	assert_int_equal(umount(dir), 0);
	assert_int_equal(mounts_type_of_id(id, type), -ENOENT);
}

static void another_namespace_has_its_own(void **state)
{
	char type[MOUNTS_TYPE_MAX];
	int fd = open("/", O_PATH | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(mounts_type_of_id(id_of(fd), type), 0);
	close(fd);
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	fd = open("/", O_PATH | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(mounts_type_of_id(id_of(fd), type), 0);
	close(fd);
}

/* Bytes that this process has read until now. */
static unsigned long read_bytes(void)
{
	FILE *file = fopen("/proc/self/io", "re");
	unsigned long bytes = 0;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "rchar: %lu", &bytes), 1);
	fclose(file);
	return bytes;
}

static void nothing_is_read_again_while_no_mount_comes_or_goes(void **state)
{
	char type[MOUNTS_TYPE_MAX];
	int fd = open("/", O_PATH | O_CLOEXEC);
	unsigned long before;

	assert_true(fd >= 0);
	assert_int_equal(mounts_type_of_id(id_of(fd), type), 0);
	before = read_bytes();
	for (unsigned i = 0; i < LOOKS; i++)
		assert_int_equal(mounts_type_of_id(id_of(fd), type), 0);
	/* A line has 30 bytes at least; to look how many were read takes some hundred. */
	assert_true(read_bytes() - before < LOOKS);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mount_is_what_it_is_now),
		cmocka_unit_test(a_mount_that_has_gone_is_none),
		cmocka_unit_test(another_namespace_has_its_own),
		cmocka_unit_test(nothing_is_read_again_while_no_mount_comes_or_goes),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
