/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/infer_mount.h"

#include <sys/stat.h>

#include "clients/os/linux/infer_probe.h"

#define MOUNT_BYTES 0x140u
#define DENTRY_BYTES 0x180u
#define INODE_BYTES 0x300u
#define NAMESPACE_BYTES 0x200u
#define SOURCE_MAX 256u
#define UP_MAX 64u       /* mounts in one another */
#define CHILDREN_MAX 64u /* that are looked at */
#define NEAR 0x300u

/* The mount that all others are on, and those on it. */
struct mount_tree {
	uint64_t root;
	uint64_t children[CHILDREN_MAX];
	size_t count;
};

/* mnt_parent and mnt_mountpoint are before the struct vfsmount, which files lead to, and the hash
 * before them. */
static bool find_vfsmount(struct infer *infer)
{
	for (size_t i = 0; i < infer->file_count; i++) {
		uint64_t mnt = infer->files[i].mnt, parent = infer_word(infer, mnt - 16);
		uint64_t point = infer_word(infer, mnt - 8);

		if (!infer->files[i].mapped || parent != mnt - 32)
			continue;
		/* The topmost is its own parent, at its own root. */
		if (point == infer_word(infer, mnt))
			return true;
	}
	return false;
}

/* From a file up to the mount that is its own parent. */
static uint64_t find_top(struct infer *infer)
{
	for (size_t i = 0; i < infer->file_count; i++) {
		uint64_t mount = infer->files[i].mnt - 32;

		for (unsigned up = 0; infer->files[i].mapped && up < UP_MAX; up++) {
			uint64_t parent = infer_word(infer, mount + 16);

			if (parent == mount)
				return mount;
			mount = parent;
		}
	}
	return 0;
}

/* mnt_mounts, a ring through mnt_child of those whose parent this is; mnt_child is behind it. */
static bool walk_children(struct infer *infer, struct mount_tree *tree, uint32_t at)
{
	uint64_t head = tree->root + at, from = head, links[2];

	tree->count = 0;
	if (!infer_read(infer, head, links, sizeof(links)))
		return false;
	while (links[0] != head && tree->count < CHILDREN_MAX) {
		uint64_t next = links[0], child = next - at - 16;

		if (!infer_is_pointer(next) || !infer_read(infer, next, links, sizeof(links)) ||
			links[1] != from || infer_word(infer, child + 16) != tree->root)
			return false;
		tree->children[tree->count++] = child;
		from = next;
	}
	return tree->count > 0;
}

/* A text of every one of them: what is mounted. */
static bool is_source(struct infer *infer, const struct mount_tree *tree, uint32_t at)
{
	char text[SOURCE_MAX];

	for (size_t i = 0; i < tree->count; i++) {
		if (!infer_text(
			    infer, infer_word(infer, tree->children[i] + at), text, sizeof(text)))
			return false;
	}
	return true;
}

static void find_children(struct infer *infer, struct mount_tree *tree)
{
	uint32_t at = 0x38, source;

	while (at < MOUNT_BYTES && !walk_children(infer, tree, at))
		at += 8;
	if (at >= MOUNT_BYTES)
		return;
	infer_set(infer, LINUX_MOUNT_MOUNTS, at, 16);
	infer_set(infer, LINUX_MOUNT_CHILD, at + 16, 16);
	for (source = at + 32; source < MOUNT_BYTES; source += 8) {
		if (is_source(infer, tree, source)) {
			infer_set(infer, LINUX_MOUNT_DEVNAME, source, 8);
			return;
		}
	}
}

/* ---- namespaces ---- */

/* What tasks of the kernel share: the names of the machine's, then of its memory, then mounts. */
static void find_namespace(struct infer *infer, const struct mount_tree *tree)
{
	uint64_t all = infer_symbol(infer, "init_nsproxy"),
		 names = infer_symbol(infer, "init_uts_ns");
	uint32_t comm = infer_offset(infer, LINUX_TASK_COMM), at = comm + 16;
	uint8_t bytes[NAMESPACE_BYTES];

	while (all && at < comm + NEAR && infer_load(infer->tasks[0].bytes, at) != all)
		at += 8;
	if (!all || at >= comm + NEAR || infer_word(infer, all + 8) != names)
		return;
	infer_set(infer, LINUX_TASK_NSPROXY, at, 8);
	infer_set(infer, LINUX_NSPROXY_MNT, 24, 8);
	if (!infer_read_some(infer, infer_word(infer, infer_load(infer->tasks[1].bytes, at) + 24),
		    bytes, sizeof(bytes)))
		return;
	for (uint32_t root = 0; root < sizeof(bytes); root += 8) {
		if (infer_load(bytes, root) == tree->root) {
			infer_set(infer, LINUX_MNTNS_ROOT, root, 8);
			return;
		}
	}
}

/* ---- names below a folder ---- */

/* To 6.7: a ring of d_child, which is before it. */
static bool is_ring_of_names(struct infer *infer, uint64_t folder, uint32_t at)
{
	uint64_t head = folder + at, from = head, links[2];
	uint32_t parent = infer_offset(infer, LINUX_DENTRY_PARENT);
	size_t n = 0;

	/* A list that ends looks the same, but for where the last one leads. */
	if (!infer_read(infer, head, links, sizeof(links)) || infer_word(infer, links[1]) != head)
		return false;
	while (links[0] != head && n < CHILDREN_MAX) {
		uint64_t next = links[0];

		if (!infer_is_pointer(next) || !infer_read(infer, next, links, sizeof(links)) ||
			links[1] != from || infer_word(infer, next - at + 16 + parent) != folder)
			return false;
		from = next;
		n++;
	}
	return n > 0;
}

