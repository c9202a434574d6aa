/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/guest/sweep.h"

#include <errno.h>
#include <stdlib.h>

#include "vmsig/vmsig_error.h"

#define CHUNK                                                                                      \
	(256u << 10) /* bytes read at once; a step that ends within one reads its rest again */

struct stretch {
	const struct kcr3_search *search;
	sweep_page_fn page;
	void *ctx;
	unsigned char *chunk;
};

static uint64_t page_down(uint64_t at)
{
	return at & ~(uint64_t)(PGWALK_PAGE - 1);
}

static uint64_t page_up(uint64_t at)
{
	return page_down(at + PGWALK_PAGE - 1);
}

/* Whole pages of the guest's at or after *gpa, the first of which has data in it: a segment may
 * begin and end within one. False when none is left. */
static bool next_pages(
	const struct kcr3_memory *memory, const vmsig_memseg *seg, uint64_t *gpa, uint64_t *ret_end)
{
	const uint64_t end = page_down(seg->gpa + seg->len);
	uint64_t off, first;

	if (*gpa < seg->gpa)
		*gpa = page_up(seg->gpa);
	if (*gpa >= end)
		return false;
	off = seg->file_off + (*gpa - seg->gpa);
	if (memory->files && !span_next_data(memory->files, &off, seg->file_off + seg->len))
		return false;
	first = page_down(seg->gpa + (off - seg->file_off));
	if (first > *gpa)
		*gpa = first;
	*ret_end = end;
	return *gpa < end;
}

/* At least one page of [*gpa, end), and no more once the share is spent. */
static int chunk_step(const struct stretch *stretch, uint64_t *gpa, uint64_t end)
{
	const struct kcr3_memory *memory = &stretch->search->memory;
	size_t len = end - *gpa < CHUNK ? (size_t)(end - *gpa) : CHUNK, at = 0;
	int r = memory->read(memory->ctx, *gpa, stretch->chunk, len);

	if (r)
		return r;
	do {
		stretch->page(stretch->ctx, *gpa + at, stretch->chunk + at);
		at += PGWALK_PAGE;
	} while (at < len && !search_is_spent(stretch->search));
	*gpa += at;
	return 0;
}

static int segment_step(const struct stretch *stretch, const vmsig_memseg *seg, uint64_t *gpa)
{
	uint64_t end;

	while (next_pages(&stretch->search->memory, seg, gpa, &end)) {
		int r = chunk_step(stretch, gpa, end);

		if (r)
			return r;
		if (search_is_spent(stretch->search))
			return VMSIG_ERR_WOULD_BLOCK;
	}
	return 0;
}

int sweep_step(struct sweep *sweep, const struct kcr3_search *search, sweep_page_fn page, void *ctx)
{
	struct stretch stretch = {
		.search = search, .page = page, .ctx = ctx, .chunk = malloc(CHUNK)};
	const struct physmap *map = search->memory.map;
	int r = stretch.chunk ? 0 : -ENOMEM;

	while (!r && sweep->seg < map->nseg) {
		r = segment_step(&stretch, &map->segs[sweep->seg], &sweep->gpa);
		if (!r)
			sweep->seg++;
	}
	free(stretch.chunk);
	return r;
}
