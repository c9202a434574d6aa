/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/etcd/stream.h"

#include <stdlib.h>
#include <string.h>

void etcd_stream_cut(struct etcd_stream *stream)
{
	free(stream->buffer);
	stream->buffer = NULL;
	stream->len = stream->at = 0;
	stream->flooded = false;
}

void etcd_stream_deinit(struct etcd_stream *stream)
{
	etcd_stream_cut(stream);
}

bool etcd_stream_feed(struct etcd_stream *stream, const char *data, size_t len)
{
	size_t left = stream->len - stream->at;
	char *buffer;

	if (len > ETCD_REPLY_MAX - left) {
		stream->flooded = true;
		return false;
	}
	if (stream->at)
		memmove(stream->buffer, stream->buffer + stream->at, left);
	stream->at = 0;
	stream->len = left;
	buffer = realloc(stream->buffer, left + len + 1);
	if (!buffer)
		return false;
	stream->buffer = buffer;
	memcpy(buffer + left, data, len);
	stream->len += len;
	return true;
}

/* What was told is not told again. */
static void drop_old(struct txn_notice *notice, int64_t next)
{
	size_t kept = 0;

	for (size_t i = 0; i < notice->n; i++) {
		struct txn_event event = notice->events[i];

		if (event.entry.mod_revision < next) {
			free(event.entry.key.data);
			free(event.entry.value.data);
		} else {
			notice->events[kept++] = event;
		}
	}
	notice->n = kept;
}

static enum etcd_line take_changes(struct etcd_stream *stream, struct txn_notice *notice)
{
	drop_old(notice, stream->next);
	for (size_t i = 0; i < notice->n; i++) {
		if (notice->events[i].entry.mod_revision >= stream->next)
			stream->next = notice->events[i].entry.mod_revision + 1;
	}
	return notice->n ? ETCD_LINE_NOTICE : ETCD_LINE_NOTHING;
}

/* A store that was restored from a snapshot is behind what was seen of it, and would say nothing
 * until it has caught up with another history. */
static enum etcd_line take_beginning(struct etcd_stream *stream, struct txn_notice *notice)
{
	if (!stream->next)
		stream->next = notice->revision + 1;
	if (notice->revision + 1 >= stream->next)
		return ETCD_LINE_BEGUN;
	notice->kind = TXN_COMPACTED;
	return ETCD_LINE_NOTICE;
}

static enum etcd_line take(
	struct etcd_stream *stream, enum etcd_line line, struct txn_notice *notice)
{
	if (line == ETCD_LINE_BEGUN)
		return take_beginning(stream, notice);
	if (line == ETCD_LINE_NOTICE && notice->kind == TXN_CHANGES)
		return take_changes(stream, notice);
	return line;
}

enum etcd_line etcd_stream_next(
	struct etcd_stream *stream, struct txn_notice *notice, const char **ret_why)
{
	const uint64_t watch = notice->number;
	enum etcd_line line = ETCD_LINE_NOTHING;

	while (line == ETCD_LINE_NOTHING) {
		size_t left = stream->len - stream->at;
		const char *text = stream->buffer ? stream->buffer + stream->at : "";
		const char *end = left ? memchr(text, '\n', left) : NULL;

		if (!end)
			return ETCD_LINE_NOTHING;
		stream->at += (size_t)(end - text) + 1;
		if (end == text)
			continue;
		line = take(stream, etcd_reply_line(text, (size_t)(end - text), notice, ret_why),
			notice);
		if (line == ETCD_LINE_NOTHING) {
			txn_notice_deinit(notice);
			notice->number = watch;
		}
	}
	return line;
}
