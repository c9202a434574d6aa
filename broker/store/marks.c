/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/marks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "broker/journal/shared.h"
#include "vmsig/vmsig_error.h"

#define MARKS_NAME "marks"
#define SIZE (MARKS * sizeof(struct slot))

/* The layout belongs to the name. */
struct slot {
	uint64_t state; /* enum mark_state; written after what it stands for */
	struct ledger_key key;
	uint8_t digest[LEDGER_DIGEST];
	uint64_t key_sum;             /* of key and digest */
	uint64_t done, done_sum;      /* PAUSED; of an ENDED one the sum is that of its hash */
	uint64_t order;               /* in which they ended */
	uint64_t reply_sum;           /* of order and reply */
	uint32_t reply_len, data_sum; /* 0: none; it is part of the sums that follow it */
	uint8_t reply[MARKS_REPLY_MAX];
};
_Static_assert(sizeof(struct slot) == 512, "slots do not cross pages");
_Static_assert(SIZE % 4096 == 0, "slots fill pages");

struct marks {
	struct shared shared;
	struct slot *slots;
	uint32_t free[MARKS]; /* the last one is taken next: few pages are touched */
	uint32_t nfree;
	uint64_t order;
};

/* FNV-1a: against what a crash or a disk leaves, not against who can write to the directory. */
static uint64_t sum_of(const void *data, size_t len)
{
	const uint8_t *at = data, *end = at + len;
	uint64_t sum = 0xcbf29ce484222325;

	while (at < end)
		sum = (sum ^ *at++) * 0x100000001b3;
	return sum;
}

static uint64_t key_sum(const struct slot *slot)
{
	return sum_of(&slot->key, sizeof(slot->key)) ^ sum_of(slot->digest, sizeof(slot->digest));
}

static uint64_t with_data(const struct slot *slot, uint64_t sum)
{
	return slot->data_sum ? sum ^ sum_of(&slot->data_sum, sizeof(slot->data_sum)) : sum;
}

static uint64_t done_sum(const struct slot *slot)
{
	return with_data(slot, sum_of(&slot->done, sizeof(slot->done)));
}

static uint64_t reply_sum(const struct slot *slot)
{
	return with_data(slot,
		sum_of(&slot->order, sizeof(slot->order)) ^ sum_of(slot->reply, slot->reply_len));
}

/* Behind the reply; the order that is in its sum is of this one use of the slot. */
static uint64_t hash_sum(const struct slot *slot)
{
	return sum_of(slot->reply + slot->reply_len, MARKS_HASH) ^ slot->reply_sum;
}

static bool has_room_for_hash(const struct slot *slot)
{
	return slot->reply_len + MARKS_HASH <= MARKS_REPLY_MAX;
}

/* ---- life ---- */

/* Those that a former process has left stay in use. */
static void slots_collect(struct marks *marks)
{
	for (uint32_t i = MARKS; i > 0; i--) {
		const struct slot *slot = &marks->slots[i - 1];

		if (slot->state == MARK_FREE)
			marks->free[marks->nfree++] = i;
		else if (slot->order > marks->order)
			marks->order = slot->order;
	}
}

/* Memory of another size is of a version whose slots cannot be read: what was in flight then is
 * unknown. */
static int memory_open(struct marks *marks, const char *state_dir, const char *run_dir, char *error,
	size_t error_size)
{
	int r = shared_open(
		&marks->shared, state_dir, run_dir, MARKS_NAME, SIZE, false, error, error_size);

	if (r || marks->shared.size == SIZE)
		return r;
	shared_drop(&marks->shared);
	return shared_open(
		&marks->shared, state_dir, run_dir, MARKS_NAME, SIZE, false, error, error_size);
}

int marks_open(struct marks **ret_marks, const char *state_dir, const char *run_dir, char *error,
	size_t error_size)
{
	struct marks *marks = calloc(1, sizeof(*marks));
	int r;

	if (!marks)
		return -ENOMEM;
	r = memory_open(marks, state_dir, run_dir, error, error_size);
	if (r) {
		free(marks);
		return r;
	}
	marks->slots = (struct slot *)(void *)marks->shared.data;
	/* Without the right to it the memory may be swapped out. */
	(void)mlock(marks->slots, SIZE);
	(void)madvise(marks->slots, SIZE, MADV_DONTFORK);
	slots_collect(marks);
	*ret_marks = marks;
	return 0;
}

