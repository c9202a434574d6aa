/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/buffer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void buffer_deinit(struct buffer *buffer)
{
	free(buffer->data);
	*buffer = BUFFER_INIT;
}

static int buffer_resize(struct buffer *buffer, size_t cap)
{
	uint8_t *data = malloc(cap);

	if (!data)
		return -ENOMEM;
	if (buffer->len)
		memcpy(data, buffer->data + buffer->head, buffer->len);
	free(buffer->data);
	buffer->data = data;
	buffer->head = 0;
	buffer->cap = cap;
	return 0;
}

int buffer_reserve(struct buffer *buffer, size_t room)
{
	size_t need;

	if (buffer_room(buffer) >= room)
		return 0;
	if (__builtin_add_overflow(buffer->len, room, &need))
		return -ENOMEM;
	/* Sliding is worth it only when it frees as much as it copies. */
	if (need <= buffer->cap && buffer->head >= buffer->len) {
		memmove(buffer->data, buffer->data + buffer->head, buffer->len);
		buffer->head = 0;
		return 0;
	}
	if (buffer->len && need < 2 * buffer->len)
		need = 2 * buffer->len;
	return buffer_resize(buffer, need);
}

uint8_t *buffer_tail(const struct buffer *buffer)
{
	return buffer->data ? buffer->data + buffer->head + buffer->len : NULL;
}

size_t buffer_room(const struct buffer *buffer)
{
	return buffer->cap - buffer->head - buffer->len;
}

void buffer_commit(struct buffer *buffer, size_t n)
{
	assert(n <= buffer_room(buffer));
	buffer->len += n;
}

int buffer_append(struct buffer *buffer, const void *data, size_t len)
{
	int r;

	if (len == 0)
		return 0;
	r = buffer_reserve(buffer, len);
	if (r)
		return r;
	memcpy(buffer_tail(buffer), data, len);
	buffer_commit(buffer, len);
	return 0;
}

const uint8_t *buffer_head(const struct buffer *buffer)
{
	return buffer->data ? buffer->data + buffer->head : NULL;
}

void buffer_consume(struct buffer *buffer, size_t n)
{
	assert(n <= buffer->len);
	buffer->head += n;
	buffer->len -= n;
	if (buffer->len == 0)
		buffer_deinit(buffer);
}

void buffer_trim(struct buffer *buffer, size_t room)
{
	if (buffer->len == 0)
		buffer_deinit(buffer);
	else if (buffer->cap / 2 > buffer->len + room)
		/* When there is no memory for a smaller copy the larger one still serves. */
		(void)!buffer_resize(buffer, buffer->len + room);
}
