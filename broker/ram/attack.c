/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/attack.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/guest/span.h"

/* Each returns true when it could have written. */

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
	struct stat st;

	if (fstat(fd, &st) < 0 || fchmod(fd, 0666) < 0)
		return false;
	/* It worked, which is the answer; the mode itself is not ours to change. */
	(void)!fchmod(fd, st.st_mode & 07777);
	return true;
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

/* A whole page of the file's: less of a huge one can be neither protected nor unmapped. None has to
 * be free for it, as nothing is touched. */
static bool attack_mapping(int fd)
{
	size_t size = (size_t)span_page_size(fd);
	char path[96];
	bool won = false;
	void *map = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	int w;

	if (map == MAP_FAILED)
		return false;
	won = mprotect(map, size, PROT_READ | PROT_WRITE) == 0;
	snprintf(path, sizeof(path), "/proc/self/map_files/%" PRIxPTR "-%" PRIxPTR, (uintptr_t)map,
		(uintptr_t)map + (uintptr_t)size);
	w = open(path, O_RDWR | O_CLOEXEC);
	if (w >= 0)
		close(w);
	munmap(map, size);
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

const char *ram_attack(int fd)
{
	for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		if (attacks[i].won(fd))
			return attacks[i].name;
	}
	return NULL;
}
