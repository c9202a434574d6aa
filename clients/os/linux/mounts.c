/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/mounts.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/grow.h"
#include "clients/os/linux/path.h"
#include "clients/os/linux/ring.h"
#include "clients/os/linux/task.h"
#include "vmsig/vmsig_error.h"

#define MNT_READONLY 0x40u /* include/linux/mount.h */
#define SB_RDONLY 0x1u     /* include/linux/fs.h */

struct mounts_walk {
	const vmsig_proc *process;
	vmsig_mount_list *list;
};

void linux_mounts_clear(vmsig_mount_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free((char *)(uintptr_t)list->mounts[i].path);
		free((char *)(uintptr_t)list->mounts[i].source);
	}
	list->count = 0;
}

static int append(vmsig_mount_list *list, vmsig_mount *mount, const char *path, const char *source)
{
	vmsig_mount *mounts = grow_array(list->mounts, list->count, sizeof(*mounts));
	char *path_copy = strdup(path), *source_copy = strdup(source);

	list->mounts = mounts ? mounts : list->mounts;
	if (!mounts || !path_copy || !source_copy) {
		free(path_copy);
		free(source_copy);
		return VMSIG_ERR_NO_MEMORY;
	}
	mount->path = path_copy;
	mount->source = source_copy;
	mounts[list->count++] = *mount;
	return 0;
}

static int take(struct linux_kernel *kernel, uint64_t object, vmsig_mount_list *list)
{
	char path[LINUX_PATH_MAX], source[LINUX_PATH_MAX];
	vmsig_mount mount = {.object = object};
	uint64_t vfsmount = linux_at(kernel, object, LINUX_MOUNT_VFSMOUNT);
	uint64_t sb = linux_get(kernel, vfsmount, LINUX_VFSMOUNT_SB);
	uint64_t type = linux_get(kernel, sb, LINUX_SB_TYPE);
	uint64_t name = linux_get(kernel, object, LINUX_MOUNT_DEVNAME);

	mount.read_only = (linux_get(kernel, vfsmount, LINUX_VFSMOUNT_FLAGS) & MNT_READONLY) ||
			  (linux_get(kernel, sb, LINUX_SB_FLAGS) & SB_RDONLY);
	linux_text(kernel, linux_get(kernel, type, LINUX_FS_NAME), mount.type, sizeof(mount.type));
	source[0] = 0;
	if (name)
		linux_text(kernel, name, source, sizeof(source));
	linux_path_of(kernel, linux_get(kernel, vfsmount, LINUX_VFSMOUNT_ROOT), vfsmount, path);
	if (kernel->fault || !linux_room(kernel, sizeof(mount) + strlen(path) + strlen(source)))
		return 0;
	return append(list, &mount, path, source);
}

/* Those that are mounted on it, behind what the list has. */
static int take_children(struct linux_kernel *kernel, uint64_t parent, vmsig_mount_list *list)
{
	struct linux_ring ring =
		linux_ring(kernel, linux_at(kernel, parent, LINUX_MOUNT_MOUNTS), LINUX_MOUNT_CHILD);
	uint64_t object;
	int r = 0;

	while (!r && linux_ring_next(&ring, &object)) {
		/* A tree whose branches meet again would never end. */
		if (list->count == LINUX_MOUNTS_MAX ||
			linux_get(kernel, object, LINUX_MOUNT_PARENT) != parent)
			linux_torn(kernel);
		else
			r = take(kernel, object, list);
	}
	return r;
}

/* From the process' root on, as /proc has them. That of its namespace may be below it, where the
 * process does not get: from 7.0 on it is an empty file system. */
static int walk(struct linux_kernel *kernel, void *ctx)
{
	static const enum linux_field needed[] = {LINUX_TASK_FS, LINUX_FS_ROOT_MNT,
		LINUX_MOUNT_MOUNTS, LINUX_MOUNT_CHILD, LINUX_MOUNT_DEVNAME, LINUX_VFSMOUNT_SB,
		LINUX_VFSMOUNT_FLAGS, LINUX_SB_FLAGS};
	const struct mounts_walk *mounts = ctx;
	uint64_t fs;
	int r;

	linux_mounts_clear(mounts->list);
	linux_need(kernel, needed, sizeof(needed) / sizeof(needed[0]));
	fs = linux_get(kernel, mounts->process->object, LINUX_TASK_FS);
	if (kernel->fault || !fs) /* of what has ended */
		return kernel->fault ? 0 : VMSIG_ERR_GONE;
	r = take(kernel,
		linux_get(kernel, fs, LINUX_FS_ROOT_MNT) -
			kernel->fields.field[LINUX_MOUNT_VFSMOUNT].offset,
		mounts->list);
	for (size_t i = 0; i < mounts->list->count && !r && !kernel->fault; i++)
		r = take_children(kernel, mounts->list->mounts[i].object, mounts->list);
	return r;
}

int linux_mounts_list(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_mount_list *ret_list)
{
	struct mounts_walk mounts = {.process = process, .list = ret_list};
	int r = linux_task_is(kernel, process);

	if (!r)
		r = linux_walk(kernel, walk, &mounts, &ret_list->partial);
	return r ? r : linux_task_is(kernel, process);
}
