/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26 /* linux/memfd.h */
#endif

#define OWN_MOUNTINFO "/proc/self/mountinfo"

/* Everything else waits for another process or host. */
static const struct {
	const char *name;
	bool stacked; /* has its files on another one, which may be any */
} local[] = {
	{"tmpfs", false},
	{"hugetlbfs", false},
	{"ramfs", false},
	{"devtmpfs", false},
	{"ext4", false},
	{"ext3", false},
	{"ext2", false},
	{"xfs", false},
	{"btrfs", false},
	{"bcachefs", false},
	{"f2fs", false},
	{"zfs", false},
	{"rootfs", false},
	{"overlay", true},
};

static bool type_is_local(const char *type, bool stacked)
{
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
		if (strcmp(local[i].name, type) == 0)
			return stacked || !local[i].stacked;
	}
	return false;
}

bool mounts_type_is_local(const char *type)
{
	return type_is_local(type, true);
}

struct mount_line {
	uint64_t id;
	dev_t device;
	char type[MOUNTS_TYPE_MAX];
};

/* "36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw": proc(5). */
static bool line_parse(const char *text, struct mount_line *ret_line)
{
	unsigned long long id;
	unsigned major_, minor_;
	const char *tail = strstr(text, " - ");

	/* The kernel wrote it: a number that does not fit cannot be there. */
	/* NOLINTNEXTLINE(cert-err34-c) */
	if (!tail || sscanf(text, "%llu %*u %u:%u", &id, &major_, &minor_) != 3)
		return false;
	ret_line->id = id;
	ret_line->device = makedev(major_, minor_);
	return sscanf(tail, " - %63s", ret_line->type) == 1;
}

/* The first line with this device. */
static int find(FILE *table, dev_t device, char type[static MOUNTS_TYPE_MAX])
{
	struct mount_line line;
	char *text = NULL;
	size_t size = 0;
	int r = -ENOENT;

	errno = 0;
	while (r && getline(&text, &size, table) > 0) {
		if (!line_parse(text, &line) || line.device != device)
			continue;
		snprintf(type, MOUNTS_TYPE_MAX, "%s", line.type);
		r = 0;
	}
	if (r && errno == ENOMEM)
		r = -ENOMEM;
	free(text);
	return r;
}

/* ---- the table of our own namespace ---- */

/*
 * The kernel says who has the table open and polls whether a mount has come or gone since he read
 * it (proc(5)). So a thousand endpoints that are looked at every second do not have it printed
 * for each of them, which takes as long as there are mounts. A mount that somebody has open keeps
 * its id, and no other one gets that before the first one's end was told.
 */
static struct {
	pthread_mutex_t lock;
	FILE *file;
	struct mount_line *lines;
	size_t nlines, room;
	bool is_whole; /* as it was when `file` was polled last */
} own = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int own_add(const struct mount_line *line)
{
	if (own.nlines == own.room) {
		size_t room = own.room ? 2 * own.room : 64;
		struct mount_line *lines = realloc(own.lines, room * sizeof(*lines));

		if (!lines)
			return -ENOMEM;
		own.lines = lines;
		own.room = room;
	}
	own.lines[own.nlines++] = *line;
	return 0;
}

static int own_read(void)
{
	struct mount_line line;
	char *text = NULL;
	size_t size = 0;
	int r = 0;

	own.nlines = 0;
	rewind(own.file);
	errno = 0;
	while (!r && getline(&text, &size, own.file) > 0) {
		if (line_parse(text, &line))
			r = own_add(&line);
	}
	if (!r && !feof(own.file))
		r = errno ? -errno : -EIO;
	free(text);
	return r;
}

/* What comes or goes while it is read shows the next time. */
static int own_look(void)
{
	struct pollfd poller = {.events = POLLPRI};
	int r;

	if (!own.file)
		own.file = fopen(OWN_MOUNTINFO, "re");
	if (!own.file)
		return -errno;
	poller.fd = fileno(own.file);
	if (poll(&poller, 1, 0) == 0 && own.is_whole)
		return 0;
	r = own_read();
	own.is_whole = !r;
	return r;
}

static int own_find(uint64_t id, char type[static MOUNTS_TYPE_MAX])
{
	for (size_t i = 0; i < own.nlines; i++) {
		if (own.lines[i].id != id)
			continue;
		memcpy(type, own.lines[i].type, MOUNTS_TYPE_MAX);
		return 0;
	}
	return -ENOENT;
}

/* Whoever has gone into another namespace has another table. */
static void own_leave(void)
{
	fclose(own.file);
	own.file = NULL;
	own.is_whole = false;
}

static int own_type(uint64_t id, char type[static MOUNTS_TYPE_MAX])
{
	bool is_new = !own.file;
	int r = own_look();

	if (!r)
		r = own_find(id, type);
	if (r != -ENOENT || is_new || !own.file)
		return r;
	own_leave();
	r = own_look();
	return r ? r : own_find(id, type);
}

int mounts_type_of_id(uint64_t id, char ret_type[static MOUNTS_TYPE_MAX])
{
	int r;

	pthread_mutex_lock(&own.lock);
	r = own_type(id, ret_type);
	pthread_mutex_unlock(&own.lock);
	return r;
}

/* ---- by device ---- */

/* The kernel's own mounts are in no table, but a file of ours there tells which they are: one
 * for memfds and shared memory, one for each size of huge pages. */
static bool is_kernels_own(dev_t device)
{
	/* MFD_HUGE_2MB, MFD_HUGE_1GB: linux/memfd.h */
	static const unsigned flags[] = {
		0, MFD_HUGETLB | 21u << MFD_HUGE_SHIFT, MFD_HUGETLB | 30u << MFD_HUGE_SHIFT};
	bool is = false;

	for (size_t i = 0; !is && i < sizeof(flags) / sizeof(flags[0]); i++) {
		int fd = memfd_create("vmsig-probe", MFD_CLOEXEC | flags[i]);
		struct stat st;

		if (fd < 0)
			continue;
		is = fstat(fd, &st) == 0 && st.st_dev == device;
		close(fd);
	}
	return is;
}

static bool is_in_namespace(int mountinfo, dev_t device, char type[static MOUNTS_TYPE_MAX])
{
	int copy = mountinfo < 0 ? -1 : fcntl(mountinfo, F_DUPFD_CLOEXEC, 0);
	FILE *table = copy < 0 ? NULL : fdopen(copy, "r");
	bool is;

	if (!table) {
		if (copy >= 0)
			close(copy);
		return false;
	}
	rewind(table);
	is = find(table, device, type) == 0 && type_is_local(type, false);
	fclose(table);
	return is;
}

bool mounts_device_is_local(dev_t device, int mountinfo, char ret_type[static MOUNTS_TYPE_MAX])
{
	FILE *table;
	int r = -ENOENT;

	snprintf(ret_type, MOUNTS_TYPE_MAX, "unknown");
	if (is_kernels_own(device)) {
		snprintf(ret_type, MOUNTS_TYPE_MAX, "memfd");
		return true;
	}
	table = fopen(OWN_MOUNTINFO, "re");
	if (table) {
		r = find(table, device, ret_type);
		fclose(table);
	}
	return r == 0 ? mounts_type_is_local(ret_type)
		      : is_in_namespace(mountinfo, device, ret_type);
}
