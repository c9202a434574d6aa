/* SPDX-License-Identifier: Apache-2.0 */
/* Several RAM files as one: what is said of all, who has them, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/ram/attack.h"
#include "broker/ram/beneath.h"
#include "broker/ram/ramset.h"
#include "proto/guest/physmap.h"
#include "vmsig/vmsig_error.h"

#define PAGE 4096u
#define FILES 3

struct lab {
	char dir[64];
	char paths[FILES][96];
	struct ram *rams[FILES];
	struct ramset *set;
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

static struct ram *ram_of(struct lab *lab, const char *path)
{
	struct ram *ram = NULL;

	if (ram_open_path(&ram, path, BENEATH_ANYBODY, lab->error, sizeof(lab->error)))
		fail_msg("%s: %s", path, lab->error);
	return ram;
}

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	strcpy(lab->dir, "/dev/shm/vmsig-set-XXXXXX");
	assert_non_null(mkdtemp(lab->dir));
	for (size_t i = 0; i < FILES; i++) {
		snprintf(lab->paths[i], sizeof(lab->paths[i]), "%s/%zu", lab->dir, i);
		file_create(lab->paths[i], (off_t)((i + 1) * PAGE), 0600);
		lab->rams[i] = ram_of(lab, lab->paths[i]);
	}
	assert_int_equal(
		ramset_new(&lab->set, lab->rams, FILES, lab->error, sizeof(lab->error)), 0);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	ramset_free(lab->set);
	for (size_t i = 0; i < FILES; i++)
		unlink(lab->paths[i]);
	rmdir(lab->dir);
	free(lab);
	return 0;
}

static void they_lie_end_to_end(void **state)
{
	static const vmsig_memseg segs[] = {
		{0, PAGE, 3 * PAGE}, {PAGE, PAGE, 0}, {1ull << 32, 2 * PAGE, 4 * PAGE}};
	struct lab *lab = *state;
	struct physmap map;
	char text[8] = "";
	int fd = open(lab->paths[2], O_WRONLY | O_CLOEXEC);

	assert_int_equal(ramset_count(lab->set), FILES);
	assert_int_equal(ramset_start(lab->set, 2), 3 * PAGE);
	assert_int_equal(ramset_size(lab->set), 6 * PAGE);
	assert_int_equal(physmap_init(&map, segs, 3, ramset_size(lab->set)), 0);
	assert_int_equal(pwrite(fd, "abc", 3, PAGE - 3), 3);
	close(fd);
	fd = open(lab->paths[0], O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "def", 3, 0), 3);
	close(fd);
	/* Over the border of two segments, which are in two files. */
	assert_int_equal(ramset_read_gpa(lab->set, &map, PAGE - 3, text, 6), 0);
	assert_string_equal(text, "abcdef");
	assert_int_equal(
		ramset_read_gpa(lab->set, &map, 2 * PAGE - 1, text, 2), VMSIG_ERR_OUT_OF_RANGE);
	physmap_deinit(&map);
}

/* Each of them is attacked as a single one is. */
static void every_file_is_handed_out_read_only(void **state)
{
	struct lab *lab = *state;
	uint64_t sizes[VMSIG_MEMFILES_MAX];
	int fds[VMSIG_MEMFILES_MAX];
	struct stat st;

	assert_int_equal(ramset_share(lab->set, fds, sizes), FILES);
	for (size_t i = 0; i < FILES; i++) {
		assert_int_equal(fcntl(fds[i], F_GETFL) & O_ACCMODE, O_RDONLY);
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
		assert_int_equal(sizes[i], (i + 1) * PAGE);
		assert_int_equal(fstat(fds[i], &st), 0);
		assert_int_equal(st.st_ino, ram_inode(ramset_file(lab->set, i)));
		assert_int_equal(write(fds[i], "x", 1), -1);
		if (ramset_guard(lab->set) == VMSIG_GUARD_RO_MOUNT)
			assert_null(ram_attack(fds[i]));
		close(fds[i]);
	}
	assert_int_equal(ramset_share_writable(lab->set, fds, sizes), FILES);
	for (size_t i = 0; i < FILES; i++) {
		assert_int_equal(pwrite(fds[i], "x", 1, 0), 1);
		close(fds[i]);
	}
}

static void the_guard_is_the_weakest_one(void **state)
{
	struct lab *lab = *state;
	enum vmsig_guard all = VMSIG_GUARD_SEALED;

	for (size_t i = 0; i < FILES; i++) {
		enum vmsig_guard one = ram_guard(ramset_file(lab->set, i));

		all = one < all ? one : all;
	}
	assert_int_equal(ramset_guard(lab->set), all);
	/* One that has lost its file's protection speaks for all. */
	lab->set = ramset_free(lab->set);
	if (all < VMSIG_GUARD_MODE)
		skip();
	for (size_t i = 0; i < FILES; i++)
		lab->rams[i] = ram_of(lab, lab->paths[i]);
	assert_int_equal(chmod(lab->paths[1], 0666), 0);
	ram_free(lab->rams[1]);
	lab->rams[1] = ram_of(lab, lab->paths[1]);
	assert_int_equal(
		ramset_new(&lab->set, lab->rams, FILES, lab->error, sizeof(lab->error)), 0);
	assert_int_equal(ramset_guard(lab->set), ram_guard(lab->rams[1]));
}

