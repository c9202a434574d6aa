/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/mem/mem.h"

#include <errno.h>
#include <stdlib.h>

int mem_public(int error)
{
	if (error == -ENOMEM)
		return -VMSIG_ERR_NO_MEMORY;
	return error < 0 ? -VMSIG_ERR_IO : -error;
}

/* RAM files in their order. A size of 0 is the file's own. */
struct mem_files {
	int fds[VMSIG_MEMFILES_MAX];
	uint64_t sizes[VMSIG_MEMFILES_MAX];
	size_t n;
};

/* Takes over nothing but a copy of the segments; low rules when nseg is 0. 0 or -errno. */
static int mem_new(vmsig_mem **ret_mem, const struct mem_files *files, uint64_t low,
	const vmsig_memseg *segs, uint32_t nseg)
{
	vmsig_mem *mem = calloc(1, sizeof(*mem));
	int r;

	if (!mem)
		return -ENOMEM;
	mem->levels = 4;
	mem->copy = mem_copy_find();
	r = mem_ram_init(&mem->ram, files->fds, files->sizes, files->n);
	if (!r && nseg)
		r = physmap_init(&mem->map, segs, nseg, mem->ram.size);
	else if (!r)
		r = physmap_init_low(&mem->map, low, mem->ram.size);
	if (r) {
		vmsig_mem_close(mem);
		return r > 0 ? -EINVAL : r;
	}
	*ret_mem = mem;
	return 0;
}

static vmsig_mem *mem_new_errno(
	const struct mem_files *files, uint64_t low, const vmsig_memseg *segs, uint32_t nseg)
{
	vmsig_mem *mem = NULL;
	int r = mem_new(&mem, files, low, segs, nseg);

	if (r)
		errno = -r;
	return mem;
}

vmsig_mem *vmsig_mem_from_ro_fd(int fd, uint64_t low)
{
	const struct mem_files files = {.fds = {fd}, .n = 1};

	return mem_new_errno(&files, low, NULL, 0);
}

vmsig_mem *vmsig_mem_from_ro_fd_segs(int fd, const vmsig_memseg *segs, uint32_t nseg)
{
	const struct mem_files files = {.fds = {fd}, .n = 1};

	if (!segs || !nseg) {
		errno = EINVAL;
		return NULL;
	}
	return mem_new_errno(&files, 0, segs, nseg);
}

/* A file without a size would leave it to its owner where the next one begins. */
static bool files_fill(struct mem_files *files, const vmsig_memfile *from, uint32_t n)
{
	if (!from || !n || n > VMSIG_MEMFILES_MAX)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		files->fds[i] = from[i].fd;
		files->sizes[i] = from[i].size;
		if (!from[i].size)
			return false;
	}
	files->n = n;
	return true;
}

vmsig_mem *vmsig_mem_from_files(const vmsig_memfile *files, uint32_t nfiles, uint64_t low,
	const vmsig_memseg *segs, uint32_t nseg)
{
	struct mem_files all;

	if (!files_fill(&all, files, nfiles) || (nseg && !segs)) {
		errno = EINVAL;
		return NULL;
	}
	return mem_new_errno(&all, low, segs, nseg);
}

/* What a MEMCTX event brings. Of several files the first one's descriptor may be elsewhere by
 * now: the caller's word counts. */
static void files_of_event(struct mem_files *files, const vmsig_event *ev, int ram_fd)
{
	uint32_t n;
	const vmsig_memfile *several = vmsig_memctx_files(ev, &n);

	if (several && files_fill(files, several, n)) {
		files->fds[0] = ram_fd;
		return;
	}
	*files = (struct mem_files){.fds = {ram_fd}, .n = 1};
}

int vmsig_mem_from_event(vmsig_mem **ret_mem, const vmsig_event *ev, int ram_fd, int coherence_fd)
{
	const vmsig_memctx *pod = (const vmsig_memctx *)(const void *)ev->inln;
	const vmsig_memseg *segs;
	struct mem_files files;
	vmsig_mem *mem;
	uint32_t nseg;
	int r;

	if (ev->kind != VMSIG_EV_MEMCTX)
		return -VMSIG_ERR_BAD_REQUEST;
	segs = vmsig_memctx_segs(ev, &nseg);
	if (nseg != pod->nseg)
		return -VMSIG_ERR_BAD_REQUEST;
	files_of_event(&files, ev, ram_fd);
	r = mem_new(&mem, &files, pod->low, segs, nseg);
	if (r)
		return r == -EINVAL ? -VMSIG_ERR_BAD_REQUEST : mem_public(r);
	mem->levels = pod->flags & VMSIG_MEMCTX_LA57 ? 5 : 4;
	if (coherence_fd >= 0)
		r = mem_coherence_init(&mem->coherence, coherence_fd, pod->epoch, ev->endpoint);
	if (r) {
		vmsig_mem_close(mem);
		return mem_public(r);
	}
	*ret_mem = mem;
	return 0;
}

vmsig_mem *vmsig_mem_close(vmsig_mem *mem)
{
	if (!mem)
		return NULL;
	mem_coherence_deinit(&mem->coherence);
	physmap_deinit(&mem->map);
	mem_ram_deinit(&mem->ram);
	free(mem);
	return NULL;
}

int vmsig_mem_set_levels(vmsig_mem *mem, unsigned levels)
{
	if (levels != 4 && levels != 5)
		return -VMSIG_ERR_BAD_REQUEST;
	mem->levels = levels;
	tcache_flush(&mem->cache);
	return 0;
}

int vmsig_mem_set_mode(vmsig_mem *mem, enum vmsig_mem_mode mode)
{
	if (mode != VMSIG_MEM_MAPPED && mode != VMSIG_MEM_PREAD)
		return -VMSIG_ERR_BAD_REQUEST;
	mem->mode = mode;
	tcache_flush(&mem->cache);
	return 0;
}

int vmsig_mem_attach_coherence(vmsig_mem *mem, int coherence_fd, uint32_t epoch)
{
	struct mem_coherence coherence;
	int r = mem_coherence_init(&coherence, coherence_fd, epoch, 0);

	if (r)
		return mem_public(r);
	mem_coherence_deinit(&mem->coherence);
	mem->coherence = coherence;
	tcache_flush(&mem->cache);
	return 0;
}

int vmsig_mem_read_begin(vmsig_mem *mem, uint64_t *ret_sequence)
{
	if (!mem->coherence.page)
		return -VMSIG_ERR_UNSUPPORTED;
	return mem_public(mem_coherence_begin(&mem->coherence, ret_sequence));
}

int vmsig_mem_read_end(vmsig_mem *mem, uint64_t sequence)
{
	if (!mem->coherence.page)
		return -VMSIG_ERR_UNSUPPORTED;
	return mem_public(mem_coherence_end(&mem->coherence, sequence));
}

int vmsig_mem_wait(vmsig_mem *mem, int timeout_ms)
{
	if (!mem->coherence.page)
		return -VMSIG_ERR_UNSUPPORTED;
	return mem_public(mem_coherence_wait(&mem->coherence, timeout_ms));
}

void vmsig_mem_flush(vmsig_mem *mem)
{
	tcache_flush(&mem->cache);
}
