/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/journal/ring.h"

#include <string.h>

#define MAGIC 0x31474e49524d56ull /* "VMRING1" */

static bool makes_sense(const struct ring *ring)
{
	uint64_t head = atomic_load(&ring->state->head), tail = atomic_load(&ring->state->tail);

	return ring->state->magic == MAGIC && head >= tail && head - tail <= ring->size &&
	       head % ENTRY_ALIGN == 0 && tail % ENTRY_ALIGN == 0;
}

int ring_open(struct ring *ring, const char *state_dir, const char *run_dir, uint64_t size,
	char *error, size_t error_size)
{
	int r = shared_open(&ring->shared, state_dir, run_dir, "ring", SHARED_PAGE + size, true,
		error, error_size);

	if (r)
		return r;
	ring->state = (struct ring_state *)(void *)ring->shared.data;
	ring->data = ring->shared.data + SHARED_PAGE;
	ring->size = ring->shared.size - SHARED_PAGE;
	/* Before its state was written once, nothing can have been appended. */
	if (ring->shared.found == SHARED_FOUND && !makes_sense(ring))
		ring->shared.found = ring->state->magic ? SHARED_MISSING : SHARED_NONE;
	return 0;
}

void ring_reset(struct ring *ring, const uint8_t identity[SEGMENT_IDENTITY])
{
	memset(ring->state, 0, sizeof(*ring->state));
	memcpy(ring->state->identity, identity, SEGMENT_IDENTITY);
	atomic_thread_fence(memory_order_release);
	ring->state->magic = MAGIC;
}

bool ring_entry(
	const struct ring *ring, uint64_t position, uint64_t head, struct entry_view *ret_view)
{
	return position < head && entry_parse(ring_at(ring, position), head - position, ret_view);
}
