/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for the bytes that bulk data has taken the place of, until they are hashed. To have the
 * kernel make it takes several times as long as to copy to it, so what is given back is kept for
 * the next one, and goes to the kernel when there was none for a while. How much there may be is
 * the desk's affair.
 */
#include "broker/desk_shell.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <utlist.h>

#define PRUNED 8 /* given to the kernel in one go: some 100 us */

struct desk_room {
	uint8_t *memory;
	struct desk_room *next;
};

/* Aligned, so that it may be one huge page: one fault instead of 512. */
static uint8_t *memory_new(void)
{
	uint8_t *all = mmap(NULL, 2 * (size_t)DESK_ROOM, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t skip;

	if (all == MAP_FAILED)
		return NULL;
	skip = (DESK_ROOM - (uintptr_t)all % DESK_ROOM) % DESK_ROOM;
	if (skip)
		(void)munmap(all, skip);
	(void)munmap(all + skip + DESK_ROOM, DESK_ROOM - skip);
	(void)madvise(all + skip, DESK_ROOM, MADV_HUGEPAGE);
	/* Guest memory is no business of a core dump or a forked child. */
	(void)madvise(all + skip, DESK_ROOM, MADV_DONTDUMP);
	(void)madvise(all + skip, DESK_ROOM, MADV_DONTFORK);
	return all + skip;
}

uint8_t *desk_room_take(void *ctx, bool *ret_fresh)
{
	struct desk_shell *shell = ctx;
	struct desk_room *room = shell->rooms;
	uint8_t *memory;

	*ret_fresh = !room;
	if (!room)
		return memory_new();
	LL_DELETE(shell->rooms, room);
	memory = room->memory;
	free(room);
	return memory;
}

void desk_room_give(void *ctx, uint8_t *memory)
{
	struct desk_shell *shell = ctx;
	struct desk_room *room = malloc(sizeof(*room));

	shell->rooms_used = true;
	if (!room) {
		(void)munmap(memory, DESK_ROOM);
		return;
	}
	room->memory = memory;
	LL_PREPEND(shell->rooms, room);
}

static void rooms_drop(struct desk_shell *shell, unsigned most)
{
	struct desk_room *room;

	for (; (room = shell->rooms) && most; most--) {
		LL_DELETE(shell->rooms, room);
		(void)munmap(room->memory, DESK_ROOM);
		free(room);
	}
}

void desk_rooms_prune(struct desk_shell *shell)
{
	if (!shell->rooms_used)
		rooms_drop(shell, PRUNED);
	shell->rooms_used = false;
}

void desk_rooms_free(struct desk_shell *shell)
{
	rooms_drop(shell, UINT_MAX);
}
