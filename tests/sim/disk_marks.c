/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks, which outlive a broker that is killed and not the host. They are few, so that commands
 * wait for some; and now and then they cannot be opened.
 */
#include "tests/sim/disk_state.h"

#include <string.h>

#include "vmsig/vmsig_error.h"

void disk_forget_marks(struct disk *disk)
{
	memset(disk->slots, 0, sizeof(disk->slots));
}

unsigned disk_marks_used(const struct disk *disk)
{
	unsigned n = 0;

	for (size_t i = 0; i < SLOTS; i++)
		n += disk->slots[i].state != MARK_FREE;
	return n;
}

static int mark_open(void *ctx, char *error, size_t error_size)
{
	struct disk *disk = ctx;

	/* It takes as long as the disk likes. */
	if (!disk_is_ghost(disk) && *disk->env.faults && dice(3) == 0)
		return VMSIG_ERR_WOULD_BLOCK;
	disk->marks_open = !disk_is_ghost(disk) && !(*disk->env.faults && dice(24) == 0);
	return disk->marks_open ? 0 : VMSIG_ERR_IO;
}

static int mark_take(void *ctx, const struct ledger_key *key,
	const uint8_t digest[static LEDGER_DIGEST], uint32_t *ret_mark)
{
	struct disk *disk = ctx;

	if (disk_is_ghost(disk))
		return VMSIG_ERR_BUSY;
	if (!disk->marks_open)
		broken("marks are used and are not open");
	for (uint32_t i = 0; i < SLOTS; i++) {
		if (disk->slots[i].state != MARK_FREE)
			continue;
		disk->slots[i] = (struct slot){.state = MARK_TAKEN, .key = *key};
		memcpy(disk->slots[i].digest, digest, LEDGER_DIGEST);
		*ret_mark = i + 1;
		return 0;
	}
	return VMSIG_ERR_BUSY;
}

static struct slot *slot_get(struct disk *disk, uint32_t mark)
{
	if (!mark || mark > SLOTS || disk->slots[mark - 1].state == MARK_FREE)
		broken("a mark that was not taken");
	return &disk->slots[mark - 1];
}

static void mark_begin(void *ctx, uint32_t mark)
{
	struct disk *disk = ctx;

	if (!disk_is_ghost(disk))
		slot_get(disk, mark)->state = MARK_BEGUN;
}

static void mark_sum(void *ctx, uint32_t mark, uint32_t sum)
{
	struct disk *disk = ctx;

	if (!sum)
		broken("bulk data without a sum");
	if (!disk_is_ghost(disk))
		slot_get(disk, mark)->sum = sum;
}

static void mark_pause(void *ctx, uint32_t mark, uint64_t done)
{
	struct disk *disk = ctx;
	struct slot *slot;

	if (disk_is_ghost(disk))
		return;
	slot = slot_get(disk, mark);
	slot->state = MARK_PAUSED;
	slot->done = done;
	disk->env.marked(disk->env.arg, &slot->key);
}

static void mark_end(void *ctx, uint32_t mark, const void *reply, size_t len)
{
	struct disk *disk = ctx;
	struct slot *slot;

	if (disk_is_ghost(disk))
		return;
	slot = slot_get(disk, mark);
	slot->state = MARK_ENDED;
	slot->order = ++disk->last_order;
	memcpy(slot->reply, reply, len);
	slot->reply_len = len;
	slot->has_hash = false;
	disk->env.marked(disk->env.arg, &slot->key);
}

static void mark_hash(void *ctx, uint32_t mark, const uint8_t hash[static MARKS_HASH])
{
	struct disk *disk = ctx;
	struct slot *slot;

	if (disk_is_ghost(disk))
		return;
	slot = slot_get(disk, mark);
	if (slot->state != MARK_ENDED || slot->reply_len + MARKS_HASH > MARKS_REPLY_MAX)
		broken("a mark that has no place for a hash");
	slot->has_hash = true;
	memcpy(slot->hash, hash, MARKS_HASH);
}

static void mark_release(void *ctx, uint32_t mark)
{
	struct disk *disk = ctx;

	if (!disk_is_ghost(disk))
		slot_get(disk, mark)->state = MARK_FREE;
}

static bool mark_next(void *ctx, uint32_t *cursor, struct mark_view *ret_view)
{
	struct disk *disk = ctx;

	while (!disk_is_ghost(disk) && *cursor < SLOTS) {
		const struct slot *slot = &disk->slots[(*cursor)++];

		if (slot->state == MARK_FREE)
			continue;
		*ret_view = (struct mark_view){.mark = *cursor,
			.state = slot->state,
			.key = slot->key,
			.digest = slot->digest,
			.done = slot->done,
			.sum = slot->sum,
			.order = slot->order,
			.reply = slot->reply,
			.reply_len = slot->reply_len,
			.hash = slot->has_hash ? slot->hash : NULL};
		return true;
	}
	return false;
}

const struct desk_mark_ops disk_marks = {
	.open = mark_open,
	.take = mark_take,
	.begin = mark_begin,
	.sum = mark_sum,
	.pause = mark_pause,
	.end = mark_end,
	.hash = mark_hash,
	.release = mark_release,
	.next = mark_next,
};
