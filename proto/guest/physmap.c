/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/guest/physmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

#define FOUR_GIB (1ull << 32)

static int seg_compare(const void *a, const void *b)
{
	const vmsig_memseg *x = a, *y = b;

	return (x->gpa > y->gpa) - (x->gpa < y->gpa);
}

static bool seg_valid(const vmsig_memseg *seg, uint64_t file_size)
{
	return seg->len && seg->len <= UINT64_MAX - seg->gpa && seg->file_off <= file_size &&
	       seg->len <= file_size - seg->file_off;
}

static bool seg_continues(const vmsig_memseg *seg, const vmsig_memseg *next)
{
	return seg->gpa + seg->len == next->gpa && seg->file_off + seg->len == next->file_off;
}

/* Merges in place; the count that is left, or 0 when two overlap. */
static size_t segs_merge(vmsig_memseg *segs, size_t n)
{
	size_t last = 0;

	for (size_t i = 1; i < n; i++) {
		if (segs[i].gpa < segs[last].gpa + segs[last].len)
			return 0;
		if (seg_continues(&segs[last], &segs[i]))
			segs[last].len += segs[i].len;
		else
			segs[++last] = segs[i];
	}
	return last + 1;
}

int physmap_init(struct physmap *map, const vmsig_memseg *segs, size_t nseg, uint64_t file_size)
{
	vmsig_memseg *copy;
	size_t n;

	if (!nseg || nseg > PHYSMAP_MAX_SEGS)
		return VMSIG_ERR_BAD_REQUEST;
	for (size_t i = 0; i < nseg; i++) {
		if (!seg_valid(&segs[i], file_size))
			return VMSIG_ERR_BAD_REQUEST;
	}
	copy = calloc(nseg, sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	memcpy(copy, segs, nseg * sizeof(*copy));
	qsort(copy, nseg, sizeof(*copy), seg_compare);
	n = segs_merge(copy, nseg);
	if (!n) {
		free(copy);
		return VMSIG_ERR_BAD_REQUEST;
	}
	*map = (struct physmap){.segs = copy, .nseg = n};
	return 0;
}

int physmap_init_low(struct physmap *map, uint64_t low, uint64_t file_size)
{
	const vmsig_memseg segs[] = {
		{.gpa = 0, .len = low, .file_off = 0},
		{.gpa = FOUR_GIB, .len = file_size - low, .file_off = low},
	};

	if (!low || low > file_size || low > FOUR_GIB)
		return VMSIG_ERR_BAD_REQUEST;
	return physmap_init(map, segs, file_size > low ? 2 : 1, file_size);
}

void physmap_deinit(struct physmap *map)
{
	free(map->segs);
	*map = PHYSMAP_INIT;
}

/* Index of the first segment that ends after `gpa`; nseg when there is none. */
static size_t seg_at_or_after(const struct physmap *map, uint64_t gpa)
{
	size_t low = 0, high = map->nseg;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (map->segs[mid].gpa + map->segs[mid].len <= gpa)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool physmap_find(const struct physmap *map, uint64_t gpa, uint64_t *ret_off, uint64_t *ret_len)
{
	size_t i = seg_at_or_after(map, gpa);
	uint64_t into;

	if (i == map->nseg || map->segs[i].gpa > gpa)
		return false;
	into = gpa - map->segs[i].gpa;
	*ret_off = map->segs[i].file_off + into;
	*ret_len = map->segs[i].len - into;
	return true;
}

int physmap_read(const struct physmap *map, uint64_t gpa, void *buf, size_t len,
	physmap_read_fn read, void *ctx)
{
	uint8_t *to = buf;

	while (len) {
		uint64_t off, n;
		int r;

		if (!physmap_find(map, gpa, &off, &n))
			return VMSIG_ERR_OUT_OF_RANGE;
		n = n < len ? n : len;
		r = read(ctx, off, to, (size_t)n);
		if (r)
			return r;
		to += n;
		gpa += n;
		len -= (size_t)n;
	}
	return 0;
}

bool physmap_next(const struct physmap *map, uint64_t gpa, uint64_t *ret_gpa)
{
	size_t i = seg_at_or_after(map, gpa);

	if (i == map->nseg)
		return false;
	*ret_gpa = map->segs[i].gpa > gpa ? map->segs[i].gpa : gpa;
	return true;
}

uint64_t physmap_bytes(const struct physmap *map)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < map->nseg; i++)
		sum += map->segs[i].len;
	return sum;
}
