/* SPDX-License-Identifier: Apache-2.0 */
/* The note of how far a broker had come, and notes that somebody else has planted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/store/watermark.h"
#include "vmsig/vmsig_error.h"

#define STRANGER 65534

static char folder[64], path[80];

static int setup(void **state)
{
	strcpy(folder, "/tmp/vmsig-watermark-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/ctx.sock.mark", folder);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	return rmdir(folder);
}

static void note(uint32_t epoch)
{
	const struct watermark mark = {.epoch = epoch, .total = epoch};
	struct watermark_file file;

	assert_int_equal(watermark_open(&file, path), 0);
	assert_int_equal(watermark_write(&file, &mark), 0);
	watermark_close(&file);
}

static struct watermark what_is_noted(void)
{
	struct watermark_file file;
	struct watermark mark;

	assert_int_equal(watermark_open(&file, path), 0);
	watermark_read(&file, &mark);
	watermark_close(&file);
	return mark;
}

static void a_note_is_found_again(void **state)
{
	note(7);
	assert_int_equal(what_is_noted().epoch, 7);
	assert_false(what_is_noted().behind);
}

static void one_broker_has_it(void **state)
{
	struct watermark_file file, other;

	assert_int_equal(watermark_open(&file, path), 0);
	assert_int_equal(watermark_open(&other, path), VMSIG_ERR_BUSY);
	watermark_close(&file);
}

static void what_others_can_write_is_not_believed(void **state)
{
	struct stat st;

	note(UINT32_MAX);
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(what_is_noted().epoch, 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

/* Nor may it keep the broker from starting. */
static void what_a_stranger_has_made_is_replaced(void **state)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct stat st;
	int fd;

	if (geteuid() != 0)
		skip();
	note(UINT32_MAX);
	assert_int_equal(chown(path, STRANGER, STRANGER), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(what_is_noted().epoch, 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, 0);
	close(fd);
}

static void what_is_no_file_is_replaced(void **state)
{
	struct stat st;

	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(what_is_noted().epoch, 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/nonexistent", path), 0);
	assert_int_equal(what_is_noted().epoch, 0);
	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_true(watermark_open(&(struct watermark_file){0}, path) < 0);
	assert_int_equal(rmdir(path), 0);
}

/* A state directory that was given to the broker's user is that user's. */
static void the_folders_owner_is_believed(void **state)
{
	if (geteuid() != 0)
		skip();
	note(9);
	assert_int_equal(chown(path, STRANGER, STRANGER), 0);
	assert_int_equal(chown(folder, STRANGER, STRANGER), 0);
	assert_int_equal(what_is_noted().epoch, 9);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_note_is_found_again),
		T(one_broker_has_it),
		T(what_others_can_write_is_not_believed),
		T(what_a_stranger_has_made_is_replaced),
		T(what_is_no_file_is_replaced),
		T(the_folders_owner_is_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
