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

/* The same files, and sizes that are all known. */
static int sizes_fill(const struct memwrite_files *files, uint64_t sizes[static VMSIG_MEMFILES_MAX])
{
	struct stat st;

	if (files->n > VMSIG_MEMFILES_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	for (size_t i = 0; i < files->n; i++) {
		sizes[i] = files->sizes[i];
		if (!sizes[i] && fstat(files->fds[i], &st) < 0)
			return -errno;
		if (!sizes[i])
			sizes[i] = (uint64_t)st.st_size;
	}
	return 0;
}

static int ram_map(struct memwrite_target *target, const struct memwrite_files *files)
{
	struct span given;
	void *base;
	int r = span_init(&given, files->fds, files->sizes, files->n);

	if (r)
		return r;
	r = span_map(&given, PROT_READ | PROT_WRITE, &base);
	if (!r) {
		target->base = base;
		target->len = (size_t)given.size;
		/* Neither a core dump nor a forked child is any business of guest memory. */
		(void)madvise(base, target->len, MADV_DONTDUMP);
		(void)madvise(base, target->len, MADV_DONTFORK);
	}
	span_deinit(&given);
	return r;
}

/* The descriptors to read by. */
static int ram_open(struct memwrite_target *target, const struct memwrite_files *files)
{
	int fds[VMSIG_MEMFILES_MAX];
	uint8_t probe;
	int r = 0;

	for (size_t i = 0; i < files->n; i++) {
		fds[i] = r ? -1 : fcntl(files->fds[i], F_DUPFD_CLOEXEC, 0);
		if (!r && fds[i] < 0)
			r = -errno;
		/* tmpfs, hugetlbfs and disks have it; a driver's file may only be mapped. */
		if (!r && pread(fds[i], &probe, 1, 0) < 0) {
			close(fds[i]);
			fds[i] = -1;
		}
	}
	if (!r)
		r = span_init(&target->files, fds, files->sizes, files->n);
	for (size_t i = 0; r && i < files->n; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return r;
}

static int target_open(struct memwrite_target *target, const struct memwrite_files *given,
	const vmsig_memseg *segs, size_t nseg, uint64_t low)
{
	uint64_t sizes[VMSIG_MEMFILES_MAX];
	const struct memwrite_files files = {given->fds, sizes, given->n};
	int r = sizes_fill(given, sizes);

	if (!r)
		r = ram_map(target, &files);
	if (!r)
		r = ram_open(target, &files);
	if (r)
		return r;
	return nseg ? physmap_init(&target->map, segs, nseg, target->len)
		    : physmap_init_low(&target->map, low, target->len);
}

int memwrite_target_new_files(struct memwrite_target **ret_target,
	const struct memwrite_files *files, const vmsig_memseg *segs, size_t nseg, uint64_t low,
	uint64_t kcr3, unsigned levels, vmsig_coherence *page)
{
	struct memwrite_target *target = calloc(1, sizeof(*target));
	int r;

	if (!target)
		return -ENOMEM;
	target->base = MAP_FAILED;
	r = target_open(target, files, segs, nseg, low);
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

int memwrite_target_new(struct memwrite_target **ret_target, int fd, const vmsig_memseg *segs,
	size_t nseg, uint64_t low, uint64_t kcr3, unsigned levels, vmsig_coherence *page)
{
	const uint64_t size = 0;

	return memwrite_target_new_files(ret_target,
		&(struct memwrite_files){.fds = &fd, .sizes = &size, .n = 1}, segs, nseg, low, kcr3,
		levels, page);
}

struct memwrite_target *memwrite_target_free(struct memwrite_target *target)
{
	if (!target)
		return NULL;
	if (target->base != MAP_FAILED)
		munmap(target->base, target->len);
	span_close(&target->files);
	physmap_deinit(&target->map);
	free(target);
	return NULL;
}

int target_read(const struct memwrite_target *target, uint64_t off, void *buf, size_t len)
{
	uint8_t *at = buf;

	while (len) {
		const struct span_file *file =
			&target->files.files[span_index(&target->files, off)];
		uint64_t room = file->start + file->size - off;
		size_t n = len < room ? len : (size_t)room;
		int r = file->fd < 0 ? fault_read(at, target->base + off, n)
				     : span_pread(&target->files, off, at, n);

		if (r)
			return VMSIG_ERR_OUT_OF_RANGE;
		at += n;
		off += n;
		len -= n;
	}
	return 0;
}
