/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/mapper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "broker/ram/mounts.h"
#include "proto/guest/span.h"
#include "vmsig/vmsig_error.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* asm-generic/socket.h, Linux 6.5 */
#endif

#define INSTEAD "or name its RAM file yourself with 'ram: FILE' for the endpoint"

struct mapper {
	unsigned refs;
	pid_t pid;
	int folder; /* /proc/PID */
};

/* ---- who it is ---- */

static int folder_open(pid_t pid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool is_running(int pidfd)
{
	struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};

	return poll(&poll_fd, 1, 0) == 0;
}

static int mapper_new(struct mapper **ret_mapper, pid_t pid, int folder)
{
	struct mapper *mapper = calloc(1, sizeof(*mapper));

	if (!mapper)
		return -ENOMEM;
	mapper->refs = 1;
	mapper->pid = pid;
	mapper->folder = folder;
	*ret_mapper = mapper;
	return 0;
}

static int gone(pid_t pid, char *error, size_t error_size)
{
	snprintf(error, error_size,
		"process %d, which made the QMP socket, has ended; start QEMU itself with -qmp "
		"unix:PATH,server=on, " INSTEAD,
		(int)pid);
	return VMSIG_ERR_UNSUPPORTED;
}

/* `pidfd` settles that the folder is of the process that was meant: as long as that one runs,
 * its pid is nobody else's. */
static int mapper_settle(
	struct mapper **ret_mapper, pid_t pid, int pidfd, char *error, size_t error_size)
{
	int r, folder = folder_open(pid);

	if (folder < 0 || !is_running(pidfd)) {
		if (folder >= 0)
			close(folder);
		return gone(pid, error, error_size);
	}
	r = mapper_new(ret_mapper, pid, folder);
	if (r) {
		close(folder);
		snprintf(error, error_size, "out of memory");
	}
	return r;
}

static int open_pid(pid_t pid)
{
	long fd = syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : (int)fd;
}

int mapper_of_pid(struct mapper **ret_mapper, pid_t pid, char *error, size_t error_size)
{
	int r, pidfd = open_pid(pid);

	if (pidfd < 0)
		return gone(pid, error, error_size);
	r = mapper_settle(ret_mapper, pid, pidfd, error, error_size);
	close(pidfd);
	return r;
}

int mapper_of_peer(struct mapper **ret_mapper, int socket, char *error, size_t error_size)
{
	struct ucred cred;
	socklen_t cred_len = sizeof(cred), pidfd_len = sizeof(int);
	int pidfd, r;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) < 0) {
		r = -errno;
		snprintf(error, error_size, "cannot tell which process is QEMU: %s", strerror(-r));
		return r;
	}
	if (cred.pid <= 0) {
		snprintf(error, error_size,
			"QEMU runs in a PID namespace that vmsigd cannot see into, so its RAM "
			"cannot be proven to be its own; run vmsigd in the host's PID "
			"namespace, " INSTEAD);
		return VMSIG_ERR_UNSUPPORTED;
	}
	/* Older kernels know the number only; who has it by now is taken for the one that
	 * listened (deploy/THREATS.md). */
	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &pidfd_len) < 0)
		return errno == ENOPROTOOPT ? mapper_of_pid(ret_mapper, cred.pid, error, error_size)
					    : gone(cred.pid, error, error_size);
	r = mapper_settle(ret_mapper, cred.pid, pidfd, error, error_size);
	close(pidfd);
	return r;
}

struct mapper *mapper_ref(struct mapper *mapper)
{
	mapper->refs++;
	return mapper;
}

struct mapper *mapper_unref(struct mapper *mapper)
{
	if (!mapper || --mapper->refs)
		return NULL;
	close(mapper->folder);
	free(mapper);
	return NULL;
}

pid_t mapper_pid(const struct mapper *mapper)
{
	return mapper->pid;
}

static FILE *open_text(int folder, const char *name)
{
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");

	if (fd >= 0 && !file)
		close(fd);
	return file;
}

