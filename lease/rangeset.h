/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEASE_RANGESET_H
#define LEASE_RANGESET_H

/*
 * Set of disjoint ranges of one 64-bit space, each with its owner. Sorted array: a look-up
 * is O(log n), an owner comes and goes in one pass. Disjointness is the caller's duty: he asks
 * rangeset_overlap() before he inserts.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lease_range {
	uint64_t start; /* first byte */
	uint64_t last;  /* last byte, so that the whole space can be named */
};

struct rangeset_entry {
	struct lease_range range;
	void *owner;
};

struct rangeset {
	struct rangeset_entry *entries;
	size_t n, capacity;
};

#define RANGESET_INIT ((struct rangeset){0})

static inline bool lease_range_overlaps(const struct lease_range *a, const struct lease_range *b)
{
	return a->start <= b->last && b->start <= a->last;
}

void rangeset_deinit(struct rangeset *set);

/* The owner of the first entry that overlaps `range` and starts the search at `*cursor`
 * (0 at first); NULL when there is no further one. */
void *rangeset_overlap(const struct rangeset *set, const struct lease_range *range, size_t *cursor);

/* Makes room for `n` more entries, so that the insertions that follow cannot fail.
 * 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int rangeset_reserve(struct rangeset *set, size_t n);
/* Sorted ranges, which overlap nothing. Needs room from rangeset_reserve(). */
void rangeset_insert(struct rangeset *set, const struct lease_range *ranges, size_t n, void *owner);
/* Whatever the owner has. */
void rangeset_remove(struct rangeset *set, const void *owner);

#endif
