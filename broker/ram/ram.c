/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/ram/attack.h"
#include "broker/ram/beneath.h"
#include "broker/ram/mapper.h"
#include "broker/ram/romount.h"
#include "proto/guest/span.h"
#include "vmsig/vmsig_error.h"

#define PROC_PATH_MAX 64

struct ram {
	int fd;     /* read-only, on the read-only mount when the guard is RO_MOUNT */
	int origin; /* O_PATH on the original mount: what the write plane re-opens */
	char *path; /* as configured, with `owner`; NULL when it is what `mapper` maps, or was given
		     */
	uid_t owner;
	const struct mapper *mapper; /* borrowed */
	dev_t device;                /* of the mapping */
	struct stat st;
	enum vmsig_guard guard;
	uint64_t page_size; /* bytes of the pages that map it */
	bool sparse;
	bool read_only; /* who gave the descriptor may not write */
	bool borrowed;  /* and is not the file's owner */
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

/* Opens the file once more through a read-only view of its folder. -ENOENT when the name is
 * another file's by now. */
static int open_through_view(const struct beneath *place, const struct stat *expected)
{
	int fd, through, view = romount_open(place->folder);
	struct stat st;

	if (view < 0)
		return view;
	/* PATH and NOFOLLOW: nothing is opened before it is known to be the file. */
	fd = openat(view, place->name, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	through = fd < 0 ? -errno : 0;
	close(view);
	if (fd < 0)
		return through;
	if (fstat(fd, &st) < 0 || !same_file(&st, expected))
		through = -ENOENT;
	else
		through = reopen(fd, O_RDONLY);
	close(fd);
	return through;
}

static bool seals_forbid_writing(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) &&
	       (seals & F_SEAL_SHRINK);
}

/* Takes away what the mode gives to anybody but the owner. */
static void narrow_mode(struct ram *ram, mode_t keep)
{
	char path[PROC_PATH_MAX];
	mode_t mode = ram->st.st_mode & 07777;

	fd_path(ram->origin, path);
	if (mode & 0777 & ~keep && chmod(path, mode & ~(0777 & ~keep)) == 0)
		ram->st.st_mode &= ~(0777 & ~keep);
}

static void ram_note_filesystem(struct ram *ram)
{
	ram->page_size = span_page_size(ram->fd);
	ram->sparse = ram->page_size == SPAN_PAGE; /* hugetlbfs calls everything data */
}

static struct ram *ram_alloc(void)
{
	struct ram *ram = calloc(1, sizeof(*ram));

	if (ram)
		ram->fd = ram->origin = -1;
	return ram;
}

/* Takes over an O_PATH descriptor. */
static int ram_take_origin(
	struct ram *ram, int origin, const char *name, char *error, size_t error_size)
{
	ram->origin = origin;
	if (fstat(origin, &ram->st) < 0) {
		int r = -errno;

		snprintf(error, error_size, "cannot look at %s: %s", name, strerror(-r));
		return r;
	}
	return check_regular(&ram->st, name, error, error_size);
}

static int ram_open_plain(struct ram *ram, const char *name, char *error, size_t error_size)
{
	ram->fd = reopen(ram->origin, O_RDONLY);
	if (ram->fd >= 0)
		return 0;
	snprintf(error, error_size, "cannot open %s for reading: %s", name, strerror(-ram->fd));
	return ram->fd;
}

/* `place` may be NULL. */
static int ram_open_guarded(struct ram *ram, const struct beneath *place, const char *name,
	char *error, size_t error_size)
{
	bool private_mode = !(ram->st.st_mode & (S_IWGRP | S_IWOTH));

	ram->fd = place ? open_through_view(place, &ram->st) : -ENOENT;
	if (ram->fd >= 0) {
		if (private_mode && !ram_attack(ram->fd))
			ram->guard = VMSIG_GUARD_RO_MOUNT;
	} else {
		int r = ram_open_plain(ram, name, error, error_size);

		if (r)
			return r;
		if (seals_forbid_writing(ram->fd))
			ram->guard = VMSIG_GUARD_SEALED;
		else if (private_mode)
			ram->guard = VMSIG_GUARD_MODE;
	}
	ram_note_filesystem(ram);
	return 0;
}

static int out_of_memory(char *error, size_t error_size)
{
	snprintf(error, error_size, "out of memory");
	return -ENOMEM;
}

static int ram_init_path(
	struct ram *ram, const char *path, uid_t owner, char *error, size_t error_size)
{
	struct beneath place;
	int r = beneath_open(&place, path, owner, error, error_size);

