/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_BUFFER_H
#define PROTO_WIRE_BUFFER_H

/*
 * Byte queue in one contiguous allocation: bytes are added at the tail and taken from the
 * head. An empty buffer owns no memory, so that idle connections cost nothing here.
 */

#include <stddef.h>
#include <stdint.h>

struct buffer {
	uint8_t *data; /* allocation of `cap` bytes, or NULL */
	size_t head;   /* offset of the first byte */
	size_t len;    /* bytes queued */
	size_t cap;
};

#define BUFFER_INIT ((struct buffer){0})

/* Frees the memory and wipes nothing; the buffer is empty afterwards. */
void buffer_deinit(struct buffer *buffer);

/* Makes room for at least `room` bytes at the tail. Moves what is queued, so earlier
 * pointers into the buffer are void. -ENOMEM leaves the buffer as it was. */
__attribute__((warn_unused_result)) int buffer_reserve(struct buffer *buffer, size_t room);
/* Where the next byte goes; buffer_room() bytes may be written there. */
uint8_t *buffer_tail(const struct buffer *buffer);
size_t buffer_room(const struct buffer *buffer);
/* Counts `n` bytes, which were written at the tail, as queued. */
void buffer_commit(struct buffer *buffer, size_t n);

/* Reserves and copies. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int buffer_append(
	struct buffer *buffer, const void *data, size_t len);

const uint8_t *buffer_head(const struct buffer *buffer);
/* Takes `n` <= len bytes from the head. Frees the memory when that empties the buffer. */
void buffer_consume(struct buffer *buffer, size_t n);
/* Gives memory back that what is queued and `room` bytes behind it do not need. */
void buffer_trim(struct buffer *buffer, size_t room);

#endif
