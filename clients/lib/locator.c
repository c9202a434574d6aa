/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/locator.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* What release() is given is a pointer to `segs`: what it has to close stands before. */
struct locator {
	size_t nfiles, files_at;
	vmsig_memseg segs[];
};

static struct locator *locator_of(void *segs)
{
	return (struct locator *)(void *)((char *)segs - offsetof(struct locator, segs));
}

static vmsig_memfile *files_of(struct locator *locator)
{
	return (vmsig_memfile *)(void *)((char *)locator->segs + locator->files_at);
}

static void release(void *segs)
{
	struct locator *locator = locator_of(segs);

	for (size_t i = 1; i < locator->nfiles; i++) {
		if (files_of(locator)[i].fd >= 0)
			close(files_of(locator)[i].fd);
	}
	free(locator);
}

int locator_new(vmsig_payload *ret_payload, uint32_t nseg, uint32_t nfiles)
{
	size_t files_at = nseg * sizeof(vmsig_memseg);
	size_t len = files_at + (nfiles > 1 ? nfiles * sizeof(vmsig_memfile) : 0);
	struct locator *locator;

	*ret_payload = (vmsig_payload){0};
	if (!len)
		return 0;
	locator = calloc(1, sizeof(*locator) + len);
	if (!locator)
		return -ENOMEM;
	locator->files_at = files_at;
	*ret_payload = (vmsig_payload){.data = locator->segs, .len = len, .release = release};
	/* The payload has it, by a pointer into it. */
	/* cppcheck-suppress memleak */
	return 0;
}

vmsig_memseg *locator_segs(const vmsig_payload *payload)
{
	return (vmsig_memseg *)(uintptr_t)payload->data;
}

void locator_set_files(const vmsig_payload *payload, const struct locator_files *files)
{
	struct locator *locator;

	if (files->n < 2)
		return;
	locator = locator_of(locator_segs(payload));
	locator->nfiles = files->n;
	for (size_t i = 0; i < files->n; i++)
		files_of(locator)[i] =
			(vmsig_memfile){.size = files->sizes[i], .fd = files->fds[i]};
}
