/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "clients/mem/window.h"

/* A guest may map the same page any number of times. An address space is scanned up to this
 * many times the size of the RAM file, plus a fixed amount for small ones. */
#define SCAN_FACTOR 16u
#define SCAN_EXTRA (1ull << 30)

struct mem_scan {
	struct window *window;
	vmsig_mem *mem;
	uint64_t cr3, start, end;
	uint64_t left; /* bytes that may still be looked at */
	vmsig_match_fn match;
	void *ctx;
};

static int scan_match(void *ctx, uint64_t addr)
{
	struct mem_scan *scan = ctx;

	return scan->match(scan->ctx, addr);
}

static int reread_phys(void *ctx, uint64_t addr, void *buf, size_t len)
{
	struct mem_scan *scan = ctx;

	return -vmsig_phys_read(scan->mem, addr, buf, len);
}

static int reread_virt(void *ctx, uint64_t addr, void *buf, size_t len)
{
	struct mem_scan *scan = ctx;

	return -vmsig_gva_read(scan->mem, scan->cr3, addr, buf, len);
}

/* Feeds the RAM of [gpa, gpa + len), which is at `addr` in the space that is scanned. */
static int feed(struct mem_scan *scan, uint64_t addr, uint64_t gpa, uint64_t len)
{
	uint64_t last = gpa + (len - 1), off, n;

	while (physmap_next(&scan->mem->map, gpa, &gpa) && gpa <= last) {
		int r;

		if (!physmap_find(&scan->mem->map, gpa, &off, &n))
			return VMSIG_ERR_OUT_OF_RANGE;
		n = n - 1 < last - gpa ? n : last - gpa + 1;
		if (n > scan->left)
			return VMSIG_ERR_BAD_PAGE_TABLE;
		scan->left -= n;
		r = window_feed(scan->window, addr + (len - 1) - (last - gpa), off, n);
		if (r || gpa + (n - 1) == last)
			return r;
		gpa += n;
	}
	return 0;
}

static int scan_leaf(void *ctx, const struct pgwalk_leaf *leaf)
{
	struct mem_scan *scan = ctx;
	uint64_t last = leaf->gva + (leaf->size - 1);
	uint64_t from = leaf->gva > scan->start ? leaf->gva : scan->start;

	last = last < scan->end ? last : scan->end;
	return feed(scan, from, leaf->gpa + (from - leaf->gva), last - from + 1);
}

static int scan_init(struct mem_scan *scan, const void *pattern, const void *mask, size_t len)
{
	struct window *window;
	int r;

	if (scan->start > scan->end)
		return VMSIG_ERR_BAD_REQUEST;
	window = malloc(sizeof(*window));
	if (!window)
		return -ENOMEM;
	window->mem = scan->mem;
	window->match = scan_match;
	window->ctx = scan;
	window->stopped = 0;
	window->base = 0;
	window->len = 0;
	window->zeros = 0;
	window->mixed = false;
	r = mem_pattern_init(&window->pattern, pattern, mask, len);
	if (r) {
		free(window);
		return r;
	}
	scan->window = window;
	return 0;
}

/* Ends the scan; `r` is how it went so far. The visitor's own result is returned as it is. */
static int scan_end(struct mem_scan *scan, int r)
{
	if (!r)
		r = window_finish(scan->window);
	/* A scan of nothing but holes has read nothing, and so checked nothing. */
	if (!r && scan->mem->coherence.page)
		r = mem_coherence_check(&scan->mem->coherence);
	r = scan->window->stopped ? scan->window->stopped : mem_public(r);
	free(scan->window);
	return r;
}

int vmsig_scan_phys(vmsig_mem *mem, uint64_t start, uint64_t end, const void *pattern,
	const void *mask, size_t len, vmsig_match_fn match, void *ctx)
{
	struct mem_scan scan = {.mem = mem, .start = start, .end = end, .match = match, .ctx = ctx};
	uint64_t first;
	int r = scan_init(&scan, pattern, mask, len);

	if (r)
		return mem_public(r);
	scan.window->reread = reread_phys;
	scan.left = UINT64_MAX;
	if (!physmap_next(&mem->map, start, &first) || first > end)
		return scan_end(&scan, VMSIG_ERR_OUT_OF_RANGE);
	/* One byte less than the whole space would wrap `len`, and no segment reaches it. */
	if (end == UINT64_MAX)
		scan.end--;
	return scan_end(
		&scan, start > scan.end ? 0 : feed(&scan, start, start, scan.end - start + 1));
}

int vmsig_scan_virt(vmsig_mem *mem, uint64_t cr3, uint64_t start, uint64_t end, const void *pattern,
	const void *mask, size_t len, vmsig_match_fn match, void *ctx)
{
	struct mem_scan scan = {
		.mem = mem, .cr3 = cr3, .start = start, .end = end, .match = match, .ctx = ctx};
	struct pgwalk walk = mem_walk(mem, cr3, mem_phys_coherent);
	int r = scan_init(&scan, pattern, mask, len);

	if (r)
		return mem_public(r);
	scan.window->reread = reread_virt;
	scan.left = SCAN_FACTOR * mem->ram.size + SCAN_EXTRA;
	return scan_end(&scan, pgwalk_visit(&walk, start, end, MEM_MAX_TABLES, scan_leaf, &scan));
}
