/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/infer_file.h"

#include <sys/stat.h>

#include "clients/os/linux/infer_probe.h"

#define DENTRY_BYTES 0x180u
#define INODE_BYTES 0x200u
#define NAME_BYTES_MAX 255u
#define FS_NAME_MAX 32u
#define DESCRIPTORS 64u /* of a table that is in files_struct itself */
#define NEAR 0x300u

/* ---- files and where they are ---- */

/* A mount and a name in the same file system, whose address is in both. Where in a dentry? */
static bool is_path(struct infer *infer, uint64_t mnt, uint64_t dentry, uint32_t *ret_sb)
{
	uint64_t mount[2]; /* its root, its file system */
	uint8_t bytes[DENTRY_BYTES];

	if (!infer_is_pointer(mnt) || !infer_is_pointer(dentry) ||
		!infer_read(infer, mnt, mount, sizeof(mount)) || !infer_is_pointer(mount[0]) ||
		!infer_is_pointer(mount[1]) ||
		!infer_read_some(infer, dentry, bytes, sizeof(bytes)))
		return false;
	for (uint32_t at = 0x40; at < sizeof(bytes); at += 8) {
		if (infer_load(bytes, at) != mount[1])
			continue;
		*ret_sb = at;
		return infer_word(infer, mount[0] + at) == mount[1];
	}
	return false;
}

/* Of the file in infer->files[0]. */
static bool is_path_of_file(struct infer *infer, uint32_t at)
{
	const uint8_t *bytes = infer->files[0].bytes;
	uint32_t sb;

	return is_path(infer, infer_load(bytes, at), infer_load(bytes, at + 8), &sb);
}

/* Once where paths are is known: notes the file, if it is one. */
static bool take_file(struct infer *infer, uint64_t at, bool mapped)
{
	struct infer_file *file = &infer->files[infer->file_count];
	uint32_t path = infer_offset(infer, LINUX_FILE_MNT), sb;

	for (size_t i = 0; i < infer->file_count; i++) {
		if (infer->files[i].at == at)
			return true;
	}
	if (infer->file_count == INFER_FILES_MAX)
		return true;
	*file = (struct infer_file){.at = at, .mapped = mapped};
	if (!infer_is_pointer(at) || !infer_read_some(infer, at, file->bytes, sizeof(file->bytes)))
		return false;
	file->mnt = infer_load(file->bytes, path);
	file->dentry = infer_load(file->bytes, path + 8);
	if (!is_path(infer, file->mnt, file->dentry, &sb) ||
		(infer_knows(infer, LINUX_DENTRY_SB) && sb != infer_offset(infer, LINUX_DENTRY_SB)))
		return false;
	if (!infer_knows(infer, LINUX_DENTRY_SB))
		infer_set(infer, LINUX_DENTRY_SB, sb, 8);
	infer->file_count++;
	return true;
}

/* What areas are of: the first one tells where its path is, all others have theirs there, too. */
static bool is_file_of_area(struct infer *infer, uint32_t at)
{
	uint32_t path;

	infer->file_count = 0;
	infer->kernel->fields.field[LINUX_DENTRY_SB].known = false;
	infer->kernel->fields.field[LINUX_FILE_MNT].known = false;
	for (size_t i = 0; i < infer->area_count; i++) {
		uint64_t file = infer_load(infer->areas[i].bytes, at);

		if (!file)
			continue;
		if (!infer_is_pointer(file))
			return false;
		if (!infer_knows(infer, LINUX_FILE_MNT)) {
			if (!infer_read_some(
				    infer, file, infer->files[0].bytes, INFER_FILE_BYTES) ||
				!infer_find(infer, 0, 0xc0, 8, is_path_of_file, &path))
				return false;
			infer_set(infer, LINUX_FILE_MNT, path, 8);
		}
		if (!take_file(infer, file, true))
			return false;
	}
	return infer->file_count > 0;
}

/* ---- names ---- */

/* d_hash, d_parent, the name's hash, its length, its text, and the inode. */
static bool is_name(struct infer *infer, uint64_t dentry, uint64_t sb, uint32_t at)
{
	uint8_t bytes[DENTRY_BYTES];
	char name[NAME_BYTES_MAX + 1];
	uint64_t parent, inode;

	if (!infer_read_some(infer, dentry, bytes, sizeof(bytes)))
		return false;
	parent = infer_load(bytes, at - 16);
	inode = infer_load(bytes, at + 8);
	return infer_text(infer, infer_load(bytes, at), name, sizeof(name)) &&
	       infer_load32(bytes, at - 4) == strlen(name) && infer_is_pointer(parent) &&
	       infer_word(infer, parent + infer_offset(infer, LINUX_DENTRY_SB)) == sb &&
	       infer_is_pointer(inode);
}

