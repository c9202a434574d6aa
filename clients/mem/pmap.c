/* SPDX-License-Identifier: Apache-2.0 */
/* A walk over all that a table maps: ranges in ascending order, within bounds. */
#include "clients/mem/mem.h"

struct pmap {
	uint64_t start, end;
	vmsig_range_fn visit;
	void *ctx;
	vmsig_range range; /* not yet told; len 0: none */
	int stopped;       /* what the visitor returned */
	uint64_t left;     /* ranges */
};

static int pmap_tell(struct pmap *pmap)
{
	if (pmap->range.len)
		pmap->stopped = pmap->visit(pmap->ctx, &pmap->range);
	pmap->range.len = 0;
	return pmap->stopped;
}

/* The part of a leaf that lies inside [start, end]. */
static vmsig_range leaf_range(const struct pmap *pmap, const struct pgwalk_leaf *leaf)
{
	uint64_t last = leaf->gva + (leaf->size - 1);
	uint64_t from = leaf->gva > pmap->start ? leaf->gva : pmap->start;

	last = last < pmap->end ? last : pmap->end;
	return (vmsig_range){.gva = from,
		.gpa = leaf->gpa + (from - leaf->gva),
		.len = last - from + 1,
		.page_size = leaf->size,
		.prot = mem_prot(leaf->perm)};
}

static int pmap_leaf(void *ctx, const struct pgwalk_leaf *leaf)
{
	struct pmap *pmap = ctx;
	vmsig_range next = leaf_range(pmap, leaf), *range = &pmap->range;

	if (range->len && range->gva + range->len == next.gva && range->prot == next.prot &&
		range->page_size == next.page_size) {
		range->len += next.len;
		return 0;
	}
	if (pmap_tell(pmap))
		return pmap->stopped;
	if (!pmap->left--)
		return VMSIG_ERR_BAD_PAGE_TABLE;
	*range = next;
	return 0;
}

int vmsig_pmap(
	vmsig_mem *mem, uint64_t cr3, uint64_t start, uint64_t end, vmsig_range_fn visit, void *ctx)
{
	struct pgwalk walk = mem_walk(mem, cr3, mem_phys_coherent);
	struct pmap pmap = {.start = start,
		.end = end,
		.visit = visit,
		.ctx = ctx,
		.left = MEM_MAX_RANGES(mem)};
	int r = pgwalk_visit(&walk, start, end, MEM_MAX_TABLES, pmap_leaf, &pmap);

	if (pmap.stopped)
		return pmap.stopped;
	if (r)
		return mem_public(r);
	return pmap_tell(&pmap);
}
