/* SPDX-License-Identifier: Apache-2.0 */
#include "lease/rangeset.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void rangeset_deinit(struct rangeset *set)
{
	free(set->entries);
	*set = RANGESET_INIT;
}

/* Index of the first entry whose last byte is at or after `addr`. */
static size_t lower_bound(const struct rangeset *set, uint64_t addr)
{
	size_t low = 0, high = set->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (set->entries[mid].range.last < addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void *rangeset_overlap(const struct rangeset *set, const struct lease_range *range, size_t *cursor)
{
	size_t i = lower_bound(set, range->start);

	if (i < *cursor)
		i = *cursor;
	if (i >= set->n || set->entries[i].range.start > range->last)
		return NULL;
	*cursor = i + 1;
	return set->entries[i].owner;
}

int rangeset_reserve(struct rangeset *set, size_t n)
{
	struct rangeset_entry *entries;
	size_t capacity = set->capacity ? set->capacity : 8;

	if (set->capacity - set->n >= n)
		return 0;
	while (capacity - set->n < n)
		capacity *= 2;
	entries = reallocarray(set->entries, capacity, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	set->entries = entries;
	set->capacity = capacity;
	return 0;
}

/* From the end, so that each entry moves once. */
void rangeset_insert(struct rangeset *set, const struct lease_range *ranges, size_t n, void *owner)
{
	size_t old = set->n, to = old + n;

	assert(to <= set->capacity);
	set->n = to;
	while (n) {
		if (old && set->entries[old - 1].range.start > ranges[n - 1].start) {
			set->entries[--to] = set->entries[--old];
			continue;
		}
		assert(!old || set->entries[old - 1].range.last < ranges[n - 1].start);
		set->entries[--to] = (struct rangeset_entry){.range = ranges[--n], .owner = owner};
	}
}

void rangeset_remove(struct rangeset *set, const void *owner)
{
	size_t kept = 0;

	for (size_t i = 0; i < set->n; i++) {
		if (set->entries[i].owner != owner)
			set->entries[kept++] = set->entries[i];
	}
	set->n = kept;
}
