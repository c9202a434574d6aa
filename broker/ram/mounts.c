/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/mounts.h"

#include <errno.h>
#include <fcntl.h>
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

/* The first line with this id, or with this device when the id is 0. */
static int find(FILE *table, uint64_t id, dev_t device, char type[static MOUNTS_TYPE_MAX])
{
	struct mount_line line;
	char *text = NULL;
	size_t size = 0;
	int r = -ENOENT;

	errno = 0;
	while (r && getline(&text, &size, table) > 0) {
		if (!line_parse(text, &line) || (id ? line.id != id : line.device != device))
			continue;
		snprintf(type, MOUNTS_TYPE_MAX, "%s", line.type);
		r = 0;
	}
	if (r && errno == ENOMEM)
		r = -ENOMEM;
	free(text);
	return r;
}

int mounts_type_of_id(uint64_t id, char ret_type[static MOUNTS_TYPE_MAX])
{
	FILE *table = fopen(OWN_MOUNTINFO, "re");
	int r;

	if (!table)
		return -errno;
	r = find(table, id, 0, ret_type);
	fclose(table);
	return r;
}

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
	is = find(table, 0, device, type) == 0 && type_is_local(type, false);
	fclose(table);
	return is;
}

bool mounts_device_is_local(dev_t device, int mountinfo, char ret_type[static MOUNTS_TYPE_MAX])
{
	FILE *own;
	int r = -ENOENT;

	snprintf(ret_type, MOUNTS_TYPE_MAX, "unknown");
	if (is_kernels_own(device)) {
		snprintf(ret_type, MOUNTS_TYPE_MAX, "memfd");
		return true;
	}
	own = fopen(OWN_MOUNTINFO, "re");
	if (own) {
		r = find(own, 0, device, ret_type);
		fclose(own);
	}
	return r == 0 ? mounts_type_is_local(ret_type)
		      : is_in_namespace(mountinfo, device, ret_type);
}
