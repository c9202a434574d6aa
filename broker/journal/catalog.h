/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_CATALOG_H
#define BROKER_JOURNAL_CATALOG_H

/*
 * Which segments there are, how far they go, and what is in their blocks: what the thread
 * writes and everybody else looks up. It has a lock that is never held across anything that
 * could wait.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/journal/blocks.h"

struct catalog_segment {
	uint64_t first;   /* number of its first entry */
	uint64_t base_id; /* newest AUDIT entry before it */
	uint8_t anchor[JOURNAL_HASH];
	uint64_t end;   /* behind its last entry */
	uint64_t bytes; /* of the file */
	struct blocks blocks;
};

struct catalog {
	pthread_mutex_t lock;
	struct catalog_segment *segments; /* oldest first */
	size_t n, capacity;
	uint64_t number; /* of the newest entry of all */
	uint64_t id;     /* of the newest AUDIT entry */
	uint8_t hash[JOURNAL_HASH];
};

void catalog_init(struct catalog *catalog);
void catalog_deinit(struct catalog *catalog);

/* The next segment, whose blocks it takes over on success. It replaces one with the same first
 * number, which has no entries. -ENOMEM. */
__attribute__((warn_unused_result)) int catalog_add(
	struct catalog *catalog, const struct catalog_segment *segment);
/* The newest entry is this. */
void catalog_set_newest(struct catalog *catalog, uint64_t number, uint64_t id,
	const uint8_t hash[static JOURNAL_HASH]);
/* An entry was written at the end of the newest segment. */
void catalog_extend(struct catalog *catalog, const struct entry_view *view);

void catalog_head(struct catalog *catalog, struct journal_head *ret_head);
uint64_t catalog_bytes(struct catalog *catalog);
/* Number of the oldest entry that is left; of the next one when none is. */
uint64_t catalog_first(struct catalog *catalog);

/* The segment at `index` without its blocks; false: there is none. */
bool catalog_segment_at(struct catalog *catalog, size_t index, struct catalog_segment *ret_segment);
/* Writes the index of the newest segment beside it. -errno. */
__attribute__((warn_unused_result)) int catalog_store_newest(struct catalog *catalog, int dir);

/* A piece of a segment that may have what a query looks for. */
struct catalog_span {
	uint64_t first; /* of the segment */
	uint64_t offset, limit;
	uint64_t number; /* of the entry at `offset` */
	uint64_t first_id, last_id;
};

/* Where a look-up is: members are private, all 0 to begin with. */
struct catalog_cursor {
	uint64_t segment;
	size_t block;
	bool ended;
};

enum catalog_step {
	CATALOG_END,
	CATALOG_SPAN,
	CATALOG_AGAIN, /* looked at enough for once */
};

/* The next span, oldest first or newest first as the query says. */
enum catalog_step catalog_next(struct catalog *catalog, const struct journal_query *query,
	struct catalog_cursor *cursor, struct catalog_span *ret_span);

bool catalog_prunable(struct catalog *catalog, uint64_t bytes, uint64_t before_ns, uint64_t keep,
	struct journal_cut *ret_cut);
/* Forgets the oldest segment if it ends with `number` or before. */
bool catalog_drop(struct catalog *catalog, uint64_t number, uint64_t *ret_first);

#endif