static bool is_name_of_all(struct infer *infer, uint32_t at)
{
	for (size_t i = 0; i < infer->file_count; i++) {
		uint64_t sb = infer_word(infer, infer->files[i].mnt + 8);

		if (infer->files[i].mapped && !is_name(infer, infer->files[i].dentry, sb, at))
			return false;
	}
	return true;
}

static bool find_names(struct infer *infer)
{
	uint32_t at;

	if (!infer_find(infer, 0x20, 0x80, 8, is_name_of_all, &at))
		return false;
	infer_set(infer, LINUX_DENTRY_PARENT, at - 16, 8);
	infer_set(infer, LINUX_DENTRY_HASHED, at - 24, 8);
	infer_set(infer, LINUX_DENTRY_NAME_LEN, at - 4, 4);
	infer_set(infer, LINUX_DENTRY_NAME, at, 8);
	infer_set(infer, LINUX_DENTRY_INODE, at + 8, 8);
	return true;
}

/* ---- inodes ---- */

/* What is mapped is a regular file, which has its pages in itself: i_sb, i_mapping, which leads
 * back to it. */
static bool is_mapping(struct infer *infer, uint32_t at)
{
	size_t n = 0;

	for (size_t i = 0; i < infer->file_count; i++) {
		uint64_t inode = infer->files[i].inode, mapping = infer_word(infer, inode + at);

		if (!infer->files[i].mapped)
			continue;
		if (infer_word(infer, inode + at - 8) !=
				infer_word(infer, infer->files[i].mnt + 8) ||
			mapping <= inode || mapping - inode > 0x400 ||
			infer_word(infer, mapping) != inode ||
			!S_ISREG(infer_word(infer, inode) & 0xffff))
			return false;
		n++;
	}
	return n > 0;
}

/* i_mapping, i_security, i_ino, two counters, i_size: a file is as long as what is mapped of it
 * begins. */
static void find_inode_members(struct infer *infer)
{
	uint32_t at;

	for (size_t i = 0; i < infer->file_count; i++)
		infer->files[i].inode = infer_word(
			infer, infer->files[i].dentry + infer_offset(infer, LINUX_DENTRY_INODE));
	if (!infer_find(infer, 0x20, 0x80, 8, is_mapping, &at))
		return;
	infer_set(infer, LINUX_INODE_MODE, 0, 2);
	infer_set(infer, LINUX_INODE_MAPPING, at, 8);
	infer_set(infer, LINUX_INODE_NUMBER, at + 16, 8);
	infer_set(infer, LINUX_INODE_SIZE, at + 32, 8);
}

static bool is_inode_of_file(struct infer *infer, uint32_t at)
{
	for (size_t i = 0; i < infer->file_count; i++) {
		if (infer_load(infer->files[i].bytes, at) != infer->files[i].inode)
			return false;
	}
	return true;
}

static bool is_mapping_of_file(struct infer *infer, uint32_t at)
{
	for (size_t i = 0; i < infer->file_count; i++) {
		uint64_t mapping = infer_word(
			infer, infer->files[i].inode + infer_offset(infer, LINUX_INODE_MAPPING));

		if (infer->files[i].mapped && infer_load(infer->files[i].bytes, at) != mapping)
			return false;
	}
	return true;
}

static void find_file_members(struct infer *infer)
{
	uint32_t at;

	if (infer_find(infer, 0, INFER_FILE_BYTES, 8, is_inode_of_file, &at))
		infer_set(infer, LINUX_FILE_INODE, at, 8);
	if (infer_knows(infer, LINUX_INODE_MAPPING) &&
		infer_find(infer, 0, INFER_FILE_BYTES, 8, is_mapping_of_file, &at))
		infer_set(infer, LINUX_FILE_MAPPING, at, 8);
}

/* ---- file systems ---- */

/* A pointer to a file_system_type, which begins with its name; four more operations, then flags. */
static bool is_type(struct infer *infer, uint32_t at)
{
	char name[FS_NAME_MAX];

	for (size_t i = 0; i < infer->file_count; i++) {
		uint64_t sb = infer_word(infer, infer->files[i].mnt + 8);
		uint64_t type = infer_word(infer, sb + at);

		if (!infer_text(infer, infer_word(infer, type), name, sizeof(name)))
			return false;
	}
	return true;
}

static void find_type(struct infer *infer)
{
	uint32_t at;

	if (!infer_find(infer, 0x10, 0x60, 8, is_type, &at))
		return;
	infer_set(infer, LINUX_SB_TYPE, at, 8);
	infer_set(infer, LINUX_FS_NAME, 0, 8);
	infer_set(infer, LINUX_SB_FLAGS, at + 40, 8);
}

/* ---- what tasks have open ---- */

/* A small table of descriptors is where the pointer to it is, in a files_struct; behind it the
 * pointers to files. */
