/* SPDX-License-Identifier: Apache-2.0 */
/* RAM files that somebody hands over, who may lie about them. */
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
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/ram/claims.h"
#include "broker/ram/ram.h"
#include "vmsig/vmsig_error.h"

#define SIZE (64u * 1024)

static int memfd(unsigned flags, off_t size)
{
	int fd = memfd_create("given", MFD_CLOEXEC | flags);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

static int reopened(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, flags | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int given(struct ram **ret_ram, int fd, uid_t giver)
{
	char error[256] = "";
	int r = ram_open_given(ret_ram, fd, "RAM file 1", giver, error, sizeof(error));

	assert_true(!r == !error[0]);
	return r;
}

/* Takes over the descriptor. */
static void refused(int fd, const char *words)
{
	struct ram *ram = NULL;
	char error[256] = "";

	assert_true(fd >= 0);
	assert_int_equal(ram_open_given(&ram, fd, "RAM file 1", getuid(), error, sizeof(error)),
		VMSIG_ERR_BAD_REQUEST);
	assert_non_null(strstr(error, words));
	assert_null(ram);
	close(fd);
}

static void what_is_no_file_in_memory_is_refused(void **state)
{
	char path[] = "/tmp/vmsig-given-XXXXXX";
	int pair[2], pipes[2], fd = mkstemp(path);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	refused(pair[0], "no file in memory");
	refused(pipes[0], "no file in memory");
	refused(open("/dev/zero", O_RDWR | O_CLOEXEC), "no file in memory");
	refused(open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "");
	refused(open("/proc/self/status", O_RDONLY | O_CLOEXEC), "no file in memory");
	refused(memfd(0, 0), "is empty");
	close(pair[1]);
	close(pipes[1]);
	assert_true(fd >= 0);
	unlink(path);
	close(fd);
}

static void a_descriptor_that_cannot_read_is_refused(void **state)
{
	int fd = memfd(0, SIZE);

	refused(reopened(fd, O_WRONLY), "cannot be read");
	refused(reopened(fd, O_PATH), "no file in memory");
	close(fd);
}

static void only_who_may_write_gives_a_write_path(void **state)
{
	int fd = memfd(0, SIZE), reader = reopened(fd, O_RDONLY), writable;
	struct ram *ram;

	assert_int_equal(given(&ram, reader, getuid() + 1), 0);
	assert_int_equal(ram_open_writable(ram), -EACCES);
	ram_free(ram);
	assert_int_equal(given(&ram, fd, getuid() + 1), 0);
	writable = ram_open_writable(ram);
	assert_true(writable >= 0);
	assert_int_equal(pwrite(writable, "x", 1, 0), 1);
	close(writable);
	ram_free(ram);
	close(reader);
	close(fd);
}

/* Holders get what they can read and nothing else, however it was given. */
static void what_is_shared_cannot_write(void **state)
{
	int fd = memfd(0, SIZE), shared;
	struct ram *ram;

	assert_int_equal(given(&ram, fd, getuid()), 0);
	assert_int_equal(ram_guard(ram), VMSIG_GUARD_MODE);
	shared = ram_share(ram);
	assert_true(shared >= 0);
	assert_int_equal(fcntl(shared, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_ptr_equal(mmap(NULL, SIZE, PROT_WRITE, MAP_SHARED, shared, 0), MAP_FAILED);
	close(shared);
	ram_free(ram);
	close(fd);
}

/* The mode is the owner's, who is not whoever has a descriptor. */
static void anothers_file_keeps_its_mode(void **state)
{
	int fd = memfd(0, SIZE);
	struct stat before, after;
	struct ram *ram;

	assert_int_equal(fstat(fd, &before), 0);
	assert_int_equal(given(&ram, fd, getuid() + 1), 0);
	assert_int_equal(fstat(fd, &after), 0);
	assert_int_equal(after.st_mode, before.st_mode);
	assert_int_equal(ram_guard(ram), VMSIG_GUARD_NONE);
	ram_free(ram);
	close(fd);
}

static void seals_are_the_strongest_guard(void **state)
{
	int fd = memfd(MFD_ALLOW_SEALING, SIZE);
	struct ram *ram;

	assert_int_equal(
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE), 0);
	assert_int_equal(given(&ram, fd, getuid()), 0);
	assert_int_equal(ram_guard(ram), VMSIG_GUARD_SEALED);
	ram_free(ram);
	close(fd);
}

static void one_that_shrinks_is_found(void **state)
{
	int fd = memfd(0, SIZE);
	struct ram *ram;

	assert_int_equal(given(&ram, fd, getuid()), 0);
	assert_int_equal(ram_check(ram), RAM_SAME);
	assert_int_equal(ftruncate(fd, 2 * SIZE), 0);
	assert_int_equal(ram_check(ram), RAM_SAME);
	assert_int_equal(ftruncate(fd, SIZE / 2), 0);
	assert_int_equal(ram_check(ram), RAM_SHRUNK);
	ram_free(ram);
	close(fd);
}

/* Who was given a guest's RAM to read has it nobody's way. */
static void who_may_only_read_gives_way(void **state)
{
	int fd = memfd(0, SIZE), reader = reopened(fd, O_RDONLY);
	struct claims claims = {0};
	struct claim lent = {0}, again = {0}, own = {0};
	struct ram *borrowed, *other, *ram;

	assert_int_equal(given(&borrowed, reader, getuid() + 1), 0);
	assert_int_equal(given(&other, reader, getuid() + 2), 0);
	assert_int_equal(given(&ram, fd, getuid() + 3), 0);
	assert_true(ram_is_borrowed(borrowed));
	assert_false(ram_is_borrowed(ram));
	assert_null(claim_take(&lent, &claims, borrowed, "lent"));
	assert_string_equal(claim_take(&again, &claims, other, "again"), "lent");
	assert_true(claim_holds(&lent));
	assert_null(claim_take(&own, &claims, ram, "own"));
	assert_false(claim_holds(&lent));
	assert_string_equal(claim_take(&lent, &claims, borrowed, "lent"), "own");
	assert_true(claim_holds(&own));
	claim_drop(&own);
	assert_null(claims.taken);
	ram_free(borrowed);
	ram_free(other);
	ram_free(ram);
	close(reader);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_file_in_memory_is_refused),
		cmocka_unit_test(a_descriptor_that_cannot_read_is_refused),
		cmocka_unit_test(only_who_may_write_gives_a_write_path),
		cmocka_unit_test(what_is_shared_cannot_write),
		cmocka_unit_test(anothers_file_keeps_its_mode),
		cmocka_unit_test(seals_are_the_strongest_guard),
		cmocka_unit_test(one_that_shrinks_is_found),
		cmocka_unit_test(who_may_only_read_gives_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