uid_t mapper_uid(const struct mapper *mapper)
{
	FILE *status = open_text(mapper->folder, "status");
	char line[256];
	unsigned uid = (uid_t)-1;

	while (status && fgets(line, sizeof(line), status)) {
		/* Real, then effective. The kernel wrote it: a number always fits. */
		/* NOLINTNEXTLINE(cert-err34-c) */
		if (sscanf(line, "Uid: %*u %u", &uid) == 1)
			break;
	}
	if (status)
		fclose(status);
	return uid;
}

/* ---- what it maps ---- */

struct maps {
	FILE *file;
	char *text;
	size_t size;
	struct mapping next; /* read already */
	bool more;
};

/* Whoever made the file chose the bytes of its name, and people will read it. */
static void name_copy(char to[static MAPPING_NAME_MAX], const char *from)
{
	size_t len = strcspn(from, "\n");

	snprintf(to, MAPPING_NAME_MAX, "%.*s", (int)len, from);
	for (; *to; to++) {
		if (*to < ' ' || *to > '~')
			*to = '?';
	}
}

/* A line of proc(5) /proc/PID/maps that is of a file, shared and writable. */
static bool line_parse(const char *text, struct mapping *ret_mapping)
{
	unsigned long long start, end, offset, inode;
	unsigned major_, minor_;
	char write, share;
	int name = 0;

	/* NOLINTNEXTLINE(cert-err34-c): as above */
	if (sscanf(text, "%llx-%llx %*c%c%*c%c %llx %x:%x %llu %n", &start, &end, &write, &share,
		    &offset, &major_, &minor_, &inode, &name) != 8)
		return false;
	if (write != 'w' || share != 's' || !inode)
		return false;
	*ret_mapping = (struct mapping){.start = start,
		.end = end,
		.offset = offset,
		.part_end = end,
		.device = makedev(major_, minor_),
		.inode = inode};
	if (name)
		name_copy(ret_mapping->name, text + name);
	return true;
}

static bool maps_read(struct maps *maps)
{
	maps->more = false;
	while (!maps->more && getline(&maps->text, &maps->size, maps->file) > 0)
		maps->more = line_parse(maps->text, &maps->next);
	return maps->more;
}

static int maps_open(struct maps *maps, const struct mapper *mapper)
{
	*maps = (struct maps){.file = open_text(mapper->folder, "maps")};
	if (!maps->file)
		return -errno;
	(void)maps_read(maps);
	return 0;
}

static void maps_close(struct maps *maps)
{
	fclose(maps->file);
	free(maps->text);
}

/* madvise(2) and the like split what was mapped at once. */
static bool maps_next(struct maps *maps, struct mapping *ret_mapping)
{
	struct mapping *next = &maps->next;

	if (!maps->more)
		return false;
	*ret_mapping = *next;
	while (maps_read(maps) && next->device == ret_mapping->device &&
		next->inode == ret_mapping->inode && next->start == ret_mapping->end &&
		next->offset == ret_mapping->offset + (ret_mapping->end - ret_mapping->start))
		ret_mapping->end = next->end;
	return true;
}

static bool same_inode(const struct mapping *a, const struct mapping *b)
{
	return a->device == b->device && a->inode == b->inode;
}

static bool covers(const struct mapping *mapping, const struct mapping_wanted *wanted)
{
	uint64_t len = mapping->end - mapping->start;

	return mapping->offset <= wanted->offset && wanted->size <= len &&
	       wanted->offset - mapping->offset <= len - wanted->size;
}

/* At that address, or, when none is known, of exactly that size. */
static bool fits(const struct mapping *mapping, const struct mapping_wanted *wanted)
{
	if (!covers(mapping, wanted))
		return false;
	if (!wanted->hva)
		return mapping->offset == wanted->offset &&
		       mapping->end - mapping->start == wanted->size;
	return mapping->start <= wanted->hva && wanted->hva < mapping->end &&
	       mapping->offset + (wanted->hva - mapping->start) == wanted->hva_offset;
}

