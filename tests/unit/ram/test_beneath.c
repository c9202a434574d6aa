/* SPDX-License-Identifier: Apache-2.0 */
/* What the configuration names, where others may write to the folders on the way. */
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
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/ram/beneath.h"
#include "vmsig/vmsig_error.h"

#define EVIL 3002   /* owns a folder of its own, and has a say in what is in there */
#define VICTIM 3001 /* somebody else */

static struct lab {
	char dir[64]; /* root's own */
	char error[512];
} lab;

/* A path in the lab, in one of a few buffers. */
__attribute__((format(printf, 1, 2))) static const char *in(const char *format, ...)
{
	static char paths[4][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 4];
	int n = snprintf(path, PATH_MAX, "%s/", lab.dir);
	va_list args;

	va_start(args, format);
	vsnprintf(path + n, PATH_MAX - (size_t)n, format, args);
	va_end(args);
	return path;
}

static void folder(const char *path, uid_t owner, mode_t mode)
{
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chown(path, owner, owner), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void file(const char *path, uid_t owner)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);

	assert_true(fd >= 0);
	assert_int_equal(fchown(fd, owner, owner), 0);
	close(fd);
}

/* Only root can make other people's files, and /run is nobody else's. */
static int setup(void **state)
{
	strcpy(lab.dir, "/run/vmsig-test-XXXXXX");
	if (geteuid() != 0 || !mkdtemp(lab.dir)) {
		lab.dir[0] = '\0';
		return 0;
	}
	assert_int_equal(chmod(lab.dir, 0755), 0);
	folder(in("ours"), 0, 0755);
	folder(in("evil"), EVIL, 0755);
	folder(in("shared"), 0, 0777);
	folder(in("sticky"), 0, 01777);
	file(in("secret"), 0);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	if (!lab.dir[0])
		return 0;
	snprintf(command, sizeof(command), "rm -r %s", lab.dir);
	return system(command);
}

static int try(const char *path, uid_t owner)
{
	struct beneath place;
	int r;

	lab.error[0] = '\0';
	r = beneath_open(&place, path, owner, lab.error, sizeof(lab.error));
	if (!r)
		beneath_close(&place);
	else
		assert_true(lab.error[0]);
	return r;
}

static void opens(const char *path, uid_t owner)
{
	if (try(path, owner))
		fail_msg("%s", lab.error);
}

static void is_refused(const char *path, uid_t owner, const char *because)
{
	assert_int_equal(try(path, owner), VMSIG_ERR_BAD_REQUEST);
	if (!strstr(lab.error, because))
		fail_msg("'%s' does not say '%s'", lab.error, because);
}

static void names_in_our_own_folders_are_ours(void **state)
{
	struct beneath place;
	struct stat st, direct;

	file(in("ours/web1"), VICTIM);
	assert_int_equal(symlink("web1", in("ours/near")), 0);
	assert_int_equal(symlink(in("ours/near"), in("far")), 0);
	assert_int_equal(symlink("loop", in("ours/loop")), 0);
	opens(in("ours/web1"), BENEATH_ANYBODY);
	opens(in("ours/../ours//./near"), BENEATH_ANYBODY);
	opens(in("far"), BENEATH_ANYBODY);
	assert_int_equal(try(in("ours/loop"), BENEATH_ANYBODY), -ELOOP);
	assert_int_equal(try(in("ours/nothing"), BENEATH_ANYBODY), -ENOENT);
	assert_int_equal(try(in("secret/web1"), BENEATH_ANYBODY), -ENOTDIR);

	assert_int_equal(
		beneath_open(&place, in("far"), BENEATH_ANYBODY, lab.error, sizeof(lab.error)), 0);
	assert_string_equal(place.name, "web1");
	assert_int_equal(fstat(place.file, &st), 0);
	assert_int_equal(stat(in("ours/web1"), &direct), 0);
	assert_int_equal(st.st_ino, direct.st_ino);
	assert_int_equal(fstat(place.folder, &st), 0);
	assert_int_equal(stat(in("ours"), &direct), 0);
	assert_int_equal(st.st_ino, direct.st_ino);
	beneath_close(&place);
}

static void a_planted_link_is_not_followed(void **state)
{
	assert_int_equal(symlink(in("secret"), in("evil/web1")), 0);
	assert_int_equal(symlink(in("ours"), in("evil/sub")), 0);
	file(in("ours/web1"), 0);
	is_refused(in("evil/web1"), BENEATH_ANYBODY, "symbolic link");
	is_refused(in("evil/web1"), EVIL, "symbolic link");
	is_refused(in("evil/sub/web1"), BENEATH_ANYBODY, "'sub' is a symbolic link");
	is_refused(in("evil/../secret"), BENEATH_ANYBODY, "'..'");

	/* Nor one that an honest link of ours leads to. */
	assert_int_equal(symlink(in("evil/web1"), in("ours/link")), 0);
	is_refused(in("ours/link"), BENEATH_ANYBODY, "symbolic link");
}

