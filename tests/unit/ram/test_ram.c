/* SPDX-License-Identifier: Apache-2.0 */
/* RAM files under their guards, attacked. */
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
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/ram/beneath.h"
#include "broker/ram/mapper.h"
#include "broker/ram/ram.h"
#include "broker/ram/romount.h"
#include "proto/guest/span.h"
#include "vmsig/vmsig_error.h"

#define SIZE (64u * 1024)

/* As the broker reads it. */
static int ram_read(const struct ram *ram, uint64_t off, void *buf, size_t len)
{
	const uint64_t size = ram_size(ram);
	const int fd = ram_fd(ram);
	struct span span;
	int r;

	assert_int_equal(span_init(&span, &fd, &size, 1), 0);
	r = span_pread(&span, off, buf, len);
	span_deinit(&span);
	return r;
}

struct lab {
	char dir[64];
	char path[96];
	char error[256];
};

static void file_create(const char *path, off_t size, mode_t mode)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	strcpy(lab->dir, "/dev/shm/vmsig-test-XXXXXX");
	assert_non_null(mkdtemp(lab->dir));
	snprintf(lab->path, sizeof(lab->path), "%s/ram", lab->dir);
	file_create(lab->path, SIZE, 0666);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	unlink(lab->path);
	rmdir(lab->dir);
	free(lab);
	return 0;
}

