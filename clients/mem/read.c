/* SPDX-License-Identifier: Apache-2.0 */
/* Reads, physical and virtual, each checked against the coherence page and repeated when it raced.
 */
#include "clients/mem/mem.h"

static int file_read(void *ctx, uint64_t off, void *buf, size_t len)
{
	vmsig_mem *mem = ctx;

	return mem->mode == VMSIG_MEM_MAPPED ? mem_ram_read(&mem->ram, off, buf, len)
					     : mem_ram_pread(&mem->ram, off, buf, len);
}

int mem_phys(vmsig_mem *mem, uint64_t gpa, void *buf, size_t len)
{
	return physmap_read(&mem->map, gpa, buf, len, file_read, mem);
}

static int phys_once(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	return mem_phys(ctx, gpa, buf, len);
}

int mem_phys_coherent(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	vmsig_mem *mem = ctx;
	uint64_t sequence = 0;
	int r;

	for (unsigned i = 0; i < MEM_ATTEMPTS; i++) {
		r = mem_coherence_begin(&mem->coherence, &sequence);
		if (r)
			return r;
		if (!mem_again(mem, sequence, mem_phys(mem, gpa, buf, len), &r))
			return r;
	}
	return r;
}

struct pgwalk mem_walk(vmsig_mem *mem, uint64_t cr3, pgwalk_read_fn read)
{
	return (struct pgwalk){.read = read, .ctx = mem, .root = cr3, .levels = mem->levels};
}

/* Walks to the page of gva: where its byte lies in the file and how many follow there, at
 * most up to the end of the 4 KiB page. */
static int locate_walk(
	vmsig_mem *mem, uint64_t cr3, uint64_t gva, uint64_t *ret_off, uint64_t *ret_len)
{
	struct pgwalk walk = mem_walk(mem, cr3, phys_once);
	uint64_t into = gva & (PGWALK_PAGE - 1), off, len, gpa;
	struct pgwalk_leaf leaf;
	int r = pgwalk_translate(&walk, gva, &leaf);

	if (r)
		return r;
	gpa = leaf.gpa + (gva - leaf.gva);
	if (physmap_find(&mem->map, gpa - into, &off, &len) && len >= PGWALK_PAGE) {
		tcache_put(&mem->cache, cr3, gva, off);
		*ret_off = off + into;
		*ret_len = PGWALK_PAGE - into;
		return 0;
	}
	if (!physmap_find(&mem->map, gpa, &off, &len))
		return VMSIG_ERR_OUT_OF_RANGE;
	*ret_off = off;
	*ret_len = len < PGWALK_PAGE - into ? len : PGWALK_PAGE - into;
	return 0;
}

static inline int locate(
	vmsig_mem *mem, uint64_t cr3, uint64_t gva, uint64_t *ret_off, uint64_t *ret_len)
{
	uint64_t into = gva & (PGWALK_PAGE - 1), off;

	if (!tcache_find(&mem->cache, cr3, gva, &off))
		return locate_walk(mem, cr3, gva, ret_off, ret_len);
	*ret_off = off + into;
	*ret_len = PGWALK_PAGE - into;
	return 0;
}

/* Pages that follow each other in the file are read at once. */
int mem_virt(vmsig_mem *mem, uint64_t cr3, uint64_t gva, void *buf, size_t len)
{
	uint64_t run_off = 0, run_len = 0, off, n;
	uint8_t *to = buf;
	int r;

	if (len && gva > UINT64_MAX - (len - 1))
		return VMSIG_ERR_NOT_MAPPED;
	while (len) {
		r = locate(mem, cr3, gva, &off, &n);
		if (r)
			return r;
		n = n < len ? n : len;
		if (run_len && off != run_off + run_len) {
			r = file_read(mem, run_off, to, run_len);
			if (r)
				return r;
			to += run_len;
			run_len = 0;
		}
		run_off = run_len ? run_off : off;
		run_len += n;
		gva += n;
		len -= n;
	}
	return run_len ? file_read(mem, run_off, to, run_len) : 0;
}

