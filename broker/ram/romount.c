/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/romount.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

int romount_open(int folder)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
	int tree, fd;

	tree = open_tree(folder, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return -errno;
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0) {
		fd = -errno;
		goto out;
	}
	fd = openat(tree, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
out:
	/* Closing dissolves the clone; `fd` keeps only the mount itself alive. */
	close(tree);
	return fd;
}
