/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/journal/catalog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MOST 512u /* blocks under one lock: some microseconds */

void catalog_init(struct catalog *catalog)
{
	memset(catalog, 0, sizeof(*catalog));
	pthread_mutex_init(&catalog->lock, NULL);
}

void catalog_deinit(struct catalog *catalog)
{
	for (size_t i = 0; i < catalog->n; i++)
		blocks_deinit(&catalog->segments[i].blocks);
	free(catalog->segments);
	pthread_mutex_destroy(&catalog->lock);
}

/* ---- what is added ---- */

static int reserve(struct catalog *catalog)
{
	size_t capacity = catalog->capacity ? 2 * catalog->capacity : 64;
	struct catalog_segment *grown;

	if (catalog->n < catalog->capacity)
		return 0;
	grown = realloc(catalog->segments, capacity * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	catalog->segments = grown;
	catalog->capacity = capacity;
	return 0;
}

/* One without entries leaves its number to the next. */
static void drop_empty(struct catalog *catalog, uint64_t first)
{
	struct catalog_segment *newest = catalog->n ? &catalog->segments[catalog->n - 1] : NULL;

	if (newest && newest->first == first) {
		blocks_deinit(&newest->blocks);
		catalog->n--;
	}
}

int catalog_add(struct catalog *catalog, const struct catalog_segment *segment)
{
	int r;

	pthread_mutex_lock(&catalog->lock);
	r = reserve(catalog);
	if (!r)
		drop_empty(catalog, segment->first);
	if (!r)
		catalog->segments[catalog->n++] = *segment;
	pthread_mutex_unlock(&catalog->lock);
	return r;
}

void catalog_set_newest(
	struct catalog *catalog, uint64_t number, uint64_t id, const uint8_t hash[JOURNAL_HASH])
{
	pthread_mutex_lock(&catalog->lock);
	catalog->number = number;
	catalog->id = id;
	memcpy(catalog->hash, hash, JOURNAL_HASH);
	pthread_mutex_unlock(&catalog->lock);
}

void catalog_extend(struct catalog *catalog, const struct entry_view *view)
{
	struct catalog_segment *newest;

	pthread_mutex_lock(&catalog->lock);
	newest = &catalog->segments[catalog->n - 1];
	blocks_add(&newest->blocks, newest->end, view);
	newest->end += view->size;
	catalog->number = view->entry.number;
	if (view->hash) {
		catalog->id = view->entry.id;
		memcpy(catalog->hash, view->hash, JOURNAL_HASH);
	}
	pthread_mutex_unlock(&catalog->lock);
}

/* ---- what is asked ---- */

void catalog_head(struct catalog *catalog, struct journal_head *ret_head)
{
	const struct catalog_segment *oldest;

	pthread_mutex_lock(&catalog->lock);
	oldest = catalog->segments;
	ret_head->id = catalog->id;
	memcpy(ret_head->hash, catalog->hash, JOURNAL_HASH);
	ret_head->first = (catalog->n ? oldest->base_id : catalog->id) + 1;
	memcpy(ret_head->anchor, catalog->n ? oldest->anchor : catalog->hash, JOURNAL_HASH);
	pthread_mutex_unlock(&catalog->lock);
}

uint64_t catalog_bytes(struct catalog *catalog)
{
	uint64_t bytes = 0;

	pthread_mutex_lock(&catalog->lock);
	for (size_t i = 0; i < catalog->n; i++)
		bytes += catalog->segments[i].bytes;
	pthread_mutex_unlock(&catalog->lock);
	return bytes;
}

uint64_t catalog_first(struct catalog *catalog)
{
	uint64_t first;

	pthread_mutex_lock(&catalog->lock);
	first = catalog->n ? catalog->segments[0].first : catalog->number + 1;
	pthread_mutex_unlock(&catalog->lock);
	return first;
}

bool catalog_segment_at(struct catalog *catalog, size_t index, struct catalog_segment *ret_segment)
{
	bool found;

	pthread_mutex_lock(&catalog->lock);
	found = index < catalog->n;
	if (found) {
		*ret_segment = catalog->segments[index];
		ret_segment->blocks = (struct blocks){0};
	}
	pthread_mutex_unlock(&catalog->lock);
	return found;
}

/* Without the lock: blocks of the newest segment are changed by the thread only, which is the
 * caller. */
int catalog_store_newest(struct catalog *catalog, int dir)
{
	const struct catalog_segment *newest = &catalog->segments[catalog->n - 1];
	struct blocks_end end = {.end = newest->end, .number = catalog->number};

	return blocks_store(&newest->blocks, dir, newest->first, &end);
}

/* ---- looking up ---- */

static uint64_t first_of(const struct catalog_segment *segment)
{
	return segment->first;
}

static uint64_t base_id_of(const struct catalog_segment *segment)
{
	return segment->base_id;
}

/* The newest segment of which that is not above `value`; 0 when there is none. */
static size_t index_by(const struct catalog *catalog,
	uint64_t (*member)(const struct catalog_segment *segment), uint64_t value)
{
	size_t low = 0, high = catalog->n;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (member(&catalog->segments[middle]) <= value)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* The one that has entry `first`. */
static size_t index_of(const struct catalog *catalog, uint64_t first)
{
	return index_by(catalog, first_of, first);
}

/* The one that has the record behind `id`. */
static size_t index_of_id(const struct catalog *catalog, uint64_t id)
{
	return index_by(catalog, base_id_of, id);
}

static void cursor_begin(const struct catalog *catalog, const struct journal_query *query,
	struct catalog_cursor *cursor)
{
	uint64_t id = query->after;
	size_t index;

	if (query->newest)
		id = query->until ? query->until - 1 : UINT64_MAX;
	index = index_of_id(catalog, id);
	cursor->segment = catalog->segments[index].first;
	cursor->block = query->newest ? catalog->segments[index].blocks.n : 0;
}

/* One block on; false at the end. Segments may have been dropped meanwhile. */
static bool cursor_move(const struct catalog *catalog, bool newest, struct catalog_cursor *cursor,
	size_t *ret_index)
{
	size_t index = index_of(catalog, cursor->segment);

	if (catalog->segments[index].first != cursor->segment) {
		if (newest)
			return false;
		cursor->block = 0;
	}
	if (newest) {
		while (!cursor->block && index)
			cursor->block = catalog->segments[--index].blocks.n;
		if (!cursor->block--)
			return false;
	} else {
		while (cursor->block >= catalog->segments[index].blocks.n) {
			if (++index == catalog->n)
				return false;
			cursor->block = 0;
		}
	}
	cursor->segment = catalog->segments[index].first;
	*ret_index = index;
	return true;
}

static void span_fill(struct catalog_span *span, const struct catalog_segment *segment, size_t i)
{
	const struct block *block = &segment->blocks.list[i];

	*span = (struct catalog_span){.first = segment->first,
		.offset = block->offset,
		.limit = i + 1 < segment->blocks.n ? block[1].offset : segment->end,
		.number = block->number,
		.first_id = block->first_id,
		.last_id = block->last_id};
}

static enum catalog_step look(const struct catalog *catalog, const struct journal_query *query,
	struct catalog_cursor *cursor, struct catalog_span *ret_span)
{
	for (unsigned steps = 0; steps < LOOK_MOST; steps++) {
		const struct block *block;
		size_t index, at;

		if (!cursor_move(catalog, query->newest, cursor, &index))
			return CATALOG_END;
		at = query->newest ? cursor->block : cursor->block++;
		block = &catalog->segments[index].blocks.list[at];
		if (block_may_match(block, query)) {
			span_fill(ret_span, &catalog->segments[index], at);
			return CATALOG_SPAN;
		}
	}
	return CATALOG_AGAIN;
}

enum catalog_step catalog_next(struct catalog *catalog, const struct journal_query *query,
	struct catalog_cursor *cursor, struct catalog_span *ret_span)
{
	enum catalog_step step = CATALOG_END;

	pthread_mutex_lock(&catalog->lock);
	if (catalog->n && !cursor->ended) {
		if (!cursor->segment)
			cursor_begin(catalog, query, cursor);
		step = look(catalog, query, cursor, ret_span);
	}
	cursor->ended = step == CATALOG_END;
	pthread_mutex_unlock(&catalog->lock);
	return step;
}

/* ---- retention ---- */

/* Segments from the oldest on that may go. */
static size_t count_prunable(
	const struct catalog *catalog, uint64_t bytes, uint64_t before_ns, uint64_t keep)
{
	uint64_t all = 0;
	size_t n = 0;

	for (size_t i = 0; i < catalog->n; i++)
		all += catalog->segments[i].bytes;
	for (; n + 1 < catalog->n && catalog->segments[n + 1].first - 1 <= keep; n++) {
		const struct catalog_segment *segment = &catalog->segments[n];

		if (all <= bytes && segment->blocks.to_ns >= before_ns)
			break;
		all -= segment->bytes;
	}
	return n;
}

bool catalog_prunable(struct catalog *catalog, uint64_t bytes, uint64_t before_ns, uint64_t keep,
	struct journal_cut *ret_cut)
{
	size_t n;

	pthread_mutex_lock(&catalog->lock);
	n = count_prunable(catalog, bytes, before_ns, keep);
	if (n) {
		const struct catalog_segment *next = &catalog->segments[n];

		ret_cut->number = next->first - 1;
		ret_cut->id = next->base_id;
		memcpy(ret_cut->hash, next->anchor, JOURNAL_HASH);
	}
	pthread_mutex_unlock(&catalog->lock);
	return n != 0;
}

bool catalog_drop(struct catalog *catalog, uint64_t number, uint64_t *ret_first)
{
	bool drops;

	pthread_mutex_lock(&catalog->lock);
	drops = catalog->n > 1 && catalog->segments[1].first - 1 <= number;
	if (drops) {
		*ret_first = catalog->segments[0].first;
		blocks_deinit(&catalog->segments[0].blocks);
		catalog->n--;
		memmove(catalog->segments, catalog->segments + 1,
			catalog->n * sizeof(*catalog->segments));
	}
	pthread_mutex_unlock(&catalog->lock);
	return drops;
}
