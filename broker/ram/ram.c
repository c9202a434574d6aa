/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "broker/ram/attack.h"
#include "broker/ram/romount.h"
#include "proto/physmap.h"
#include "vmsig/vmsig_error.h"

#define HUGETLBFS_FS_MAGIC 0x958458f6 /* linux/magic.h */
#define PROC_PATH_MAX 64

struct ram {
	int fd;     /* read-only, on the read-only mount when the guard is RO_MOUNT */
	int origin; /* O_PATH on the original mount: what the write plane re-opens */
	char *path; /* NULL when it was opened from another process's descriptor */
	struct stat st;
	enum vmsig_guard guard;
	bool private_mode; /* only the owner may open it for writing */
	bool sparse;
};

static void fd_path(int fd, char path[static PROC_PATH_MAX])
{
	snprintf(path, PROC_PATH_MAX, "/proc/self/fd/%d", fd);
}

/* A new open file description of what `fd` refers to, on the same mount. */
static int reopen(int fd, int flags)
{
	char path[PROC_PATH_MAX];
	int r;

	fd_path(fd, path);
	r = open(path, flags | O_CLOEXEC | O_NOCTTY);
	return r < 0 ? -errno : r;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static int check_regular(const struct stat *st, const char *what, char *error, size_t error_size)
{
	if (!S_ISREG(st->st_mode)) {
		snprintf(error, error_size,
			"%s is not a regular file; name the file that backs guest RAM", what);
		return VMSIG_ERR_BAD_REQUEST;
	}
	if (st->st_size <= 0) {
		snprintf(error, error_size, "%s is empty; guest RAM is not there yet", what);
		return VMSIG_ERR_BAD_REQUEST;
	}
	return 0;
}

/* Opens the file `origin` refers to once more through a read-only view of its directory.
 * -ENOENT when the path names another file by now. */
static int open_through_view(const char *path, const struct stat *expected)
{
	char dir_copy[PATH_MAX], base_copy[PATH_MAX];
	struct stat st;
	int view, fd;

	if ((size_t)snprintf(dir_copy, sizeof(dir_copy), "%s", path) >= sizeof(dir_copy))
		return -ENAMETOOLONG;
	snprintf(base_copy, sizeof(base_copy), "%s", path);
	view = romount_open(dirname(dir_copy));
	if (view < 0)
		return view;
	/* NOFOLLOW: a link could lead to another mount, where nothing is read-only. */
	fd = openat(view, basename(base_copy), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
	if (fd < 0)
		fd = -errno;
	close(view);
	if (fd >= 0 && (fstat(fd, &st) < 0 || !same_file(&st, expected))) {
		close(fd);
		return -ENOENT;
	}
	return fd;
}

static bool seals_forbid_writing(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) &&
	       (seals & F_SEAL_SHRINK);
}

/* Takes away what the mode gives to anybody but the owner (and with 0400 what the owner has
 * not kept open): the VM's own descriptors are open already. Whether nobody but the owner
 * can open the file for writing afterwards. */
static bool narrow_mode(int origin, mode_t keep, struct stat *st)
{
	char path[PROC_PATH_MAX];

	fd_path(origin, path);
	if ((st->st_mode & 0777 & ~keep) && chmod(path, st->st_mode & keep) == 0)
		st->st_mode &= ~(mode_t)0777 | keep;
	return !(st->st_mode & (S_IWGRP | S_IWOTH));
}

static void ram_note_filesystem(struct ram *ram)
{
	struct statfs fs;

	ram->sparse = fstatfs(ram->fd, &fs) < 0 || (unsigned long)fs.f_type != HUGETLBFS_FS_MAGIC;
}

static struct ram *ram_alloc(void)
{
	struct ram *ram = calloc(1, sizeof(*ram));

	if (ram)
		ram->fd = ram->origin = -1;
	return ram;
}

static int ram_open_origin(struct ram *ram, const char *name, char *error, size_t error_size)
{
	ram->origin = open(name, O_PATH | O_CLOEXEC);
	if (ram->origin < 0 || fstat(ram->origin, &ram->st) < 0) {
		int r = -errno;

		snprintf(error, error_size, "cannot open %s: %s", name, strerror(-r));
		return r;
	}
	return check_regular(&ram->st, name, error, error_size);
}

static int ram_open_plain(struct ram *ram, const char *name, char *error, size_t error_size)
{
	ram->fd = reopen(ram->origin, O_RDONLY);
	if (ram->fd < 0) {
		snprintf(error, error_size, "cannot open %s for reading: %s", name,
			strerror(-ram->fd));
		return ram->fd;
	}
	if (seals_forbid_writing(ram->fd))
		ram->guard = VMSIG_GUARD_SEALED;
	else if (ram->private_mode)
		ram->guard = VMSIG_GUARD_MODE;
	return 0;
}

int ram_open_path(struct ram **ret_ram, const char *path, char *error, size_t error_size)
{
	struct ram *ram = ram_alloc();
	char real[PATH_MAX];
	int r = -ENOMEM;

	if (!ram || !(ram->path = strdup(path))) {
		snprintf(error, error_size, "out of memory");
		goto fail;
	}
	r = ram_open_origin(ram, path, error, error_size);
	if (r)
		goto fail;
	/* A VM that is started again opens its file by path, so the owner keeps his bits. */
	ram->private_mode = narrow_mode(ram->origin, 0700, &ram->st);
	ram->fd = realpath(path, real) ? open_through_view(real, &ram->st) : -errno;
	if (ram->fd < 0)
		r = ram_open_plain(ram, path, error, error_size);
	else if (ram->private_mode && !ram_attack(ram->fd))
		ram->guard = VMSIG_GUARD_RO_MOUNT;
	if (r)
		goto fail;
	ram_note_filesystem(ram);
	*ret_ram = ram;
	return 0;
fail:
	ram_free(ram);
	return r;
}

int ram_open_proc_fd(struct ram **ret_ram, pid_t pid, int fd, char *error, size_t error_size)
{
	struct ram *ram = ram_alloc();
	char name[PROC_PATH_MAX];
	int r = -ENOMEM;

	if (!ram) {
		snprintf(error, error_size, "out of memory");
		goto fail;
	}
	snprintf(name, sizeof(name), "/proc/%d/fd/%d", (int)pid, fd);
	r = ram_open_origin(ram, name, error, error_size);
	if (r)
		goto fail;
	ram->private_mode = narrow_mode(ram->origin, 0400, &ram->st);
	r = ram_open_plain(ram, name, error, error_size);
	if (r)
		goto fail;
	ram_note_filesystem(ram);
	*ret_ram = ram;
	return 0;
fail:
	ram_free(ram);
	return r;
}

struct ram *ram_free(struct ram *ram)
{
	if (!ram)
		return NULL;
	if (ram->fd >= 0)
		close(ram->fd);
	if (ram->origin >= 0)
		close(ram->origin);
	free(ram->path);
	free(ram);
	return NULL;
}

int ram_share(const struct ram *ram)
{
	return reopen(ram->fd, O_RDONLY);
}

int ram_open_writable(const struct ram *ram)
{
	return reopen(ram->origin, O_RDWR);
}

int ram_fd(const struct ram *ram)
{
	return ram->fd;
}

uint64_t ram_size(const struct ram *ram)
{
	return (uint64_t)ram->st.st_size;
}

enum vmsig_guard ram_guard(const struct ram *ram)
{
	return ram->guard;
}

uid_t ram_owner(const struct ram *ram)
{
	return ram->st.st_uid;
}

bool ram_is_sparse(const struct ram *ram)
{
	return ram->sparse;
}

enum ram_change ram_check(const struct ram *ram)
{
	struct stat st;

	if (fstat(ram->fd, &st) < 0 || st.st_size < ram->st.st_size)
		return RAM_SHRUNK;
	if (!ram->path)
		return RAM_SAME;
	if (stat(ram->path, &st) < 0)
		return RAM_MISSING;
	return same_file(&st, &ram->st) ? RAM_SAME : RAM_REPLACED;
}

int ram_read(const struct ram *ram, uint64_t off, void *buf, size_t len)
{
	char *to = buf;

	if (off > INT64_MAX || len > INT64_MAX - off)
		return VMSIG_ERR_OUT_OF_RANGE;
	while (len) {
		ssize_t n = pread(ram->fd, to, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return VMSIG_ERR_IO;
		if (n == 0)
			return VMSIG_ERR_OUT_OF_RANGE;
		to += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int ram_read_gpa(
	const struct ram *ram, const struct physmap *map, uint64_t gpa, void *buf, size_t len)
{
	char *to = buf;

	while (len) {
		uint64_t off, room;
		size_t n;
		int r;

		if (!physmap_find(map, gpa, &off, &room))
			return VMSIG_ERR_OUT_OF_RANGE;
		n = room < len ? (size_t)room : len;
		r = ram_read(ram, off, to, n);
		if (r)
			return r;
		to += n;
		gpa += n;
		len -= n;
	}
	return 0;
}
