/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A decrypted stream that arrives in odd pieces: byte 0 and 1 choose the largest frame, byte
 * 2 the size of the pieces. Splitting must not depend on the pieces, deliver the stream's own
 * bytes in order, and never a frame above the limit.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire/buffer.h"
#include "proto/wire/frame.h"
#include "vmsig/vmsig_error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct splitter {
	struct buffer buffer;
	size_t frame_max;
	const uint8_t *stream; /* what the next frame must be equal to */
	size_t frames;
};

/* Takes every whole frame that is there; false after a protocol error. */
static int take_all(struct splitter *s)
{
	for (;;) {
		const uint8_t *payload;
		size_t len;
		int r = frame_parse(
			buffer_head(&s->buffer), s->buffer.len, s->frame_max, &payload, &len);

		if (r)
			return r;
		if (len > s->frame_max ||
			memcmp(buffer_head(&s->buffer), s->stream, FRAME_HEADER + len) != 0)
			abort();
		s->stream += FRAME_HEADER + len;
		s->frames++;
		buffer_consume(&s->buffer, FRAME_HEADER + len);
		if (s->frames % 3 == 0)
			buffer_trim(&s->buffer, 0);
	}
}

static size_t split(const uint8_t *data, size_t size, size_t frame_max, size_t piece, int *ret_end)
{
	struct splitter s = {.frame_max = frame_max, .stream = data};
	int r = VMSIG_ERR_WOULD_BLOCK;

	for (size_t at = 0; at < size && r == VMSIG_ERR_WOULD_BLOCK; at += piece) {
		size_t n = size - at < piece ? size - at : piece;

		if (buffer_append(&s.buffer, data + at, n))
			abort();
		r = take_all(&s);
	}
	buffer_deinit(&s.buffer);
	*ret_end = r;
	return s.frames;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t frame_max;
	size_t piece;
	size_t a;
	size_t b;
	int a_end;
	int b_end;

	if (size < 3)
		return 0;
	frame_max = (size_t)data[0] << 8 | data[1];
	piece = data[2] ? data[2] : 1;
	data += 3;
	size -= 3;
	a = split(data, size, frame_max, piece, &a_end);
	b = split(data, size, frame_max, size ? size : 1, &b_end);
	if (a != b || a_end != b_end)
		abort();
	return 0;
}
