/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/feed.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK (64u << 10)

struct feed_chunk {
	struct feed_chunk *next;
	size_t used, size;
	uint8_t data[];
};

static struct feed_chunk *chunk_for(struct feed *feed, size_t len)
{
	size_t size = len > CHUNK ? len : CHUNK;
	struct feed_chunk *chunk = feed->last;

	if (chunk && chunk->size - chunk->used >= len)
		return chunk;
	chunk = malloc(sizeof(*chunk) + size);
	if (!chunk)
		return NULL;
	*chunk = (struct feed_chunk){.size = size};
	if (feed->last)
		feed->last->next = chunk;
	else
		feed->first = chunk;
	feed->last = chunk;
	return chunk;
}

uint8_t *feed_add(struct feed *feed, size_t len)
{
	const uint32_t head = (uint32_t)len;
	struct feed_chunk *chunk = chunk_for(feed, sizeof(head) + len);
	uint8_t *body;

	if (!chunk)
		return NULL;
	body = chunk->data + chunk->used;
	memcpy(body, &head, sizeof(head));
	chunk->used += sizeof(head) + len;
	feed->bytes += sizeof(head) + len;
	return body + sizeof(head);
}

void feed_begin(struct feed *feed)
{
	feed->mark = feed->last;
	feed->mark_used = feed->last ? feed->last->used : 0;
	feed->mark_bytes = feed->bytes;
}

static void chunks_free(struct feed_chunk *chunk)
{
	struct feed_chunk *next;

	for (; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
}

void feed_rollback(struct feed *feed)
{
	if (!feed->mark) {
		feed_clear(feed);
		return;
	}
	chunks_free(feed->mark->next);
	feed->mark->next = NULL;
	feed->mark->used = feed->mark_used;
	feed->last = feed->mark;
	feed->bytes = feed->mark_bytes;
}

int feed_each(
	const struct feed *feed, int (*each)(void *arg, const uint8_t *body, size_t len), void *arg)
{
	int r = 0;

	for (const struct feed_chunk *chunk = feed->first; chunk && !r; chunk = chunk->next) {
		for (size_t at = 0; !r && at < chunk->used;) {
			uint32_t len;

			memcpy(&len, chunk->data + at, sizeof(len));
			r = each(arg, chunk->data + at + sizeof(len), len);
			at += sizeof(len) + len;
		}
	}
	return r;
}

void feed_append(struct feed *feed, struct feed *more)
{
	if (!more->first)
		return;
	if (feed->last)
		feed->last->next = more->first;
	else
		feed->first = more->first;
	feed->last = more->last;
	feed->bytes += more->bytes;
	*more = (struct feed){0};
}

void feed_clear(struct feed *feed)
{
	chunks_free(feed->first);
	*feed = (struct feed){0};
}
