/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/ram/attack.h"

#define PROBE_SIZE 4096

static int probe_create(const char *dir, char path[static PATH_MAX])
{
	int fd, r = 0;

	if (snprintf(path, PATH_MAX, "%s/.vmsig-selftest-XXXXXX", dir) >= PATH_MAX)
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* hugetlbfs rounds up to its page size only when told a multiple of it; any size that
	 * is not zero will do there, and the mapping attack then fails by itself. */
	if (ftruncate(fd, PROBE_SIZE) < 0)
		r = -errno;
	close(fd);
	if (r < 0)
		unlink(path);
	return r;
}

int ram_selftest(const char *dir, enum vmsig_guard *ret_guard, char *report, size_t report_size)
{
	char path[PATH_MAX], why[256];
	const char *won;
	struct ram *ram;
	int fd = -1, r;

	r = probe_create(dir, path);
	if (r < 0) {
		snprintf(report, report_size, "cannot create a probe file in %s: %s", dir,
			strerror(-r));
		return r;
	}
	r = ram_open_path(&ram, path, why, sizeof(why));
	unlink(path);
	if (r) {
		snprintf(report, report_size, "%s", why);
		return r < 0 ? r : -EINVAL;
	}
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