static bool has_own_table(struct infer *infer, uint64_t files, uint32_t at, uint32_t *ret_array)
{
	uint64_t table[3]; /* fdt; max_fds; fd */

	if (!infer_read(infer, files + at, table, sizeof(table)) || table[0] != files + at + 8 ||
		(uint32_t)table[1] != DESCRIPTORS || table[2] <= table[0] ||
		table[2] - files > 0x400)
		return false;
	*ret_array = (uint32_t)(table[2] - files);
	return true;
}

/* Of the task at hand: every one that has a small table agrees on where it is. */
static bool is_files(struct infer *infer, uint32_t at)
{
	uint32_t found = 0, array;
	size_t n = 0;

	for (size_t i = 0; i < infer->task_count; i++) {
		uint64_t files = infer_load(infer->tasks[i].bytes, at);

		if (!files) /* of one that has ended */
			continue;
		if (!infer_is_pointer(files))
			return false;
		if (!found) {
			uint32_t table = 8;

			while (table < 0xc0 && !has_own_table(infer, files, table, &array))
				table += 8;
			found = table < 0xc0 ? table : 0;
		}
		n += found && has_own_table(infer, files, found, &array);
		/* Several threads of the kernel's share one. */
		if (i > 2 && !n)
			return false;
	}
	if (n)
		infer_set(infer, LINUX_FILES_TABLE, found, 8);
	return n > infer->task_count / 2;
}

static void take_open_files(struct infer *infer)
{
	uint32_t at = infer_offset(infer, LINUX_TASK_FILES), array;
	uint32_t table = infer_offset(infer, LINUX_FILES_TABLE);

	for (size_t i = 1; i < infer->task_count; i++) {
		uint64_t files = infer_load(infer->tasks[i].bytes, at);
		uint64_t entries[DESCRIPTORS];

		if (!files || !has_own_table(infer, files, table, &array) ||
			!infer_read(infer, files + array, entries, sizeof(entries)))
			continue;
		for (size_t k = 0; k < DESCRIPTORS; k++) {
			if (entries[k])
				(void)take_file(infer, entries[k], false);
		}
	}
}

static void find_open_files(struct infer *infer)
{
	uint32_t comm = infer_offset(infer, LINUX_TASK_COMM), at;

	if (!infer_find(infer, comm + 16, comm + NEAR, 8, is_files, &at))
		return;
	infer_set(infer, LINUX_TASK_FILES, at, 8);
	infer_set(infer, LINUX_TABLE_MAX, 0, 4);
	infer_set(infer, LINUX_TABLE_FILES, 8, 8);
	take_open_files(infer);
}

/* ---- where tasks see the tree from ---- */

/* fs_struct is before the files: the root, then the folder that a task is in. */
static void find_root(struct infer *infer)
{
	uint32_t at = infer_offset(infer, LINUX_TASK_FILES) - 8, sb;
	uint64_t fs = infer_load(infer->tasks[1].bytes, at);
	uint8_t bytes[0x80];

	if (!infer_is_pointer(fs) || !infer_read_some(infer, fs, bytes, sizeof(bytes)))
		return;
	for (uint32_t root = 8; root + 32 <= sizeof(bytes); root += 8) {
		if (!is_path(infer, infer_load(bytes, root), infer_load(bytes, root + 8), &sb) ||
			!is_path(infer, infer_load(bytes, root + 16), infer_load(bytes, root + 24),
				&sb))
			continue;
		infer_set(infer, LINUX_TASK_FS, at, 8);
		infer_set(infer, LINUX_FS_ROOT_MNT, root, 8);
		infer_set(infer, LINUX_FS_ROOT_DENTRY, root + 8, 8);
		return;
	}
}

void infer_files(struct infer *infer)
{
	uint32_t at;

	if (!infer_find(infer, 0x40, 0xe0, 8, is_file_of_area, &at)) {
		infer->file_count = 0;
		infer->kernel->fields.field[LINUX_FILE_MNT].known = false;
		infer->kernel->fields.field[LINUX_DENTRY_SB].known = false;
		return;
	}
	infer_set(infer, LINUX_VMA_FILE, at, 8);
	infer_set(infer, LINUX_VMA_PGOFF, at - 8, 8);
	infer_set(infer, LINUX_FILE_DENTRY, infer_offset(infer, LINUX_FILE_MNT) + 8, 8);
	infer_set(infer, LINUX_VFSMOUNT_ROOT, 0, 8);
	infer_set(infer, LINUX_VFSMOUNT_SB, 8, 8);
	infer_set(infer, LINUX_VFSMOUNT_FLAGS, 16, 4);
	find_open_files(infer);
	if (!find_names(infer))
		return;
	find_inode_members(infer);
	find_file_members(infer);
	find_type(infer);
	if (infer_knows(infer, LINUX_TASK_FILES))
		find_root(infer);
}