/* The name is the hint, lies in it, or ends with its last component. */
static bool hint_fits(const struct mapping *mapping, const char *hint)
{
	const char *base = hint ? strrchr(hint, '/') : NULL;
	size_t len = hint ? strlen(hint) : 0;
	const char *name = strrchr(mapping->name, '/');

	if (!len)
		return false;
	if (strncmp(mapping->name, hint, len) == 0)
		return true;
	base = base ? base + 1 : hint;
	return name && strncmp(name + 1, base, strlen(base)) == 0;
}

struct found {
	struct mapping any, hinted; /* the first ones */
	unsigned files, hinted_files;
};

static void found_add(
	struct found *found, const struct mapping *mapping, const struct mapping_wanted *wanted)
{
	if (found->files == 0 || !same_inode(&found->any, mapping))
		found->files++;
	if (found->files == 1)
		found->any = *mapping;
	if (!hint_fits(mapping, wanted->hint))
		return;
	if (found->hinted_files == 0 || !same_inode(&found->hinted, mapping))
		found->hinted_files++;
	if (found->hinted_files == 1)
		found->hinted = *mapping;
}

static int found_one(const struct mapper *mapper, const struct found *found,
	struct mapping *ret_mapping, char *error, size_t error_size)
{
	if (found->files == 1 || found->hinted_files == 1) {
		*ret_mapping = found->files == 1 ? found->any : found->hinted;
		return 0;
	}
	if (found->files)
		snprintf(error, error_size,
			"process %d maps %u files of the size of guest RAM; which one it is cannot "
			"be told: give the other memory another size, " INSTEAD,
			(int)mapper->pid, found->files);
	else
		snprintf(error, error_size,
			"process %d, which made the QMP socket, does not map guest RAM shared and "
			"writable, so it is not proven to be its RAM; start QEMU itself with -qmp "
			"unix:PATH,server=on and share=on, " INSTEAD,
			(int)mapper->pid);
	return VMSIG_ERR_UNSUPPORTED;
}

static int no_maps(const struct mapper *mapper, int r, char *error, size_t error_size)
{
	snprintf(error, error_size,
		"cannot look at what QEMU maps (/proc/%d/maps: %s); run vmsigd as root or as "
		"QEMU's user, " INSTEAD,
		(int)mapper->pid, strerror(-r));
	return r;
}

int mapper_find(const struct mapper *mapper, const struct mapping_wanted *wanted,
	struct mapping *ret_mapping, char *error, size_t error_size)
{
	struct found found = {0};
	struct mapping mapping;
	struct maps maps;
	int r = maps_open(&maps, mapper);

	if (r)
		return no_maps(mapper, r, error, error_size);
	while (maps_next(&maps, &mapping)) {
		if (fits(&mapping, wanted))
			found_add(&found, &mapping, wanted);
	}
	maps_close(&maps);
	return found_one(mapper, &found, ret_mapping, error, error_size);
}

bool mapper_maps(const struct mapper *mapper, dev_t device, ino_t inode)
{
	const struct mapping wanted = {.device = device, .inode = inode};
	struct mapping mapping;
	struct maps maps;
	bool is = false;
	int r = maps_open(&maps, mapper);

	if (r)
		return r != -ESRCH && r != -ENOENT;
	while (!is && maps_next(&maps, &mapping))
		is = same_inode(&mapping, &wanted);
	maps_close(&maps);
	return is;
}

/* ---- the file that is mapped ---- */

/* What our own maps say of the file, in the same words: on some file systems st_dev is another
 * number than the superblock's. */
static bool maps_say_same(int fd, const struct mapping *mapping)
{
	char path[64], *text = NULL;
	unsigned long long start, inode;
	unsigned major_, minor_;
	size_t size = 0;
	bool same = false;
	void *at = MAP_FAILED;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd >= 0)
		at = mmap(NULL, 1, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	maps = at == MAP_FAILED ? NULL : fopen("/proc/self/maps", "re");
	while (!same && maps && getline(&text, &size, maps) > 0)
		/* NOLINTNEXTLINE(cert-err34-c): as above */
		same = sscanf(text, "%llx-%*x %*s %*x %x:%x %llu", &start, &major_, &minor_,
			       &inode) == 4 &&
		       start == (uintptr_t)at && inode == mapping->inode &&
		       makedev(major_, minor_) == mapping->device;
	free(text);
	if (maps)
		fclose(maps);
	if (at != MAP_FAILED)
		munmap(at, (size_t)span_page_size(fd));
	if (fd >= 0)
		close(fd);
	return same;
}

