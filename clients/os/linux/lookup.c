/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/lookup.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "clients/os/linux/cache.h"
#include "clients/os/linux/path.h"
#include "clients/os/linux/ring.h"
#include "clients/os/linux/task.h"
#include "vmsig/vmsig_error.h"

#define NAME_BYTES_MAX 255u   /* NAME_MAX */
#define LINKS_MAX 40u         /* MAXSYMLINKS of the kernel */
#define CHILDREN_MAX 1000000u /* names in one folder */
#define MOUNTS_OVER_MAX 64u   /* one on another, in one place */

struct lookup {
	struct linux_kernel *kernel;
	uint64_t root, root_mount;
	uint64_t dentry, mount;
	char rest[2 * LINUX_PATH_MAX]; /* what is still to be found */
	unsigned links;
};

/* ---- one folder ---- */

static bool is_called(struct linux_kernel *kernel, uint64_t dentry, const char *name, size_t len)
{
	char own[NAME_BYTES_MAX];

	/* Most differ in their length; one that is unhashed was deleted. */
	if (linux_get(kernel, dentry, LINUX_DENTRY_NAME_LEN) != len ||
		!linux_get(kernel, dentry, LINUX_DENTRY_HASHED))
		return false;
	linux_read(kernel, linux_get(kernel, dentry, LINUX_DENTRY_NAME), own, len);
	return !kernel->fault && memcmp(own, name, len) == 0 &&
	       linux_get(kernel, dentry, LINUX_DENTRY_INODE);
}

/* To 6.7 names of a folder are in a ring. */
static uint64_t find_in_ring(
	struct linux_kernel *kernel, uint64_t folder, const char *name, size_t len)
{
	struct linux_ring ring = linux_ring(
		kernel, linux_at(kernel, folder, LINUX_DENTRY_SUBDIRS), LINUX_DENTRY_CHILD);
	uint64_t dentry;

	ring.left = CHILDREN_MAX;
	while (linux_ring_next(&ring, &dentry)) {
		if (is_called(kernel, dentry, name, len))
			return dentry;
	}
	return 0;
}

/* From 6.8 on in a list that ends. */
static uint64_t find_in_list(
	struct linux_kernel *kernel, uint64_t folder, const char *name, size_t len)
{
	uint64_t node = linux_get(kernel, folder, LINUX_DENTRY_CHILDREN);

	for (unsigned i = 0; node && !kernel->fault; i++) {
		uint64_t dentry = node - kernel->fields.field[LINUX_DENTRY_SIB].offset;

		if (i == CHILDREN_MAX)
			linux_torn(kernel);
		if (is_called(kernel, dentry, name, len))
			return dentry;
		node = linux_get(kernel, dentry, LINUX_DENTRY_SIB);
	}
	return 0;
}

static uint64_t find(struct linux_kernel *kernel, uint64_t folder, const char *name, size_t len)
{
	if (linux_has(kernel, LINUX_DENTRY_SUBDIRS))
		return find_in_ring(kernel, folder, name, len);
	return find_in_list(kernel, folder, name, len);
}

/* ---- mounts ---- */

static uint64_t mounted_root(struct linux_kernel *kernel, uint64_t mount)
{
	return linux_get(
		kernel, linux_at(kernel, mount, LINUX_MOUNT_VFSMOUNT), LINUX_VFSMOUNT_ROOT);
}

static bool cross_one(struct lookup *lookup)
{
	struct linux_kernel *kernel = lookup->kernel;
	struct linux_ring ring = linux_ring(
		kernel, linux_at(kernel, lookup->mount, LINUX_MOUNT_MOUNTS), LINUX_MOUNT_CHILD);
	uint64_t mount;

	while (linux_ring_next(&ring, &mount)) {
		if (linux_get(kernel, mount, LINUX_MOUNT_POINT) != lookup->dentry)
			continue;
		lookup->mount = mount;
		lookup->dentry = mounted_root(kernel, mount);
		return !kernel->fault;
	}
	return false;
}

static void cross(struct lookup *lookup)
{
	for (unsigned i = 0; cross_one(lookup); i++) {
		if (i == MOUNTS_OVER_MAX)
			linux_torn(lookup->kernel);
	}
}

/* Up, from the root of a mount to where that is. */
static void go_up(struct lookup *lookup)
{
	struct linux_kernel *kernel = lookup->kernel;

	for (unsigned i = 0; i < MOUNTS_OVER_MAX; i++) {
		uint64_t parent = linux_get(kernel, lookup->mount, LINUX_MOUNT_PARENT);

		if (lookup->dentry == lookup->root && lookup->mount == lookup->root_mount)
			return;
		if (lookup->dentry != mounted_root(kernel, lookup->mount)) {
			lookup->dentry = linux_get(kernel, lookup->dentry, LINUX_DENTRY_PARENT);
			return;
		}
		lookup->dentry = linux_get(kernel, lookup->mount, LINUX_MOUNT_POINT);
		lookup->mount = parent;
	}
}

/* ---- links ---- */