	if (r)
		return r;
	ram->owner = owner;
	ram->path = strdup(path);
	r = ram_take_origin(ram, place.file, path, error, error_size);
	place.file = -1;
	if (!r && !ram->path)
		r = out_of_memory(error, error_size);
	if (!r) {
		/* A VM that is started again opens its file by path: the owner keeps his bits. */
		narrow_mode(ram, 0700);
		r = ram_open_guarded(ram, &place, path, error, error_size);
	}
	beneath_close(&place);
	return r;
}

int ram_open_path(
	struct ram **ret_ram, const char *path, uid_t owner, char *error, size_t error_size)
{
	struct ram *ram = ram_alloc();
	int r = ram ? ram_init_path(ram, path, owner, error, error_size)
		    : out_of_memory(error, error_size);

	if (r)
		ram_free(ram);
	else
		*ret_ram = ram;
	return r;
}

/* Where the file is, if it has a name that we can walk to; the kernel knows it. */
static bool find_place(const struct ram *ram, struct beneath *ret_place)
{
	char link[PROC_PATH_MAX], path[PATH_MAX], why[256];
	struct stat st;
	ssize_t n;

	fd_path(ram->origin, link);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0 || path[0] != '/')
		return false;
	path[n] = '\0';
	if (beneath_open(ret_place, path, ram->st.st_uid, why, sizeof(why)))
		return false;
	if (fstat(ret_place->file, &st) == 0 && same_file(&st, &ram->st))
		return true;
	beneath_close(ret_place);
	return false;
}

static int ram_init_mapped(struct ram *ram, const struct mapper *mapper,
	const struct mapping_wanted *wanted, char *error, size_t error_size)
{
	struct mapping mapping;
	struct beneath place;
	bool placed;
	int origin, r = mapper_find(mapper, wanted, &mapping, error, error_size);

	if (!r)
		r = mapper_open(&origin, mapper, &mapping, error, error_size);
	if (r)
		return r;
	ram->device = mapping.device;
	r = ram_take_origin(ram, origin, mapping.name, error, error_size);
	if (r)
		return r;
	placed = find_place(ram, &place);
	/* QEMU opens a file by its path when it is started again, but no file without one. One that
	 * never had a name, or has none any more, is opened anew by nobody but holders, whoever
	 * made it (QEMU as root, before -runas). */
	if (ram->st.st_uid == mapper_uid(mapper) || !ram->st.st_nlink)
		narrow_mode(ram, placed ? 0700 : 0400);
	r = ram_open_guarded(ram, placed ? &place : NULL, mapping.name, error, error_size);
	if (placed)
		beneath_close(&place);
	return r;
}

int ram_open_mapped(struct ram **ret_ram, const struct mapper *mapper,
	const struct mapping_wanted *wanted, char *error, size_t error_size)
{
	struct ram *ram = ram_alloc();
	int r = ram ? ram_init_mapped(ram, mapper, wanted, error, error_size)
		    : out_of_memory(error, error_size);

	if (r) {
		ram_free(ram);
		return r;
	}
	ram->mapper = mapper;
	*ret_ram = ram;
	return 0;
}

/* ---- what somebody hands over ---- */

/* Which access the descriptor proves; negative: that of no RAM file. Seals are asked for before
 * anything else: no file system is asked for them, and only files in memory have some. */
