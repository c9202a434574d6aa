/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/ram/mounts.h"
#include "vmsig/vmsig_error.h"

#define LINKS_MAX 40 /* as the kernel's own */
#define LOOK_MASK (STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_INO | STATX_MNT_ID)

struct walk {
	const char *path; /* for sentences */
	char rest[PATH_MAX];
	int folder;      /* O_PATH; where `rest` goes on */
	struct statx at; /* of `folder` */
	bool foreign;    /* others have a say in what names mean from here on */
	unsigned links;
	char *error;
	size_t error_size;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct walk *walk, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(walk->error, walk->error_size, format, args);
	va_end(args);
	return VMSIG_ERR_BAD_REQUEST;
}

static int failed(struct walk *walk, int r)
{
	snprintf(walk->error, walk->error_size, "cannot open %s: %s", walk->path, strerror(-r));
	return r;
}

/* DONT_SYNC: what the kernel knows already, so that no file system is asked. */
static int look(int fd, struct statx *ret_stx)
{
	return statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, LOOK_MASK,
		       ret_stx) < 0
		       ? -errno
		       : 0;
}

static bool is_ours(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

static bool others_write(const struct statx *folder)
{
	return folder->stx_mode & (S_IWGRP | S_IWOTH);
}

/* A mount point shows the root of what is mounted there, which is known without asking it. */
static int check_mount(struct walk *walk, const struct statx *stx)
{
	char type[MOUNTS_TYPE_MAX] = "unknown";
	int r;

	if (stx->stx_mnt_id == walk->at.stx_mnt_id)
		return 0;
	r = mounts_type_of_id(stx->stx_mnt_id, type);
	/* What we lack says nothing of the file system. */
	if (r && r != -ENOENT)
		return failed(walk, r);
	if (!r && mounts_type_is_local(type))
		return 0;
	return refuse(walk,
		"%s is on a file system (%s) whose accesses wait for another process or host; put "
		"it on tmpfs, hugetlbfs or a local disk",
		walk->path, type);
}

/* Takes over `fd`. */
static int enter(struct walk *walk, int fd)
{
	struct statx stx;
	int r = look(fd, &stx);

	r = r ? failed(walk, r) : walk->folder < 0 ? 0 : check_mount(walk, &stx);
	if (!r && !S_ISDIR(stx.stx_mode))
		r = failed(walk, -ENOTDIR);
	if (r) {
		close(fd);
		return r;
	}
	if (walk->folder >= 0)
		close(walk->folder);
	walk->folder = fd;
	walk->at = stx;
	if (!is_ours(stx.stx_uid) || others_write(&stx))
		walk->foreign = true;
	return 0;
}

static int enter_root(struct walk *walk)
{
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return failed(walk, -errno);
	/* Its mount counts as seen: one runs from somewhere. */
	if (walk->folder >= 0)
		close(walk->folder);
	walk->folder = -1;
	return enter(walk, fd);
}

/* Takes the first component off `rest`. False: there is none. */
static bool next_name(struct walk *walk, char name[static NAME_MAX + 1])
{
	size_t skip = strspn(walk->rest, "/");
	size_t len = strcspn(walk->rest + skip, "/");

	if (!len)
		return false;
	/* What is cut off here does not exist, and is told as too long below. */
	snprintf(name, NAME_MAX + 1, "%.*s", (int)(len < NAME_MAX ? len : NAME_MAX),
		walk->rest + skip);
	memmove(walk->rest, walk->rest + skip + len, strlen(walk->rest + skip + len) + 1);
	return true;
}

static bool is_last(const struct walk *walk)
{
	return walk->rest[strspn(walk->rest, "/")] == '\0';
}

/* The link's text goes before what is left of the path. */
static int follow(struct walk *walk, int fd)
{
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t n = readlinkat(fd, "", target, sizeof(target) - 1);

	close(fd);
	if (n < 0)
		return failed(walk, -errno);
	if (++walk->links > LINKS_MAX)
		return failed(walk, -ELOOP);
	target[n] = '\0';
	if (snprintf(rest, sizeof(rest), "%s/%s", target, walk->rest) >= (int)sizeof(rest))
		return failed(walk, -ENAMETOOLONG);
	memcpy(walk->rest, rest, sizeof(rest));
	return target[0] == '/' ? enter_root(walk) : 0;
}

/* What `name` is in the folder that the walk has come to; O_PATH. */
static int open_name(struct walk *walk, const char *name, struct statx *ret_stx, int *ret_fd)
{
	int fd, r;

	if (walk->foreign && strcmp(name, "..") == 0)
		return refuse(walk,
			"%s: there is a '..' behind a folder that others may write to; write the "
			"path without it",
			walk->path);
	fd = openat(walk->folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return failed(walk, -errno);
	r = look(fd, ret_stx);
	if (r) {
		close(fd);
		return failed(walk, r);
	}
	*ret_fd = fd;
	return 0;
}

static int refuse_link(struct walk *walk, const char *name, int fd)
{
	close(fd);
	return refuse(walk,
		"%s: '%s' is a symbolic link in a folder that others may write to, so they decide "
		"what it means; name the file itself",
		walk->path, name);
}

/* Goes on to the last component. 0: `fd` is what the path means. */
static int walk_to_end(
	struct walk *walk, char name[static NAME_MAX + 1], struct statx *ret_stx, int *ret_fd)
{
	int r;

	while (next_name(walk, name)) {
		int fd = -1;

		r = open_name(walk, name, ret_stx, &fd);
		if (r)
			return r;
		if (S_ISLNK(ret_stx->stx_mode)) {
			r = walk->foreign ? refuse_link(walk, name, fd) : follow(walk, fd);
		} else if (is_last(walk)) {
			*ret_fd = fd;
			return 0;
		} else {
			r = enter(walk, fd);
		}
		if (r)
			return r;
	}
	return failed(walk, -EISDIR);
}

static bool owner_fits(const struct walk *walk, const struct statx *stx, uid_t owner)
{
	bool sticky = walk->at.stx_mode & S_ISVTX && is_ours(walk->at.stx_uid);

	return stx->stx_uid == walk->at.stx_uid || stx->stx_uid == owner ||
	       (sticky && is_ours(stx->stx_uid));
}

static int check_owner(struct walk *walk, const struct statx *stx, uid_t owner)
{
	if (!walk->foreign || S_ISDIR(stx->stx_mode))
		return 0;
	if (!owner_fits(walk, stx, owner))
		return refuse(walk,
			"%s belongs to uid %u, but its folder, which others may write to, to uid "
			"%u; if that is right, write 'owner: %u' for the endpoint, or keep it in a "
			"folder of its owner's",
			walk->path, stx->stx_uid, walk->at.stx_uid, stx->stx_uid);
	if (stx->stx_nlink > 1)
		return refuse(walk,
			"%s has %u names (hard links), and others may write to its folder; it must "
			"have one name only",
			walk->path, stx->stx_nlink);
	return 0;
}

static int walk_init(struct walk *walk, const char *path, char *error, size_t error_size)
{
	*walk = (struct walk){.path = path, .folder = -1, .error = error, .error_size = error_size};
	if ((size_t)snprintf(walk->rest, sizeof(walk->rest), "%s", path) >= sizeof(walk->rest))
		return failed(walk, -ENAMETOOLONG);
	return enter_root(walk);
}

int beneath_open(
	struct beneath *ret_beneath, const char *path, uid_t owner, char *error, size_t error_size)
{
	struct beneath beneath = {.file = -1};
	struct statx stx = {0};
	struct walk walk;
	int r = walk_init(&walk, path, error, error_size);

	if (!r)
		r = walk_to_end(&walk, beneath.name, &stx, &beneath.file);
	if (!r)
		r = check_mount(&walk, &stx);
	if (!r)
		r = check_owner(&walk, &stx, owner);
	beneath.folder = walk.folder;
	if (r)
		beneath_close(&beneath);
	else
		*ret_beneath = beneath;
	return r;
}

void beneath_close(struct beneath *beneath)
{
	if (beneath->file >= 0)
		close(beneath->file);
	if (beneath->folder >= 0)
		close(beneath->folder);
	beneath->file = beneath->folder = -1;
}

int beneath_enter(
	struct beneath_folder *ret_folder, const char *path, char *error, size_t error_size)
{
	char name[NAME_MAX + 1];
	struct statx stx = {0};
	struct walk walk;
	int fd = -1, r = walk_init(&walk, path, error, error_size);

	if (!r && !is_last(&walk))
		r = walk_to_end(&walk, name, &stx, &fd);
	else if (!r)
		fd = fcntl(walk.folder, F_DUPFD_CLOEXEC, 0);
	if (!r)
		r = enter(&walk, fd);
	if (r) {
		if (walk.folder >= 0)
			close(walk.folder);
		return r;
	}
	*ret_folder =
		(struct beneath_folder){.fd = walk.folder, .at = walk.at, .foreign = walk.foreign};
	return 0;
}

int beneath_open_folder(int *ret_fd, const char *path, char *error, size_t error_size)
{
	struct beneath_folder folder;
	int r = beneath_enter(&folder, path, error, error_size);

	if (!r)
		*ret_fd = folder.fd;
	return r;
}

int beneath_pick(const struct beneath_folder *folder, const char *path, uid_t owner, int *ret_fd,
	char *error, size_t error_size)
{
	const char *slash = strrchr(path, '/');
	struct walk walk = {.path = path,
		.folder = folder->fd,
		.at = folder->at,
		.foreign = folder->foreign,
		.error = error,
		.error_size = error_size};
	struct statx stx = {0};
	int fd = -1, r = open_name(&walk, slash ? slash + 1 : path, &stx, &fd);

	if (r)
		return r;
	if (S_ISLNK(stx.stx_mode))
		r = refuse(&walk, "%s is a symbolic link; put the file itself there", path);
	if (!r)
		r = check_mount(&walk, &stx);
	if (!r)
		r = check_owner(&walk, &stx, owner);
	if (r)
		close(fd);
	else
		*ret_fd = fd;
	return r;
}