static int read_link(struct linux_kernel *kernel, uint64_t inode, char ret_text[LINUX_PATH_MAX])
{
	/* Short ones have it in memory of their own, others in a page. */
	uint64_t text = linux_get(kernel, inode, LINUX_INODE_LINK);
	uint8_t page[LINUX_PAGE];
	vmsig_file file;
	int r;

	if (text) {
		linux_text(kernel, text, ret_text, LINUX_PATH_MAX);
		return kernel->fault;
	}
	linux_cache_file(kernel, inode, linux_get(kernel, inode, LINUX_INODE_MAPPING), &file);
	r = kernel->fault ? kernel->fault : linux_cache_page(kernel, &file, 0, page);
	if (r)
		return r;
	if (file.size >= LINUX_PATH_MAX)
		return VMSIG_ERR_TORN;
	memcpy(ret_text, page, file.size);
	ret_text[file.size] = 0;
	return 0;
}

/* What is still to be found becomes the link's text and that. */
static int follow(struct lookup *lookup, uint64_t inode)
{
	char text[LINUX_PATH_MAX], rest[sizeof(lookup->rest)];
	int r, n;

	if (++lookup->links > LINKS_MAX)
		return VMSIG_ERR_UNSUPPORTED;
	r = read_link(lookup->kernel, inode, text);
	if (r)
		return r;
	n = snprintf(rest, sizeof(rest), "%s/%s", text, lookup->rest);
	if (n < 0 || (size_t)n >= sizeof(rest))
		return VMSIG_ERR_UNSUPPORTED;
	memcpy(lookup->rest, rest, (size_t)n + 1);
	if (text[0] == '/') {
		lookup->dentry = lookup->root;
		lookup->mount = lookup->root_mount;
	}
	return 0;
}

/* ---- all ---- */

static int step(struct lookup *lookup, const char *name, size_t len)
{
	struct linux_kernel *kernel = lookup->kernel;
	uint64_t found, inode;

	if (len == 1 && name[0] == '.')
		return 0;
	if (len == 2 && name[0] == '.' && name[1] == '.') {
		go_up(lookup);
		return kernel->fault;
	}
	found = len <= NAME_BYTES_MAX ? find(kernel, lookup->dentry, name, len) : 0;
	if (kernel->fault || !found)
		return kernel->fault ? kernel->fault : VMSIG_ERR_NOT_MAPPED;
	inode = linux_get(kernel, found, LINUX_DENTRY_INODE);
	if (S_ISLNK(linux_get(kernel, inode, LINUX_INODE_MODE)))
		return follow(lookup, inode);
	lookup->dentry = found;
	cross(lookup);
	return kernel->fault;
}

static int walk(struct lookup *lookup)
{
	int r = 0;

	while (!r) {
		char name[sizeof(lookup->rest)];
		size_t skip = strspn(lookup->rest, "/"), len = strcspn(lookup->rest + skip, "/");

		if (!len)
			return 0;
		memcpy(name, lookup->rest + skip, len);
		memmove(lookup->rest, lookup->rest + skip + len,
			strlen(lookup->rest + skip + len) + 1);
		r = step(lookup, name, len);
	}
	return r;
}

static int begin(struct lookup *lookup, const vmsig_proc *process, const char *path)
{
	static const enum linux_field needed[] = {LINUX_TASK_FS, LINUX_FS_ROOT_MNT,
		LINUX_FS_ROOT_DENTRY, LINUX_MOUNT_MOUNTS, LINUX_MOUNT_CHILD, LINUX_INODE_MODE,
		LINUX_INODE_MAPPING};
	struct linux_kernel *kernel = lookup->kernel;
	uint64_t fs;

	linux_need(kernel, needed, sizeof(needed) / sizeof(needed[0]));
	fs = linux_get(kernel, process->object, LINUX_TASK_FS);
	lookup->root = lookup->dentry = linux_get(kernel, fs, LINUX_FS_ROOT_DENTRY);
	lookup->root_mount = lookup->mount = linux_get(kernel, fs, LINUX_FS_ROOT_MNT) -
					     kernel->fields.field[LINUX_MOUNT_VFSMOUNT].offset;
	lookup->links = 0;
	if (strlen(path) >= LINUX_PATH_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	memcpy(lookup->rest, path, strlen(path) + 1);
	return kernel->fault;
}

int linux_lookup(struct linux_kernel *kernel, const vmsig_proc *process, const char *path,
	vmsig_file *ret_file)
{
	struct lookup lookup = {.kernel = kernel};
	int r = VMSIG_ERR_TORN;

	kernel->missing = NULL; /* too many links are unsupported, too */
	for (unsigned i = 0; r == VMSIG_ERR_TORN && linux_attempt(kernel, i, r); i++) {
		uint64_t inode;

		r = begin(&lookup, process, path);
		if (!r)
			r = walk(&lookup);
		inode = linux_get(kernel, lookup.dentry, LINUX_DENTRY_INODE);
		if (!r)
			linux_cache_file(kernel, inode,
				linux_get(kernel, inode, LINUX_INODE_MAPPING), ret_file);
		r = r ? r : kernel->fault;
	}
	return r;
}