static int access_of(int fd, const char **ret_why)
{
	int flags;

	if (fcntl(fd, F_GET_SEALS) < 0) {
		*ret_why = "is no file in memory; hand over a memfd, or a file on tmpfs or "
			   "hugetlbfs";
		return -1;
	}
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || (flags & O_ACCMODE) == O_WRONLY) {
		*ret_why = "cannot be read through its descriptor; open it O_RDONLY, or O_RDWR";
		return -1;
	}
	return flags & O_ACCMODE;
}

static int ram_init_given(
	struct ram *ram, int fd, const char *name, uid_t giver, char *error, size_t error_size)
{
	const char *why = NULL;
	struct beneath place;
	bool placed;
	int access = access_of(fd, &why), origin, r;

	if (access < 0) {
		snprintf(error, error_size, "%s %s", name, why);
		return VMSIG_ERR_BAD_REQUEST;
	}
	origin = reopen(fd, O_PATH);
	if (origin < 0) {
		snprintf(error, error_size, "cannot look at %s: %s", name, strerror(-origin));
		return origin;
	}
	r = ram_take_origin(ram, origin, name, error, error_size);
	if (r)
		return r;
	ram->read_only = access != O_RDWR;
	ram->borrowed = ram->read_only && ram->st.st_uid != giver;
	placed = find_place(ram, &place);
	/* A descriptor proves what its giver may do, and not that the file is his to change. */
	if (ram->st.st_uid == giver)
		narrow_mode(ram, placed ? 0700 : 0400);
	r = ram_open_guarded(ram, placed ? &place : NULL, name, error, error_size);
	if (placed)
		beneath_close(&place);
	return r;
}

int ram_open_given(
	struct ram **ret_ram, int fd, const char *name, uid_t giver, char *error, size_t error_size)
{
	struct ram *ram = ram_alloc();
	int r = ram ? ram_init_given(ram, fd, name, giver, error, error_size)
		    : out_of_memory(error, error_size);

	if (r)
		ram_free(ram);
	else
		*ret_ram = ram;
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

bool ram_is_borrowed(const struct ram *ram)
{
	return ram->borrowed;
}

int ram_share(const struct ram *ram)
{
	return reopen(ram->fd, O_RDONLY);
}

int ram_open_writable(const struct ram *ram)
{
	if (ram->read_only)
		return -EACCES;
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

dev_t ram_device(const struct ram *ram)
{
	return ram->st.st_dev;
}

ino_t ram_inode(const struct ram *ram)
{
	return ram->st.st_ino;
}

bool ram_is_sparse(const struct ram *ram)
{
	return ram->sparse;
}

uint64_t ram_page_size(const struct ram *ram)
{
	return ram->page_size;
}

static enum ram_change check_path(const struct ram *ram)
{
	struct beneath place;
	struct stat st;
	char why[256];
	int r = beneath_open(&place, ram->path, ram->owner, why, sizeof(why));
	bool same;

	/* What cannot be found out for want of descriptors is no evidence. */
	if (r == -EMFILE || r == -ENFILE || r == -ENOMEM)
		return RAM_SAME;
	if (r)
		return r == -ENOENT ? RAM_MISSING : RAM_REPLACED;
	same = fstat(place.file, &st) == 0 && same_file(&st, &ram->st);
	beneath_close(&place);
	return same ? RAM_SAME : RAM_REPLACED;
}

enum ram_change ram_check(const struct ram *ram)
{
	struct stat st;

	if (fstat(ram->fd, &st) < 0 || st.st_size < ram->st.st_size)
		return RAM_SHRUNK;
	if (ram->path)
		return check_path(ram);
	if (!ram->mapper)
		return RAM_SAME; /* the descriptor is all there is */
	return mapper_maps(ram->mapper, ram->device, ram->st.st_ino) ? RAM_SAME : RAM_UNMAPPED;
}
