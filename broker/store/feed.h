/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_FEED_H
#define BROKER_STORE_FEED_H

/*
 * Changes that the snapshot does not have yet, as they are in the journal: the loop collects
 * them, a thread takes them from time to time.
 */

#include <stddef.h>
#include <stdint.h>

struct feed_chunk;

struct feed {
	struct feed_chunk *first, *last;
	uint64_t bytes; /* of all */
	/* Where the open transaction began. */
	struct feed_chunk *mark;
	size_t mark_used;
	uint64_t mark_bytes;
};

/* The place for one more body. NULL: no memory. */
uint8_t *feed_add(struct feed *feed, size_t len);
/* What was added since feed_begin() stays, or goes. */
void feed_begin(struct feed *feed);
void feed_rollback(struct feed *feed);

/* Calls `each` for all bodies; ends with what it returns when that is not 0. */
int feed_each(const struct feed *feed, int (*each)(void *arg, const uint8_t *body, size_t len),
	void *arg);
/* All of `more` goes behind `feed`; `more` is empty then. */
void feed_append(struct feed *feed, struct feed *more);
void feed_clear(struct feed *feed);

#endif