static bool is_mapped_file(int fd, const struct mapping *mapping)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &stx) < 0 ||
		!S_ISREG(stx.stx_mode) || stx.stx_ino != mapping->inode)
		return false;
	return makedev(stx.stx_dev_major, stx.stx_dev_minor) == mapping->device ||
	       maps_say_same(fd, mapping);
}

/* Needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE, but QEMU need not have it open. */
static int open_map_file(const struct mapper *mapper, const struct mapping *mapping)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "map_files/%llx-%llx", (unsigned long long)mapping->start,
		(unsigned long long)mapping->part_end);
	fd = openat(mapper->folder, name, O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_candidate(int dir, const char *name, const struct mapping *mapping)
{
	struct statx stx;
	int fd;

	/* The link is followed, but no file system is asked. */
	if (statx(dir, name, AT_STATX_DONT_SYNC, STATX_INO, &stx) < 0 ||
		stx.stx_ino != mapping->inode)
		return -ENOENT;
	fd = openat(dir, name, O_PATH | O_CLOEXEC);
	if (fd >= 0 && !is_mapped_file(fd, mapping)) {
		close(fd);
		return -ENOENT;
	}
	return fd < 0 ? -errno : fd;
}

/* For a broker with QEMU's uid and no more. */
static int open_open_file(const struct mapper *mapper, const struct mapping *mapping)
{
	int list = openat(mapper->folder, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = list < 0 ? NULL : fdopendir(list);
	struct dirent *entry;
	int fd = -ENOENT;

	if (!dir) {
		fd = -errno;
		if (list >= 0)
			close(list);
		return fd;
	}
	while (fd < 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			fd = open_candidate(dirfd(dir), entry->d_name, mapping);
	}
	closedir(dir);
	return fd;
}

static int check_device(
	const struct mapper *mapper, const struct mapping *mapping, char *error, size_t error_size)
{
	int table = openat(mapper->folder, "mountinfo", O_RDONLY | O_CLOEXEC);
	char type[MOUNTS_TYPE_MAX];
	bool local = mounts_device_is_local(mapping->device, table, type);

	if (table >= 0)
		close(table);
	if (local)
		return 0;
	snprintf(error, error_size,
		"guest RAM (%s) is on a file system (%s) whose accesses may wait for another "
		"process or host; put it on tmpfs, hugetlbfs or a local disk, or use a memfd",
		mapping->name, type);
	return VMSIG_ERR_UNSUPPORTED;
}

int mapper_open(int *ret_fd, const struct mapper *mapper, const struct mapping *mapping,
	char *error, size_t error_size)
{
	/* Before anything is asked of the file. */
	int fd, r = check_device(mapper, mapping, error, error_size);

	if (r)
		return r;
	fd = open_map_file(mapper, mapping);
	if (fd < 0)
		fd = open_open_file(mapper, mapping);
	if (fd < 0) {
		snprintf(error, error_size,
			"cannot open the file that QEMU maps (/proc/%d/map_files, fd: %s); run "
			"vmsigd as root or as QEMU's user, " INSTEAD,
			(int)mapper->pid, strerror(-fd));
		return fd;
	}
	/* By what was opened: the address may have got another mapping meanwhile. */
	if (is_mapped_file(fd, mapping) && mapper_maps(mapper, mapping->device, mapping->inode)) {
		*ret_fd = fd;
		return 0;
	}
	close(fd);
	snprintf(error, error_size, "QEMU has just changed what it maps; will look again");
	return VMSIG_ERR_UNSUPPORTED;
}