static void each_file_has_one_endpoint(void **state)
{
	struct lab *lab = *state;
	struct claims claims = {0};
	struct ramset *other = NULL;
	struct ram *two[2];

	assert_null(ramset_claim(lab->set, &claims, "vm1"));
	assert_null(ramset_claim(lab->set, &claims, "vm1"));
	/* Another one that has the last of them gets none. */
	file_create(lab->paths[0], PAGE, 0600);
	two[0] = ram_of(lab, lab->paths[1]);
	two[1] = ram_of(lab, lab->paths[2]);
	assert_int_equal(ramset_new(&other, two, 2, lab->error, sizeof(lab->error)), 0);
	assert_string_equal(ramset_claim(other, &claims, "vm2"), "vm1");
	lab->set = ramset_free(lab->set);
	assert_null(ramset_claim(other, &claims, "vm2"));
	ramset_free(other);
	assert_null(claims.taken);
}

/* Of somebody who may only read it, and is not its owner. */
static struct ram *borrowed_of(struct lab *lab, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct ram *ram = NULL;

	assert_true(fd >= 0);
	if (ram_open_given(&ram, fd, path, getuid() + 1, lab->error, sizeof(lab->error)))
		fail_msg("%s: %s", path, lab->error);
	close(fd);
	assert_true(ram_is_borrowed(ram));
	return ram;
}

static void who_cannot_have_all_takes_nothing(void **state)
{
	struct lab *lab = *state;
	struct claims claims = {0};
	struct claim lent = {0}, own = {0};
	struct ram *borrowed = borrowed_of(lab, lab->paths[0]), *last = ram_of(lab, lab->paths[2]);

	assert_null(claim_take(&lent, &claims, borrowed, "lent"));
	assert_null(claim_take(&own, &claims, last, "own"));
	assert_string_equal(ramset_claim(lab->set, &claims, "vm1"), "own");
	assert_true(claim_holds(&lent));
	assert_true(claim_holds(&own));
	claim_drop(&own);
	assert_null(ramset_claim(lab->set, &claims, "vm1"));
	assert_false(claim_holds(&lent));
	lab->set = ramset_free(lab->set);
	assert_null(claims.taken);
	ram_free(borrowed);
	ram_free(last);
}

static void the_worst_change_counts(void **state)
{
	struct lab *lab = *state;

	assert_int_equal(ramset_check(lab->set), RAM_SAME);
	assert_int_equal(unlink(lab->paths[0]), 0);
	assert_int_equal(ramset_check(lab->set), RAM_MISSING);
	assert_int_equal(unlink(lab->paths[1]), 0);
	file_create(lab->paths[1], 2 * PAGE, 0600);
	assert_int_equal(ramset_check(lab->set), RAM_REPLACED);
	assert_int_equal(truncate(lab->paths[2], PAGE), 0);
	assert_int_equal(ramset_check(lab->set), RAM_SHRUNK);
}

static void expect_refusal(struct lab *lab, struct ram *const *files, size_t n, const char *words)
{
	struct ramset *set = NULL;

	assert_int_equal(
		ramset_new(&set, files, n, lab->error, sizeof(lab->error)), VMSIG_ERR_BAD_REQUEST);
	assert_null(set);
	assert_non_null(strstr(lab->error, words));
}

static void what_cannot_be_one_is_refused(void **state)
{
	struct lab *lab = *state;
	struct ram *twice[FILES] = {lab->rams[0], lab->rams[1], ram_of(lab, lab->paths[0])};
	char path[100];

	expect_refusal(lab, twice, FILES, "RAM files 1 and 3 are the same file");
	ram_free(twice[2]);
	snprintf(path, sizeof(path), "%s/odd", lab->dir);
	file_create(path, PAGE + 1, 0600);
	twice[0] = ram_of(lab, path);
	expect_refusal(lab, twice, 2, "no multiple");
	ram_free(twice[0]);
	unlink(path);
}

static void fingerprints_tell_sets_apart(void **state)
{
	struct lab *lab = *state;
	struct ramset *two = NULL;
	struct ram *files[2] = {ram_of(lab, lab->paths[0]), ram_of(lab, lab->paths[1])};

	assert_int_equal(ramset_new(&two, files, 2, lab->error, sizeof(lab->error)), 0);
	assert_true(ramset_digest(two) != ramset_digest(lab->set));
	ramset_free(two);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(they_lie_end_to_end),
		TEST(every_file_is_handed_out_read_only),
		TEST(the_guard_is_the_weakest_one),
		TEST(each_file_has_one_endpoint),
		TEST(who_cannot_have_all_takes_nothing),
		TEST(the_worst_change_counts),
		TEST(what_cannot_be_one_is_refused),
		TEST(fingerprints_tell_sets_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
