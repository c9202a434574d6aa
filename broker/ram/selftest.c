/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROBE_SIZE 4096

/* Each attack returns true when it got the file open for writing. They are the ones that a
 * holder without the broker's privileges, or root in a namespace of its own, would try on
 * the descriptor alone. tests/e2e/attack.c has the full list, from outside. */

static bool attack_reopen(int fd)
{
	char path[64];
	int w;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	w = open(path, O_RDWR | O_CLOEXEC);
	if (w >= 0)
		close(w);
	return w >= 0;
}

static bool attack_chmod(int fd)
{
	return fchmod(fd, 0666) == 0;
}

static bool attack_clear_flag(int fd)
{
	struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY};

	return mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0;
}

static bool attack_clone(int fd)
{
	struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY};
	int tree = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	bool won;

	if (tree < 0)
		return false;
	won = mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0;
	close(tree);
	return won;
}

static bool attack_mapping(int fd)
{
	char path[96];
	bool won = false;
	void *map = mmap(NULL, PROBE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	int w;

	if (map == MAP_FAILED)
		return false;
	won = mprotect(map, PROBE_SIZE, PROT_READ | PROT_WRITE) == 0;
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)map,
		(unsigned long)map + PROBE_SIZE);
	w = open(path, O_RDWR | O_CLOEXEC);
	if (w >= 0)
		close(w);
	munmap(map, PROBE_SIZE);
	return won || w >= 0;
}

static const struct {
	const char *name;
	bool (*won)(int fd);
} attacks[] = {
	{"re-opening the descriptor", attack_reopen},
	{"fchmod", attack_chmod},
	{"clearing the mount's read-only flag", attack_clear_flag},
	{"cloning the mount", attack_clone},
	{"its own mapping", attack_mapping},
};

static const char *attack_all(int fd)
{
	for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		if (attacks[i].won(fd))
			return attacks[i].name;
	}
	return NULL;
}

static int probe_create(const char *dir, char path[static PATH_MAX])
{
	int fd, r = 0;

	if (snprintf(path, PATH_MAX, "%s/.vmsig-selftest-XXXXXX", dir) >= PATH_MAX)
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* hugetlbfs rounds up to its page size only when told a multiple of it; any size that
	 * is not zero will do there, and the mapping attack then fails by itself. */
	if (ftruncate(fd, PROBE_SIZE) < 0)
		r = -errno;
	close(fd);
	if (r < 0)
		unlink(path);
	return r;
}

int ram_selftest(const char *dir, enum vmsig_guard *ret_guard, char *report, size_t report_size)
{
	char path[PATH_MAX], why[256];
	const char *won;
	struct ram *ram;
	int fd = -1, r;

	r = probe_create(dir, path);
	if (r < 0) {
		snprintf(report, report_size, "cannot create a probe file in %s: %s", dir,
			strerror(-r));
		return r;
	}
	r = ram_open_path(&ram, path, why, sizeof(why));
	unlink(path);
	if (r) {
		snprintf(report, report_size, "%s", why);
		return r < 0 ? r : -EINVAL;
	}
	*ret_guard = ram_guard(ram);
	if (*ret_guard != VMSIG_GUARD_RO_MOUNT) {
		snprintf(report, report_size,
			"%s: no read-only mount clone (it needs CAP_SYS_ADMIN and Linux 5.12); "
			"files there are guarded by their mode only",
			dir);
		goto out;
	}
	fd = ram_share(ram);
	won = fd < 0 ? "opening it (nothing could be tried)" : attack_all(fd);
	if (won)
		*ret_guard = VMSIG_GUARD_NONE;
	snprintf(report, report_size,
		won ? "%s: read-only mount clone defeated by %s"
		    : "%s: read-only mount clone withstands every attack%s",
		dir, won ? won : "");
out:
	if (fd >= 0)
		close(fd);
	ram_free(ram);
	return 0;
}