/* From 6.8 on: a list of d_sib, which is before it; each has the place of what leads to it. */
static bool is_list_of_names(struct infer *infer, uint64_t folder, uint32_t at)
{
	uint64_t next = infer_word(infer, folder + at), from = folder + at;
	uint32_t parent = infer_offset(infer, LINUX_DENTRY_PARENT);
	size_t n = 0;

	for (; next && n < CHILDREN_MAX; n++) {
		uint64_t links[2];

		if (!infer_is_pointer(next) || !infer_read(infer, next, links, sizeof(links)) ||
			links[1] != from || infer_word(infer, next - at + 16 + parent) != folder)
			return false;
		from = next;
		next = links[0];
	}
	return n > 0;
}

static void find_names_below(struct infer *infer, uint64_t folder)
{
	for (uint32_t at = infer_offset(infer, LINUX_DENTRY_SB) + 24; at < DENTRY_BYTES; at += 8) {
		if (is_ring_of_names(infer, folder, at)) {
			infer_set(infer, LINUX_DENTRY_SUBDIRS, at, 16);
			infer_set(infer, LINUX_DENTRY_CHILD, at - 16, 16);
			return;
		}
		if (is_list_of_names(infer, folder, at)) {
			infer_set(infer, LINUX_DENTRY_CHILDREN, at, 8);
			infer_set(infer, LINUX_DENTRY_SIB, at - 16, 8);
			return;
		}
	}
}

/* ---- links ---- */

/* A text as long as the link says that it is. */
static bool is_link_text(struct infer *infer, uint64_t inode, uint32_t at, uint64_t size)
{
	char text[SOURCE_MAX];

	return infer_text(infer, infer_word(infer, inode + at), text, sizeof(text)) &&
	       strlen(text) == size;
}

/* True: it is a link whose text is in memory of its own. */
static bool take_link(struct infer *infer, uint64_t dentry)
{
	uint64_t inode = infer_word(infer, dentry + infer_offset(infer, LINUX_DENTRY_INODE));
	uint64_t size = infer_word(infer, inode + infer_offset(infer, LINUX_INODE_SIZE));
	uint32_t at = infer_offset(infer, LINUX_INODE_SIZE) + 8;

	if (!S_ISLNK(infer_word(infer, inode) & 0xffff) || size < 2)
		return false;
	while (at < INODE_BYTES && !is_link_text(infer, inode, at, size))
		at += 8;
	if (at >= INODE_BYTES)
		return false;
	infer_set(infer, LINUX_INODE_LINK, at, 8);
	return true;
}

/* The next name in the folder that `dentry` is in, or with `folder` its first one; 0: no more. */
static uint64_t next_name(struct infer *infer, uint64_t folder, uint64_t dentry)
{
	bool ring = infer_knows(infer, LINUX_DENTRY_CHILD);
	uint32_t link = infer_offset(infer, ring ? LINUX_DENTRY_CHILD : LINUX_DENTRY_SIB);
	uint32_t head = infer_offset(infer, ring ? LINUX_DENTRY_SUBDIRS : LINUX_DENTRY_CHILDREN);
	uint64_t next = infer_word(infer, dentry ? dentry + link : folder + head);

	return next && next != folder + head ? next - link : 0;
}

/* Looks for one in a folder, and in those in it. */
static bool find_link(struct infer *infer, uint64_t folder, unsigned depth)
{
	uint64_t name = next_name(infer, folder, 0);

	for (size_t n = 0; name && n < CHILDREN_MAX; n++) {
		if (take_link(infer, name) || (depth && find_link(infer, name, depth - 1)))
			return true;
		name = next_name(infer, folder, name);
	}
	return false;
}

void infer_mounts(struct infer *infer)
{
	struct mount_tree tree = {0};
	uint64_t folder;

	if (!infer->file_count || !infer_knows(infer, LINUX_DENTRY_PARENT))
		return;
	if (!find_vfsmount(infer) && !find_top(infer))
		return;
	infer_set(infer, LINUX_MOUNT_PARENT, 16, 8);
	infer_set(infer, LINUX_MOUNT_POINT, 24, 8);
	infer_set(infer, LINUX_MOUNT_VFSMOUNT, 32, 32);
	tree.root = find_top(infer);
	find_children(infer, &tree);
	find_namespace(infer, &tree);
	/* From 7.0 on there is nothing in the topmost one; a program's folder has it at least. */
	folder = infer_word(
		infer, infer->files[0].dentry + infer_offset(infer, LINUX_DENTRY_PARENT));
	find_names_below(infer, folder);
	if (infer_knows(infer, LINUX_INODE_SIZE) &&
		(infer_knows(infer, LINUX_DENTRY_CHILD) || infer_knows(infer, LINUX_DENTRY_SIB)))
		(void)find_link(infer,
			infer_word(infer, folder + infer_offset(infer, LINUX_DENTRY_PARENT)), 2);
}
