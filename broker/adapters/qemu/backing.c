/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/backing.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

#define PROC_MAX 64
#define MEMFD_TARGET "/memfd:memory-backend-memfd" /* backends/hostmem-memfd.c */
#define DIRECTORY_FILE "/qemu_back_mem."           /* softmmu/physmem.c, file_ram_open() */
#define DELETED " (deleted)"

/* What to look for among a process's descriptors. */
struct wanted {
	const char *target;      /* of the link */
	bool prefix;             /* the target goes on after that */
	uint64_t size;           /* the file has at least this many bytes, 0: any */
	const struct stat *same; /* or: this very file */
};

/* Descriptors of one file count once, so what is kept is the file. */
struct found {
	int fd;
	unsigned files;
	struct stat st;
};

static bool target_matches(const struct wanted *wanted, char *target)
{
	size_t len = strlen(target);
	size_t tail = strlen(DELETED);

	if (len > tail && strcmp(target + len - tail, DELETED) == 0)
		target[len - tail] = 0;
	if (wanted->prefix)
		return strncmp(target, wanted->target, strlen(wanted->target)) == 0;
	return strcmp(target, wanted->target) == 0;
}

static bool fd_matches(
	int dir, const char *name, const struct wanted *wanted, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t n;

	if (!S_ISREG(st->st_mode))
		return false;
	if (wanted->same)
		return st->st_dev == wanted->same->st_dev && st->st_ino == wanted->same->st_ino;
	n = readlinkat(dir, name, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = 0;
	return target_matches(wanted, target) && (uint64_t)st->st_size >= wanted->size;
}

/* Whether the process maps the file shared: a copy of guest RAM would not be. */
static bool is_mapped(const char *proc, const struct stat *st)
{
	char path[PATH_MAX], line[PATH_MAX + 128];
	unsigned long long inode;
	unsigned int major_, minor_;
	bool mapped = false;
	char share;
	FILE *maps;

	snprintf(path, sizeof(path), "%s/maps", proc);
	maps = fopen(path, "re");
	if (!maps)
		return false;
	while (!mapped && fgets(line, sizeof(line), maps)) {
		/* The kernel wrote the line: a number that does not fit cannot be there. */
		/* NOLINTNEXTLINE(cert-err34-c) */
		if (sscanf(line, "%*x-%*x %*c%*c%*c%c %*x %x:%x %llu", &share, &major_, &minor_,
			    &inode) == 4)
			mapped = share == 's' && inode == st->st_ino &&
				 makedev(major_, minor_) == st->st_dev;
	}
	fclose(maps);
	return mapped;
}

static void found_add(struct found *found, const char *proc, int fd, const struct stat *st)
{
	if (found->files && found->st.st_dev == st->st_dev && found->st.st_ino == st->st_ino)
		return;
	if (!is_mapped(proc, st))
		return;
	found->files++;
	found->fd = fd;
	found->st = *st;
}

static int find_fd(const char *proc, const struct wanted *wanted, struct found *found)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/fd", proc);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		struct stat st;

		if (entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 &&
			fd_matches(dirfd(dir), entry->d_name, wanted, &st))
			found_add(found, proc, (int)strtol(entry->d_name, NULL, 10), &st);
	}
	closedir(dir);
	return 0;
}

static int found_one(const struct found *found, const char *proc, const char *target, int *ret_fd,
	char *error, size_t error_size)
{
	if (found->files == 1) {
		*ret_fd = found->fd;
		return 0;
	}
	if (found->files)
		snprintf(error, error_size,
			"%s has %u files %s of that size; which is guest RAM cannot be told: use "
			"memory-backend-file with a mem-path that names a file",
			proc, found->files, target);
	else
		snprintf(error, error_size, "%s has no file %s open and mapped", proc, target);
	return VMSIG_ERR_UNSUPPORTED;
}

int backing_find_fd(const char *proc, const char *target, bool prefix, uint64_t size, int *ret_fd,
	char *error, size_t error_size)
{
	const struct wanted wanted = {.target = target, .prefix = prefix, .size = size};
	struct found found = {0};
	int r = find_fd(proc, &wanted, &found);

	if (r) {
		snprintf(error, error_size,
			"cannot look at the open files of QEMU (%s/fd: %s); run vmsigd as root or "
			"as "
			"QEMU's user, or name a file in mem-path",
			proc, strerror(-r));
		return r;
	}
	return found_one(&found, proc, target, ret_fd, error, error_size);
}

static int open_by_fd(struct ram **ret_ram, pid_t pid, const char *target, bool prefix,
	uint64_t size, char *error, size_t error_size)
{
	char proc[PROC_MAX];
	int fd, r;

	snprintf(proc, sizeof(proc), "/proc/%d", (int)pid);
	r = backing_find_fd(proc, target, prefix, size, &fd, error, error_size);
	return r ? r : ram_open_proc_fd(ret_ram, pid, fd, error, error_size);
}

/* mem-path names a directory: QEMU made a file in it and unlinked it. */
static int open_in_directory(struct ram **ret_ram, pid_t pid, const struct memmap_backend *backend,
	char *error, size_t error_size)
{
	char target[PATH_MAX + 256], real[PATH_MAX];

	if (!realpath(backend->path, real))
		snprintf(real, sizeof(real), "%s", backend->path);
	snprintf(target, sizeof(target), "%s" DIRECTORY_FILE, real);
	return open_by_fd(ret_ram, pid, target, true, backend->size, error, error_size);
}

/* Whether QEMU has another file open than the one that the path names now. An answer that
 * cannot be had is no evidence: the proof of the kernel root settles it. */
static bool path_is_stale(pid_t pid, const char *path, const struct stat *st)
{
	const struct wanted same = {.same = st};
	const struct wanted named = {.target = path};
	struct found found = {0};
	char proc[PROC_MAX];

	snprintf(proc, sizeof(proc), "/proc/%d", (int)pid);
	if (find_fd(proc, &same, &found) || found.files)
		return false;
	return find_fd(proc, &named, &found) == 0 && found.files;
}

static int open_file(struct ram **ret_ram, pid_t pid, const struct memmap_backend *backend,
	char *error, size_t error_size)
{
	char real[PATH_MAX];
	struct stat st;

	if (stat(backend->path, &st) < 0)
		return open_by_fd(
			ret_ram, pid, backend->path, false, backend->size, error, error_size);
	if (S_ISDIR(st.st_mode))
		return open_in_directory(ret_ram, pid, backend, error, error_size);
	if (!realpath(backend->path, real))
		snprintf(real, sizeof(real), "%s", backend->path);
	if (path_is_stale(pid, real, &st))
		return open_by_fd(ret_ram, pid, real, false, backend->size, error, error_size);
	return ram_open_path(ret_ram, backend->path, error, error_size);
}

int backing_open(struct ram **ret_ram, pid_t pid, const struct memmap_backend *backend, char *error,
	size_t error_size)
{
	struct ram *ram;
	int r = backend->type == MEMMAP_MEMFD ? open_by_fd(&ram, pid, MEMFD_TARGET, false,
							backend->size, error, error_size)
					      : open_file(&ram, pid, backend, error, error_size);

	if (r)
		return r;
	if (ram_size(ram) < backend->size) {
		snprintf(error, error_size,
			"the file of backend %s has %llu bytes, its size is %llu", backend->id,
			(unsigned long long)ram_size(ram), (unsigned long long)backend->size);
		ram_free(ram);
		return VMSIG_ERR_UNSUPPORTED;
	}
	*ret_ram = ram;
	return 0;
}
