/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/path.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES_MAX 255u /* NAME_MAX */
#define STEPS_MAX 256u      /* names and mounts of one path */
#define FS_NAME_MAX 32u

/* A path is made from its end. */
struct path {
	char *text;
	size_t at;
};

static void prepend(struct linux_kernel *kernel, struct path *path, const char *text, size_t len)
{
	if (len > path->at) {
		linux_torn(kernel);
		return;
	}
	path->at -= len;
	memcpy(path->text + path->at, text, len);
}

/* The dentry's own name; "" is one too. */
static size_t name_of(
	struct linux_kernel *kernel, uint64_t dentry, char ret_name[static NAME_BYTES_MAX + 1])
{
	uint64_t len = linux_get(kernel, dentry, LINUX_DENTRY_NAME_LEN);
	uint64_t name = linux_get(kernel, dentry, LINUX_DENTRY_NAME);

	if (len > NAME_BYTES_MAX) {
		linux_torn(kernel);
		len = 0;
	}
	if (len)
		linux_read(kernel, name, ret_name, len);
	ret_name[len] = 0;
	if (strlen(ret_name) != len)
		linux_torn(kernel);
	return len;
}

static void prepend_name(struct linux_kernel *kernel, struct path *path, uint64_t dentry)
{
	char name[NAME_BYTES_MAX + 1];

	prepend(kernel, path, name, name_of(kernel, dentry, name));
	prepend(kernel, path, "/", 1);
}

/* File systems whose files have no place in the tree, and how each is called. */
static bool is_nameless(
	struct linux_kernel *kernel, uint64_t dentry, char ret_path[static LINUX_PATH_MAX])
{
	static const struct {
		const char *type, *shown;
	} types[] = {{"pipefs", "pipe"}, {"sockfs", "socket"}, {"pidfs", "pidfd"}, {"nsfs", NULL},
		{"anon_inodefs", NULL}};
	char type[FS_NAME_MAX], name[NAME_BYTES_MAX + 1];
	uint64_t sb = linux_get(kernel, dentry, LINUX_DENTRY_SB);
	uint64_t fs = linux_get(kernel, sb, LINUX_SB_TYPE), number;

	linux_text(kernel, linux_get(kernel, fs, LINUX_FS_NAME), type, sizeof(type));
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(types[i].type, type) != 0)
			continue;
		number = linux_get(
			kernel, linux_get(kernel, dentry, LINUX_DENTRY_INODE), LINUX_INODE_NUMBER);
		name_of(kernel, dentry, name);
		if (strcmp(type, "anon_inodefs") == 0)
			snprintf(ret_path, LINUX_PATH_MAX, "anon_inode:%s", name);
		else
			snprintf(ret_path, LINUX_PATH_MAX, "%s:[%" PRIu64 "]",
				types[i].shown ? types[i].shown
				: name[0]      ? name
					       : "ns",
				number);
		return true;
	}
	return false;
}

/* From the file up to the root of all mounts. */
static void climb(
	struct linux_kernel *kernel, struct path *path, uint64_t dentry, uint64_t vfsmount)
{
	uint64_t into = kernel->fields.field[LINUX_MOUNT_VFSMOUNT].offset;
	uint64_t mount = vfsmount - into, root = linux_get(kernel, vfsmount, LINUX_VFSMOUNT_ROOT);

	for (unsigned i = 0; i < STEPS_MAX && !kernel->fault; i++) {
		uint64_t parent = linux_get(kernel, dentry, LINUX_DENTRY_PARENT);

		if (dentry == root) {
			parent = linux_get(kernel, mount, LINUX_MOUNT_PARENT);
			if (!parent || parent == mount)
				return;
			dentry = linux_get(kernel, mount, LINUX_MOUNT_POINT);
			mount = parent;
			root = linux_get(kernel, mount + into, LINUX_VFSMOUNT_ROOT);
		} else if (parent == dentry) {
			return;
		} else {
			prepend_name(kernel, path, dentry);
			dentry = parent;
		}
	}
	linux_torn(kernel);
}

void linux_path_of(struct linux_kernel *kernel, uint64_t dentry, uint64_t vfsmount,
	char ret_path[static LINUX_PATH_MAX])
{
	static const enum linux_field needed[] = {LINUX_MOUNT_VFSMOUNT, LINUX_VFSMOUNT_ROOT};
	struct path path = {.text = ret_path, .at = LINUX_PATH_MAX - 1};
	bool is_root;

	linux_need(kernel, needed, sizeof(needed) / sizeof(needed[0]));
	is_root = dentry == linux_get(kernel, vfsmount, LINUX_VFSMOUNT_ROOT);

	ret_path[0] = 0;
	if (!kernel->fault && is_nameless(kernel, dentry, ret_path))
		return;
	ret_path[path.at] = 0;
	if (!is_root && !linux_get(kernel, dentry, LINUX_DENTRY_HASHED))
		prepend(kernel, &path, " (deleted)", strlen(" (deleted)"));
	climb(kernel, &path, dentry, vfsmount);
	/* A file of a mount that the kernel keeps to itself has a name, and no parent. */
	if (ret_path[path.at] != '/' && is_root)
		prepend(kernel, &path, "/", 1);
	else if (ret_path[path.at] != '/')
		prepend_name(kernel, &path, dentry);
	memmove(ret_path, ret_path + path.at, LINUX_PATH_MAX - path.at);
	if (kernel->fault)
		ret_path[0] = 0;
}

void linux_path(struct linux_kernel *kernel, uint64_t file, char ret_path[static LINUX_PATH_MAX])
{
	uint64_t dentry = linux_get(kernel, file, LINUX_FILE_DENTRY);

	linux_path_of(kernel, dentry, linux_get(kernel, file, LINUX_FILE_MNT), ret_path);
}
