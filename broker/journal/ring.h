/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_RING_H
#define BROKER_JOURNAL_RING_H

/*
 * The ring between the loop and the thread, in memory that outlives the broker (shared.h). Its
 * first page says how far both are; behind it are the entries (entry.h), each in one piece
 * since the memory is mapped twice in a row.
 *
 * Positions count bytes and never go back. Entries are between `tail`, which the thread moves
 * behind what is in a segment, and `head`, which the loop moves behind a whole batch with one
 * store: a broker that is killed anywhere before has not committed, and one killed after it has.
 * Nothing between is torn, and nothing outside is looked at.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "broker/journal/entry.h"
#include "broker/journal/segment.h"
#include "broker/journal/shared.h"

struct ring_state {
	uint64_t magic; /* and version */
	uint8_t identity[SEGMENT_IDENTITY];
	uint64_t failed; /* first number of a segment that a sync has failed for */
	_Alignas(64) _Atomic uint64_t head;
	_Alignas(64) _Atomic uint64_t tail;
};
_Static_assert(sizeof(struct ring_state) <= SHARED_PAGE, "the state has a page");

struct ring {
	struct shared shared;
	struct ring_state *state;
	uint8_t *data;
	uint64_t size; /* a power of two */
};

/* As shared_open(). A ring that is found and makes no sense counts as missing. */
__attribute__((warn_unused_result)) int ring_open(struct ring *ret_ring, const char *state_dir,
	const char *run_dir, uint64_t size, char *error, size_t error_size);
/* Makes it empty and this journal's. */
void ring_reset(struct ring *ring, const uint8_t identity[static SEGMENT_IDENTITY]);

static inline uint8_t *ring_at(const struct ring *ring, uint64_t position)
{
	return ring->data + (position & (ring->size - 1));
}

/* The entry at `position`, which is below `head`. */
bool ring_entry(
	const struct ring *ring, uint64_t position, uint64_t head, struct entry_view *ret_view);

#endif
