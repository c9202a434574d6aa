/* SPDX-License-Identifier: Apache-2.0 */
/* The read-only mount technique tried on the running kernel: see ram_selftest(). */
#include "broker/ram/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "broker/ram/attack.h"
#include "broker/ram/beneath.h"
#include "proto/guest/span.h"
#include "vmsig/vmsig_error.h"

struct probe {
	int folder;
	char name[40];
};

/* By descriptor: what the folder's path means may change meanwhile. */
static int probe_create(struct probe *probe)
{
	unsigned long long tag;
	int fd, r = 0;

	if (getrandom(&tag, sizeof(tag), 0) != sizeof(tag))
		return -errno;
	snprintf(probe->name, sizeof(probe->name), ".vmsig-selftest-%016llx", tag);
	fd = openat(probe->folder, probe->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		0600);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)span_page_size(fd)) < 0)
		r = -errno;
	close(fd);
	if (r < 0)
		unlinkat(probe->folder, probe->name, 0);
	return r;
}

static int probe_open(struct ram **ret_ram, struct probe *probe, const char *dir, char *report,
	size_t report_size)
{
	char path[PATH_MAX];
	int r = probe_create(probe);

	if (r < 0) {
		snprintf(report, report_size, "cannot create a probe file in %s: %s", dir,
			strerror(-r));
		return r;
	}
	r = VMSIG_ERR_BAD_REQUEST;
	if (snprintf(path, sizeof(path), "%s/%s", dir, probe->name) < (int)sizeof(path))
		r = ram_open_path(ret_ram, path, geteuid(), report, report_size);
	unlinkat(probe->folder, probe->name, 0);
	return r;
}

int ram_selftest(const char *dir, enum vmsig_guard *ret_guard, char *report, size_t report_size)
{
	struct probe probe;
	const char *won;
	struct ram *ram;
	int fd = -1, r = beneath_open_folder(&probe.folder, dir, report, report_size);

	if (r)
		return r;
	r = probe_open(&ram, &probe, dir, report, report_size);
	close(probe.folder);
	if (r)
		return r;
	*ret_guard = ram_guard(ram);
	if (*ret_guard != VMSIG_GUARD_RO_MOUNT) {
		snprintf(report, report_size,
			"%s: no read-only mount clone (it needs CAP_SYS_ADMIN and Linux 5.12); "
			"files there are guarded by their mode only",
			dir);
		goto out;
	}
	fd = ram_share(ram);
	won = fd < 0 ? "opening it (nothing could be tried)" : ram_attack(fd);
	if (won)
		*ret_guard = VMSIG_GUARD_NONE;
	snprintf(report, report_size,
		won ? "%s: read-only mount clone defeated by %s"
		    : "%s: read-only mount clone withstands every attack%s",
		dir, won ? won : "");
out:
	if (fd >= 0)
		close(fd);
	ram_free(ram);
	return 0;
}