int vmsig_phys_read(vmsig_mem *mem, uint64_t gpa, void *buf, size_t len)
{
	return mem_public(mem_phys_coherent(mem, gpa, buf, len));
}

/* The usual read: of one page that was walked before and that holds data, with nothing in its way.
 * False says nothing but that it has to be done the long way, which also tells errors. What is
 * right at the end was so at the beginning: an epoch and an owner do not come back to a page. */
static inline bool read_ready(vmsig_mem *mem, uint64_t cr3, uint64_t gva, void *buf, size_t len)
{
	uint64_t into = gva & (PGWALK_PAGE - 1), off, sequence;

	if (len - 1 >= PGWALK_PAGE - into || !tcache_find_ready(&mem->cache, cr3, gva, &off))
		return false;
	sequence = __atomic_load_n(&mem->coherence.page->sequence, __ATOMIC_ACQUIRE);
	mem_copy(mem->copy, buf, mem->ram.base + off + into, len);
	return mem_coherence_plain(&mem->coherence, sequence);
}

/* Whether the next one can be such a read: a page that is known to hold data stays so, and whoever
 * changes the mode or the coherence page flushes the cache. */
static void note_ready(vmsig_mem *mem, uint64_t cr3, uint64_t gva)
{
	uint64_t off;

	if (mem->mode == VMSIG_MEM_MAPPED && mem->coherence.page &&
		tcache_find(&mem->cache, cr3, gva, &off) &&
		mem_ram_known(&mem->ram, off >> RAM_PAGE_SHIFT))
		tcache_make_ready(&mem->cache, cr3, gva);
}

__attribute__((noinline)) static int gva_read(
	vmsig_mem *mem, uint64_t cr3, uint64_t gva, void *buf, size_t len)
{
	uint64_t sequence = 0;
	int r;

	for (unsigned i = 0; i < MEM_ATTEMPTS; i++) {
		r = mem_coherence_begin(&mem->coherence, &sequence);
		if (r)
			return mem_public(r);
		if (!mem_again(mem, sequence, mem_virt(mem, cr3, gva, buf, len), &r))
			break;
	}
	if (!r)
		note_ready(mem, cr3, gva);
	return mem_public(r);
}

int vmsig_gva_read(vmsig_mem *mem, uint64_t cr3, uint64_t gva, void *buf, size_t len)
{
	cr3 &= PGWALK_ADDR_MASK;
	return read_ready(mem, cr3, gva, buf, len) ? 0 : gva_read(mem, cr3, gva, buf, len);
}

uint32_t mem_prot(uint32_t perm)
{
	return VMSIG_PROT_READ | (perm & PGWALK_WRITE ? VMSIG_PROT_WRITE : 0) |
	       (perm & PGWALK_EXEC ? VMSIG_PROT_EXEC : 0) |
	       (perm & PGWALK_USER ? VMSIG_PROT_USER : 0);
}

int vmsig_gva_translate(vmsig_mem *mem, uint64_t cr3, uint64_t gva, vmsig_range *ret_page)
{
	struct pgwalk walk = mem_walk(mem, cr3, phys_once);
	struct pgwalk_leaf leaf = {0};
	uint64_t sequence = 0;
	int r;

	for (unsigned i = 0; i < MEM_ATTEMPTS; i++) {
		r = mem_coherence_begin(&mem->coherence, &sequence);
		if (r)
			return mem_public(r);
		if (!mem_again(mem, sequence, pgwalk_translate(&walk, gva, &leaf), &r))
			break;
	}
	if (r)
		return mem_public(r);
	*ret_page = (vmsig_range){.gva = leaf.gva,
		.gpa = leaf.gpa,
		.len = leaf.size,
		.page_size = leaf.size,
		.prot = mem_prot(leaf.perm)};
	return 0;
}