static void a_file_in_a_foreign_folder_is_its_owners(void **state)
{
	file(in("evil/own"), EVIL);
	file(in("evil/roots"), 0);
	file(in("evil/victims"), VICTIM);
	opens(in("evil/own"), BENEATH_ANYBODY);
	is_refused(in("evil/roots"), BENEATH_ANYBODY, "owner: 0");
	is_refused(in("evil/victims"), BENEATH_ANYBODY, "owner: 3001");
	is_refused(in("evil/victims"), EVIL, "owner: 3001");
	opens(in("evil/victims"), VICTIM);
}

/* Where protected_hardlinks is off, anybody can give anybody's file another name. */
static void a_hard_link_is_not_taken(void **state)
{
	file(in("evil/own"), EVIL);
	assert_int_equal(link(in("evil/own"), in("evil/again")), 0);
	is_refused(in("evil/again"), BENEATH_ANYBODY, "hard links");
	assert_int_equal(link(in("secret"), in("sticky/web1")), 0);
	is_refused(in("sticky/web1"), BENEATH_ANYBODY, "hard links");
}

static void in_a_folder_for_all_owners_count(void **state)
{
	file(in("shared/victims"), VICTIM);
	file(in("shared/roots"), 0);
	is_refused(in("shared/victims"), BENEATH_ANYBODY, "owner: 3001");
	opens(in("shared/victims"), VICTIM);
	opens(in("shared/roots"), BENEATH_ANYBODY);

	file(in("sticky/victims"), VICTIM);
	file(in("sticky/roots"), 0);
	is_refused(in("sticky/victims"), BENEATH_ANYBODY, "owner: 3001");
	opens(in("sticky/victims"), VICTIM);
	opens(in("sticky/roots"), BENEATH_ANYBODY);
}

/* Behind a folder of theirs, one of ours may be any of ours. */
static void a_foreign_folder_spoils_what_is_below(void **state)
{
	folder(in("evil/sub"), 0, 0755);
	file(in("evil/sub/roots"), 0);
	file(in("evil/sub/victims"), VICTIM);
	assert_int_equal(symlink("roots", in("evil/sub/link")), 0);
	opens(in("evil/sub/roots"), BENEATH_ANYBODY);
	is_refused(in("evil/sub/victims"), BENEATH_ANYBODY, "owner: 3001");
	is_refused(in("evil/sub/link"), BENEATH_ANYBODY, "symbolic link");
}

static void a_file_system_of_others_is_not_entered(void **state)
{
	folder(in("mount"), 0, 0755);
	/* Stands for all that is neither memory nor a local disk. */
	if (mount("proc", in("mount"), "proc", 0, NULL) < 0)
		skip();
	is_refused(in("mount/version"), BENEATH_ANYBODY, "(proc)");
	assert_int_equal(umount(in("mount")), 0);
	opens(in("secret"), BENEATH_ANYBODY);
	assert_int_equal(mount("tmpfs", in("mount"), "tmpfs", 0, "mode=755"), 0);
	file(in("mount/web1"), 0);
	opens(in("mount/web1"), BENEATH_ANYBODY);
	assert_int_equal(umount(in("mount")), 0);
}

static void folders_are_opened_by_the_same_rules(void **state)
{
	int fd = -1;

	assert_int_equal(symlink(in("ours"), in("evil/sub")), 0);
	assert_int_equal(beneath_open_folder(&fd, in("evil"), lab.error, sizeof(lab.error)), 0);
	close(fd);
	assert_int_equal(beneath_open_folder(&fd, "/", lab.error, sizeof(lab.error)), 0);
	close(fd);
	assert_int_equal(beneath_open_folder(&fd, in("evil/sub"), lab.error, sizeof(lab.error)),
		VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(
		beneath_open_folder(&fd, in("secret"), lab.error, sizeof(lab.error)), -ENOTDIR);
}

static void what_procfs_shows_is_no_ram(void **state)
{
	struct beneath place;

	assert_int_equal(beneath_open(&place, "/proc/self/exe", BENEATH_ANYBODY, lab.error,
				 sizeof(lab.error)),
		VMSIG_ERR_BAD_REQUEST);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest any[] = {
		cmocka_unit_test(what_procfs_shows_is_no_ram),
	};
	const struct CMUnitTest tests[] = {
		TEST(names_in_our_own_folders_are_ours),
		TEST(a_planted_link_is_not_followed),
		TEST(a_file_in_a_foreign_folder_is_its_owners),
		TEST(a_hard_link_is_not_taken),
		TEST(in_a_folder_for_all_owners_count),
		TEST(a_foreign_folder_spoils_what_is_below),
		TEST(a_file_system_of_others_is_not_entered),
		TEST(folders_are_opened_by_the_same_rules),
	};

	if (geteuid() != 0)
		return cmocka_run_group_tests(any, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
