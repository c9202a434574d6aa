/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/memwrite/target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/memwrite/fault.h"

static uint64_t last_serial;

static int map_make(
	struct memwrite_target *target, int fd, const vmsig_memseg *segs, size_t nseg, uint64_t low)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	target->len = (size_t)st.st_size;
	return nseg ? physmap_init(&target->map, segs, nseg, (uint64_t)st.st_size)
		    : physmap_init_low(&target->map, low, (uint64_t)st.st_size);
}

static int ram_open(struct memwrite_target *target, int fd)
{
	uint8_t probe;

	target->base = mmap(NULL, target->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (target->base == MAP_FAILED)
		return -errno;
	/* Neither a core dump nor a forked child is any business of guest memory. */
	(void)madvise(target->base, target->len, MADV_DONTDUMP);
	(void)madvise(target->base, target->len, MADV_DONTFORK);
	target->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (target->fd < 0)
		return -errno;
	/* tmpfs, hugetlbfs and disks have it; a driver's file may only be mapped. */
	if (pread(target->fd, &probe, 1, 0) < 0) {
		close(target->fd);
		target->fd = -1;
	}
	return 0;
}

int memwrite_target_new(struct memwrite_target **ret_target, int fd, const vmsig_memseg *segs,
	size_t nseg, uint64_t low, uint64_t kcr3, unsigned levels, vmsig_coherence *page)
{
	struct memwrite_target *target = calloc(1, sizeof(*target));
	int r;

	if (!target)
		return -ENOMEM;
	target->base = MAP_FAILED;
	target->fd = -1;
	r = map_make(target, fd, segs, nseg, low);
	if (!r)
		r = ram_open(target, fd);
	if (r) {
		memwrite_target_free(target);
		return r;
	}
	target->serial = ++last_serial;
	target->kcr3 = kcr3;
	target->levels = levels;
	target->page = page;
	*ret_target = target;
	return 0;
}

struct memwrite_target *memwrite_target_free(struct memwrite_target *target)
{
	if (!target)
		return NULL;
	if (target->base != MAP_FAILED)
		munmap(target->base, target->len);
	if (target->fd >= 0)
		close(target->fd);
	physmap_deinit(&target->map);
	free(target);
	return NULL;
}

int target_read(const struct memwrite_target *target, uint64_t off, void *buf, size_t len)
{
	uint8_t *at = buf;
	size_t done;

	if (target->fd < 0)
		return fault_read(buf, target->base + off, len);
	for (done = 0; done < len;) {
		ssize_t n = pread(target->fd, at + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return VMSIG_ERR_OUT_OF_RANGE;
		done += (size_t)n;
	}
	return 0;
}
