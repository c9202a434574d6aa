/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_BLOCKS_H
#define BROKER_JOURNAL_BLOCKS_H

/*
 * The index of a segment: what is in each BLOCK_BYTES of it, so that a look-up by id, time, kind
 * or name reads only blocks that can have what it looks for. Of names a block has a few bits of
 * their keys: it may say yes in vain, and never no.
 *
 * It is kept beside a segment that is not written to any more (".idx"), with a sum. Without a
 * file, or with one that is damaged, it is made anew from the segment.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/journal/entry.h"

#define BLOCK_BYTES (32u << 10)
#define BLOCK_NAMES 4u /* words of 64 bits */

struct block {
	uint64_t offset;            /* of the first entry that begins in it */
	uint64_t number;            /* of that */
	uint64_t first_id, last_id; /* of its AUDIT entries; 0: it has none */
	uint64_t from_ns, to_ns;    /* of these */
	uint64_t kinds;             /* bit 1 << kind */
	uint64_t tenants;
	uint64_t endpoints[BLOCK_NAMES];
};

struct blocks {
	struct block *list;
	size_t n, capacity;
	uint64_t to_ns; /* the latest time of all */
};

/* Room for a segment of so many bytes: blocks_add() cannot fail then. -ENOMEM. */
__attribute__((warn_unused_result)) int blocks_init(struct blocks *blocks, uint64_t bytes);
void blocks_deinit(struct blocks *blocks);
/* The entry at `offset`, behind all that were added before. */
void blocks_add(struct blocks *blocks, uint64_t offset, const struct entry_view *view);

/* Whether there can be an entry in it that fits. */
bool block_may_match(const struct block *block, const struct journal_query *query);
bool entry_matches_query(const struct journal_entry *entry, const struct journal_query *query);

/* What is kept beside the index. */
struct blocks_end {
	uint64_t end;    /* of the entries */
	uint64_t number; /* of the last one */
};

/* Beside segment `first`. -errno. */
__attribute__((warn_unused_result)) int blocks_store(
	const struct blocks *blocks, int dir, uint64_t first, const struct blocks_end *end);
/* -ENOENT: there is none that is whole; -ENOMEM. */
__attribute__((warn_unused_result)) int blocks_load(
	struct blocks *ret_blocks, int dir, uint64_t first, struct blocks_end *ret_end);
void blocks_unlink(int dir, uint64_t first);

#endif