static bool mount_clones_work(const char *dir)
{
	int folder = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = romount_open(folder);

	close(folder);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static struct ram *ram_of(struct lab *lab)
{
	struct ram *ram = NULL;

	if (ram_open_path(&ram, lab->path, BENEATH_ANYBODY, lab->error, sizeof(lab->error)))
		fail_msg("%s", lab->error);
	return ram;
}

static int reopen_writable(int fd)
{
	char path[64];
	int w;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	w = open(path, O_RDWR | O_CLOEXEC);
	if (w < 0)
		return -errno;
	close(w);
	return 0;
}

static void a_shared_descriptor_cannot_be_made_writable(void **state)
{
	struct lab *lab = *state;
	struct ram *ram = ram_of(lab);
	int fd = ram_share(ram);

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_ptr_equal(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(errno, EACCES);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(errno, EBADF);
	if (mount_clones_work(lab->dir)) {
		assert_int_equal(ram_guard(ram), VMSIG_GUARD_RO_MOUNT);
		assert_int_equal(reopen_writable(fd), -EROFS);
		assert_int_equal(fchmod(fd, 0666), -1);
		assert_int_equal(errno, EROFS);
	} else {
		assert_int_equal(ram_guard(ram), VMSIG_GUARD_MODE);
	}
	close(fd);
	ram_free(ram);
}

static void each_share_is_its_own_description(void **state)
{
	struct ram *ram = ram_of(*state);
	int a = ram_share(ram), b = ram_share(ram);

	assert_true(a >= 0 && b >= 0);
	assert_int_equal(lseek(a, 100, SEEK_SET), 100);
	assert_int_equal(lseek(b, 0, SEEK_CUR), 0);
	assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
	close(a);
	close(b);
	ram_free(ram);
}

static void the_mode_is_narrowed(void **state)
{
	struct lab *lab = *state;
	struct ram *ram = ram_of(lab);
	struct stat st;

	assert_int_equal(stat(lab->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(ram_owner(ram), geteuid());
	ram_free(ram);
}

static void the_write_plane_gets_a_writable_description(void **state)
{
	struct ram *ram = ram_of(*state);
	char byte = 0;
	int fd = ram_open_writable(ram);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "x", 1, 10), 1);
	assert_int_equal(ram_read(ram, 10, &byte, 1), 0);
	assert_int_equal(byte, 'x');
	close(fd);
	ram_free(ram);
}

static void changes_of_the_file_are_noticed(void **state)
{
	struct lab *lab = *state;
	struct ram *ram = ram_of(lab);
	char other[128];

	assert_int_equal(ram_check(ram), RAM_SAME);
	snprintf(other, sizeof(other), "%s.new", lab->path);
	file_create(other, SIZE, 0600);
	assert_int_equal(rename(other, lab->path), 0);
	assert_int_equal(ram_check(ram), RAM_REPLACED);
	assert_int_equal(unlink(lab->path), 0);
	assert_int_equal(ram_check(ram), RAM_MISSING);
	ram_free(ram);

	file_create(lab->path, SIZE, 0600);
	ram = ram_of(lab);
	assert_int_equal(truncate(lab->path, SIZE / 2), 0);
	assert_int_equal(ram_check(ram), RAM_SHRUNK);
	ram_free(ram);
}

static void reads_end_at_the_end_of_the_file(void **state)
{
	struct lab *lab = *state;
	struct ram *ram = ram_of(lab);
	char buf[16];

	assert_int_equal(ram_read(ram, SIZE - 16, buf, 16), 0);
	assert_int_equal(ram_read(ram, SIZE - 15, buf, 16), VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(ram_read(ram, UINT64_MAX, buf, 16), VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(truncate(lab->path, 4096), 0);
	assert_int_equal(ram_read(ram, 8192, buf, 16), VMSIG_ERR_OUT_OF_RANGE);
	ram_free(ram);
}

static void what_is_no_ram_file_is_refused(void **state)
{
	struct lab *lab = *state;
	struct ram *ram = NULL;

	assert_int_equal(
		ram_open_path(&ram, lab->dir, BENEATH_ANYBODY, lab->error, sizeof(lab->error)),
		VMSIG_ERR_BAD_REQUEST);
	assert_non_null(strstr(lab->error, lab->dir));
	assert_int_equal(ram_open_path(&ram, "/nonexistent/ram", BENEATH_ANYBODY, lab->error,
				 sizeof(lab->error)),
		-ENOENT);
	assert_int_equal(truncate(lab->path, 0), 0);
	assert_int_equal(
		ram_open_path(&ram, lab->path, BENEATH_ANYBODY, lab->error, sizeof(lab->error)),
		VMSIG_ERR_BAD_REQUEST);
	assert_null(ram);
}

/* A link could lead out of the read-only view, so the view is made where the file is. */
static void a_link_of_the_administrators_leads_to_the_files_own_directory(void **state)
{
	char dir[] = "/run/vmsig-test-XXXXXX", link[128];
	struct lab *lab = *state;
	struct ram *ram = NULL;
	int fd;

	/* Only root has a folder that nobody else has a say in. */
	if (!mkdtemp(dir))
		skip();
	snprintf(link, sizeof(link), "%s/link", dir);
	assert_int_equal(symlink(lab->path, link), 0);
	assert_int_equal(
		ram_open_path(&ram, link, BENEATH_ANYBODY, lab->error, sizeof(lab->error)), 0);
	fd = ram_share(ram);
	assert_true(fd >= 0);
	if (ram_guard(ram) == VMSIG_GUARD_RO_MOUNT)
		assert_int_equal(reopen_writable(fd), -EROFS);
	close(fd);
	ram_free(ram);
	unlink(link);
	rmdir(dir);
}

/* Maps `fd` and opens it as what this process maps. */
static struct ram *mapped_of(
	struct lab *lab, struct mapper *mapper, void *at, uint64_t offset, uint64_t size)
{
	const struct mapping_wanted wanted = {
		.hva = (uintptr_t)at, .hva_offset = offset, .offset = offset, .size = size};
	struct ram *ram = NULL;

	if (ram_open_mapped(&ram, mapper, &wanted, lab->error, sizeof(lab->error)))
		fail_msg("%s", lab->error);
	return ram;
}

static struct mapper *this_process(struct lab *lab)
{
	struct mapper *mapper = NULL;

	if (mapper_of_pid(&mapper, getpid(), lab->error, sizeof(lab->error)))
		fail_msg("%s", lab->error);
	return mapper;
}

static void *map_shared(int fd)
{
	void *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(at, MAP_FAILED);
	return at;
}

static int memfd_make(void)
{
	int fd = memfd_create("vmsig-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	return fd;
}

static void a_sealed_memfd_is_sealed_and_a_plain_one_has_its_mode(void **state)
{
	struct lab *lab = *state;
	struct mapper *mapper = this_process(lab);
	int sealed = memfd_make(), plain = memfd_make();
	void *a = map_shared(sealed), *b = map_shared(plain);
	struct ram *ram;
	struct stat st;

	/* Our mapping was there before, as QEMU's would be. */
	assert_int_equal(fcntl(sealed, F_ADD_SEALS,
				 F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
		0);
	ram = mapped_of(lab, mapper, a, 0, SIZE);
	assert_int_equal(ram_guard(ram), VMSIG_GUARD_SEALED);
	ram_free(ram);

	ram = mapped_of(lab, mapper, b, 0, SIZE);
	assert_int_equal(ram_guard(ram), VMSIG_GUARD_MODE);
	assert_int_equal(fstat(plain, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0400);
	assert_int_equal(ram_check(ram), RAM_SAME);
	assert_int_equal(ftruncate(plain, SIZE / 2), 0);
	assert_int_equal(ram_check(ram), RAM_SHRUNK);
	ram_free(ram);
	munmap(a, SIZE);
	munmap(b, SIZE);
	close(sealed);
	close(plain);
	mapper_unref(mapper);
}

/* QEMU made it as root and gave that up since (-runas): its uid says nothing, and yet a file
 * without a name is for whoever has it in hand. */
static void a_file_without_a_name_is_narrowed_whoever_made_it(void **state)
{
	struct lab *lab = *state;
	struct mapper *mapper = this_process(lab);
	int fd = memfd_make();
	void *at = map_shared(fd);
	struct ram *ram;
	struct stat st;

	if (fchown(fd, 12345, (gid_t)-1) < 0)
		skip();
	ram = mapped_of(lab, mapper, at, 0, SIZE);
	assert_int_equal(ram_guard(ram), VMSIG_GUARD_MODE);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0400);
	ram_free(ram);
	munmap(at, SIZE);
	close(fd);
	mapper_unref(mapper);
}

/* RAM is what is mapped, whatever became of its name. */
static void a_mapped_file_needs_no_name(void **state)
{
	struct lab *lab = *state;
	struct mapper *mapper = this_process(lab);
	int fd = open(lab->path, O_RDWR | O_CLOEXEC);
	void *at = map_shared(fd);
	struct ram *ram;
	char moved[128], byte;

	close(fd);
	memcpy(at, "x", 1);
	snprintf(moved, sizeof(moved), "%s.moved", lab->path);
	assert_int_equal(rename(lab->path, moved), 0);
	file_create(lab->path, SIZE, 0600);
	ram = mapped_of(lab, mapper, at, 0, SIZE);
	assert_int_equal(ram_read(ram, 0, &byte, 1), 0);
	assert_int_equal(byte, 'x');
	assert_int_equal(ram_guard(ram),
		mount_clones_work(lab->dir) ? VMSIG_GUARD_RO_MOUNT : VMSIG_GUARD_MODE);
	assert_int_equal(unlink(moved), 0);
	assert_int_equal(ram_check(ram), RAM_SAME);
	ram_free(ram);

	ram = mapped_of(lab, mapper, at, 0, SIZE);
	assert_int_equal(ram_guard(ram), VMSIG_GUARD_MODE);
	munmap(at, SIZE);
	assert_int_equal(ram_check(ram), RAM_UNMAPPED);
	ram_free(ram);
	mapper_unref(mapper);
}

static void the_self_test_says_what_holds(void **state)
{
	struct lab *lab = *state;
	enum vmsig_guard guard = VMSIG_GUARD_NONE;

	assert_int_equal(ram_selftest(lab->dir, &guard, lab->error, sizeof(lab->error)), 0);
	assert_int_equal(
		guard, mount_clones_work(lab->dir) ? VMSIG_GUARD_RO_MOUNT : VMSIG_GUARD_MODE);
	assert_non_null(strstr(lab->error, lab->dir));
	assert_int_equal(
		ram_selftest("/nonexistent", &guard, lab->error, sizeof(lab->error)), -ENOENT);
}

static unsigned mappings_of(const char *name)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned n = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		n += strstr(line, name) != NULL;
	fclose(maps);
	return n;
}

/* Its pages are unmapped as they were mapped, whole: what stays mapped is memory that the guest's
 * end does not free. No page has to be free. */
static void huge_pages_are_attacked_and_let_go(void **state)
{
	struct lab *lab = *state;
	enum vmsig_guard guard = VMSIG_GUARD_NONE;
	struct ram *ram;

	/* The mount ends with this process. */
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", lab->dir, "hugetlbfs", 0, "pagesize=2M") < 0)
		skip();
	file_create(lab->path, 2 << 20, 0600);
	ram = ram_of(lab);
	assert_int_equal(ram_page_size(ram), 2u << 20);
	assert_int_equal(mappings_of(lab->dir), 0);
	if (ram_selftest(lab->dir, &guard, lab->error, sizeof(lab->error)))
		fail_msg("%s", lab->error);
	assert_int_equal(guard, ram_guard(ram));
	assert_int_equal(mappings_of("selftest"), 0);
	ram_free(ram);
	assert_int_equal(umount(lab->dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_shared_descriptor_cannot_be_made_writable, setup, teardown),
		cmocka_unit_test_setup_teardown(each_share_is_its_own_description, setup, teardown),
		cmocka_unit_test_setup_teardown(the_mode_is_narrowed, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_write_plane_gets_a_writable_description, setup, teardown),
		cmocka_unit_test_setup_teardown(changes_of_the_file_are_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(reads_end_at_the_end_of_the_file, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_no_ram_file_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_link_of_the_administrators_leads_to_the_files_own_directory, setup,
			teardown),
		cmocka_unit_test_setup_teardown(a_mapped_file_needs_no_name, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_file_without_a_name_is_narrowed_whoever_made_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_sealed_memfd_is_sealed_and_a_plain_one_has_its_mode, setup, teardown),
		cmocka_unit_test_setup_teardown(the_self_test_says_what_holds, setup, teardown),
		cmocka_unit_test_setup_teardown(
			huge_pages_are_attacked_and_let_go, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