struct marks *marks_close(struct marks *marks)
{
	if (!marks)
		return NULL;
	if (marks->nfree == MARKS)
		shared_drop(&marks->shared);
	else
		shared_close(&marks->shared);
	free(marks);
	return NULL;
}

/* ---- slots ---- */

static struct slot *slot_of(const struct marks *marks, uint32_t mark)
{
	return &marks->slots[mark - 1];
}

/* A process that is killed has made all stores before the one it was killed at: the compiler
 * is the only one to be kept from changing their order. */
static void state_set(struct slot *slot, enum mark_state state)
{
	__atomic_store_n(&slot->state, (uint64_t)state, __ATOMIC_SEQ_CST);
}

int marks_take(struct marks *marks, const struct ledger_key *key,
	const uint8_t digest[LEDGER_DIGEST], uint32_t *ret_mark)
{
	struct slot *slot;

	if (!marks->nfree)
		return VMSIG_ERR_BUSY;
	*ret_mark = marks->free[--marks->nfree];
	slot = slot_of(marks, *ret_mark);
	slot->key = *key;
	memcpy(slot->digest, digest, LEDGER_DIGEST);
	slot->key_sum = key_sum(slot);
	slot->data_sum = 0;
	state_set(slot, MARK_TAKEN);
	return 0;
}

void marks_begin(struct marks *marks, uint32_t mark)
{
	state_set(slot_of(marks, mark), MARK_BEGUN);
}

void marks_sum(struct marks *marks, uint32_t mark, uint32_t sum)
{
	slot_of(marks, mark)->data_sum = sum;
}

void marks_pause(struct marks *marks, uint32_t mark, uint64_t done)
{
	struct slot *slot = slot_of(marks, mark);

	slot->done = done;
	slot->done_sum = done_sum(slot);
	state_set(slot, MARK_PAUSED);
}

void marks_end(struct marks *marks, uint32_t mark, const void *reply, size_t len)
{
	struct slot *slot = slot_of(marks, mark);

	memcpy(slot->reply, reply, len);
	slot->reply_len = (uint32_t)len;
	slot->order = ++marks->order;
	slot->reply_sum = reply_sum(slot);
	state_set(slot, MARK_ENDED);
}

void marks_hash(struct marks *marks, uint32_t mark, const uint8_t hash[MARKS_HASH])
{
	struct slot *slot = slot_of(marks, mark);

	if (!has_room_for_hash(slot))
		return;
	memcpy(slot->reply + slot->reply_len, hash, MARKS_HASH);
	__atomic_store_n(&slot->done_sum, hash_sum(slot), __ATOMIC_SEQ_CST);
}

void marks_release(struct marks *marks, uint32_t mark)
{
	state_set(slot_of(marks, mark), MARK_FREE);
	marks->free[marks->nfree++] = mark;
}

/* A state that its sums do not bear out is that of a write that has begun. */
static enum mark_state state_of(const struct slot *slot)
{
	if (slot->state == MARK_ENDED)
		return slot->reply_len <= MARKS_REPLY_MAX && reply_sum(slot) == slot->reply_sum
			       ? MARK_ENDED
			       : MARK_BEGUN;
	if (slot->state == MARK_PAUSED)
		return done_sum(slot) == slot->done_sum ? MARK_PAUSED : MARK_BEGUN;
	return slot->state == MARK_TAKEN ? MARK_TAKEN : MARK_BEGUN;
}

static const uint8_t *hash_of(const struct slot *slot, enum mark_state state)
{
	bool is_there =
		state == MARK_ENDED && has_room_for_hash(slot) && slot->done_sum == hash_sum(slot);

	return is_there ? slot->reply + slot->reply_len : NULL;
}

bool marks_next(const struct marks *marks, uint32_t *cursor, struct mark_view *ret_view)
{
	while (*cursor < MARKS) {
		const struct slot *slot = slot_of(marks, ++*cursor);
		enum mark_state state = key_sum(slot) == slot->key_sum ? state_of(slot) : MARK_FREE;

		if (slot->state == MARK_FREE)
			continue;
		*ret_view = (struct mark_view){.mark = *cursor,
			.state = state,
			.key = slot->key,
			.digest = slot->digest,
			.done = slot->done,
			.sum = slot->data_sum,
			.order = slot->order,
			.reply = slot->reply,
			.reply_len = state == MARK_ENDED ? slot->reply_len : 0,
			.hash = hash_of(slot, state)};
		return true;
	}
	return false;
}
