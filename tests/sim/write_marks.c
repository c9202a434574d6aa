/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks, which outlive a broker that is killed and not the host. They are few, so that commands
 * wait for some; and now and then they cannot be opened.
 */
#include "tests/sim/write_world.h"

#include <string.h>

#include "vmsig/vmsig_error.h"

#define SLOTS 8

struct slot {
	enum mark_state state;
	struct ledger_key key;
	uint8_t digest[LEDGER_DIGEST];
	uint64_t done, order;
	uint32_t sum;
	uint8_t reply[MARKS_REPLY_MAX];
	size_t reply_len;
	bool has_hash;
	uint8_t hash[MARKS_HASH];
};

static struct slot slots[SLOTS];
static uint64_t last_order;
static bool is_open;

void slots_clear(void)
{
	memset(slots, 0, sizeof(slots));
}

unsigned slots_used(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < SLOTS; i++)
		n += slots[i].state != MARK_FREE;
	return n;
}

static int mark_open(void *ctx, char *error, size_t error_size)
{
	/* It takes as long as the disk likes. */
	if (!is_ghost() && world.faults && dice(3) == 0)
		return VMSIG_ERR_WOULD_BLOCK;
	is_open = !is_ghost() && !(world.faults && dice(24) == 0);
	return is_open ? 0 : VMSIG_ERR_IO;
}

static int mark_take(void *ctx, const struct ledger_key *key,
	const uint8_t digest[static LEDGER_DIGEST], uint32_t *ret_mark)
{
	if (is_ghost())
		return VMSIG_ERR_BUSY;
	if (!is_open)
		broken("marks are used and are not open");
	for (uint32_t i = 0; i < SLOTS; i++) {
		if (slots[i].state != MARK_FREE)
			continue;
		slots[i] = (struct slot){.state = MARK_TAKEN, .key = *key};
		memcpy(slots[i].digest, digest, LEDGER_DIGEST);
		*ret_mark = i + 1;
		return 0;
	}
	return VMSIG_ERR_BUSY;
}

static struct slot *slot_get(uint32_t mark)
{
	if (!mark || mark > SLOTS || slots[mark - 1].state == MARK_FREE)
		broken("a mark that was not taken");
	return &slots[mark - 1];
}

static void mark_begin(void *ctx, uint32_t mark)
{
	if (!is_ghost())
		slot_get(mark)->state = MARK_BEGUN;
}

static void mark_sum(void *ctx, uint32_t mark, uint32_t sum)
{
	if (!sum)
		broken("bulk data without a sum");
	if (!is_ghost())
		slot_get(mark)->sum = sum;
}

static void mark_pause(void *ctx, uint32_t mark, uint64_t done)
{
	struct slot *slot;

	if (is_ghost())
		return;
	slot = slot_get(mark);
	slot->state = MARK_PAUSED;
	slot->done = done;
	model_marked(&slot->key);
}

static void mark_end(void *ctx, uint32_t mark, const void *reply, size_t len)
{
	struct slot *slot;

	if (is_ghost())
		return;
	slot = slot_get(mark);
	slot->state = MARK_ENDED;
	slot->order = ++last_order;
	memcpy(slot->reply, reply, len);
	slot->reply_len = len;
	slot->has_hash = false;
	model_marked(&slot->key);
}

static void mark_hash(void *ctx, uint32_t mark, const uint8_t hash[static MARKS_HASH])
{
	struct slot *slot;

	if (is_ghost())
		return;
	slot = slot_get(mark);
	if (slot->state != MARK_ENDED || slot->reply_len + MARKS_HASH > MARKS_REPLY_MAX)
		broken("a mark that has no place for a hash");
	slot->has_hash = true;
	memcpy(slot->hash, hash, MARKS_HASH);
}

static void mark_release(void *ctx, uint32_t mark)
{
	if (!is_ghost())
		slot_get(mark)->state = MARK_FREE;
}

static bool mark_next(void *ctx, uint32_t *cursor, struct mark_view *ret_view)
{
	while (!is_ghost() && *cursor < SLOTS) {
		const struct slot *slot = &slots[(*cursor)++];

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

const struct desk_mark_ops mark_ops = {
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
