/* SPDX-License-Identifier: Apache-2.0 */
/* The batch at hand: entries are appended to the ring, room is reserved for them before, and they
 * are published together or not at all. */
#include <stdio.h>
#include <string.h>

#include "broker/journal/state.h"
#include "vmsig/vmsig_error.h"

#define OVERHEAD 1024u /* of the entries of one piece of work, beside their bodies */
/* Such a part of the ring may wait for a segment that is being allocated. */
#define LATE_PART 4u

/* FNV-1a, folded. */
uint32_t journal_key(const char *name)
{
	uint64_t sum = 0xcbf29ce484222325;
	uint32_t key;

	if (!name || !*name)
		return 0;
	for (; *name; name++)
		sum = (sum ^ (uint8_t)*name) * 0x100000001b3;
	key = (uint32_t)(sum ^ sum >> 32);
	return key ? key : 1;
}

/* ---- appending ---- */

static uint64_t ring_end(const struct journal *journal)
{
	const struct ring *ring = &journal->ring;

	return atomic_load_explicit(&ring->state->tail, memory_order_acquire) + ring->size;
}

uint64_t journal_next_id(const struct journal *journal)
{
	return journal->batch.id + 1;
}

uint64_t journal_next_number(const struct journal *journal)
{
	return journal->batch.number + 1;
}

bool journal_is_open(const struct journal *journal)
{
	return journal->open;
}

/* Sum and hash are the thread's. */
static void put_header(uint8_t *at, size_t size, const struct journal_mark *mark,
	enum journal_type type, const struct journal_keys *keys, size_t len)
{
	static const struct journal_keys none;
	struct entry_header header = {.len = (uint32_t)len,
		.number = mark->number,
		.id = mark->id,
		.type = (uint8_t)type};

	if (!keys)
		keys = &none;
	header.time_ns = keys->time_ns;
	header.endpoint = keys->endpoint;
	header.tenant = keys->tenant;
	header.kind = keys->kind & 63;
	memset(at + size - ENTRY_ALIGN, 0, ENTRY_ALIGN);
	memcpy(at, &header, sizeof(header));
}

int journal_append(struct journal *journal, enum journal_type type, const struct journal_keys *keys,
	size_t len, uint8_t **ret_body)
{
	struct journal_mark *batch = &journal->batch;
	size_t size;
	uint8_t *at;

	if (len > JOURNAL_BODY_MAX)
		return VMSIG_ERR_OUT_OF_RANGE;
	size = entry_size(type, len);
	if (size > journal->entry_max)
		return VMSIG_ERR_OUT_OF_RANGE;
	if (journal->closed || batch->position + size > ring_end(journal))
		return VMSIG_ERR_IO;
	at = ring_at(&journal->ring, batch->position);
	batch->number++;
	batch->id += type == JOURNAL_AUDIT;
	put_header(at, size, batch, type, keys, len);
	batch->position += size;
	journal->open = true;
	*ret_body = at + entry_body_at(type);
	return 0;
}

void journal_commit(struct journal *journal)
{
	if (!journal->open)
		return;
	journal->open = false;
	journal->committed = journal->batch;
	/* In this order for both: either the thread sees the entries, or it is woken. */
	atomic_store(&journal->ring.state->head, journal->batch.position);
	if (atomic_load(&journal->drain.asleep))
		drain_wake_up(&journal->drain);
}

void journal_rollback(struct journal *journal)
{
	journal->open = false;
	journal->batch = journal->committed;
}

/* ---- room ---- */

static const char *refuse(struct journal *journal, const char *otherwise)
{
	char text[DRAIN_ERROR_MAX + 1];

	drain_trouble(&journal->drain, text);
	snprintf(journal->refusal, sizeof(journal->refusal), "%s", text[0] ? text : otherwise);
	return journal->refusal;
}

/* Position up to which the disk has room, or is about to have: the next segment comes when the one
 * before is full, which is no reason to refuse anybody. One that cannot be had is trouble. */
static uint64_t room_end(struct journal *journal)
{
	uint64_t granted = atomic_load(&journal->drain.granted);
	char text[DRAIN_ERROR_MAX + 1];

	drain_trouble(&journal->drain, text);
	return text[0] || journal->trouble[0] ? granted : granted + journal->ring.size / LATE_PART;
}

const char *journal_refusal(struct journal *journal, size_t bytes)
{
	uint64_t end = journal->batch.position + bytes + OVERHEAD + journal->reserve;

	if (journal->closed)
		return "the broker is about to end";
	if (atomic_load(&journal->drain.failed))
		return refuse(journal, "the journal could not be brought to the disk");
	if (end > ring_end(journal))
		return refuse(journal,
			"the disk of the state directory does not keep up: the journal "
			"waits for it in memory, which is full; it goes on by itself");
	if (end > atomic_load(&journal->drain.granted) && end > room_end(journal))
		return refuse(journal, "the next segment of the journal is not allocated yet; try "
				       "again");
	return NULL;
}

enum journal_pressure journal_pressure(const struct journal *journal)
{
	uint64_t left;

	if (journal->closed)
		return JOURNAL_PRESSURE_FULL;
	left = ring_end(journal) - journal->batch.position;
	if (left <= journal->reserve)
		return JOURNAL_PRESSURE_FULL;
	return left < journal->ring.size / 2 ? JOURNAL_PRESSURE_HIGH : JOURNAL_PRESSURE_NONE;
}
