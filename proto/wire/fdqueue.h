/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_FDQUEUE_H
#define PROTO_WIRE_FDQUEUE_H

/*
 * FIFO of descriptors that owns what is in it: whatever is not popped gets closed. Each
 * descriptor carries a position; neighbours with the same position belong together.
 */

#include <stddef.h>
#include <stdint.h>

struct fdqueue_entry {
	uint64_t at;
	int fd;
};

struct fdqueue {
	struct fdqueue_entry *entries; /* NULL while empty */
	size_t head;
	size_t len;
	size_t cap;
};

#define FDQUEUE_INIT ((struct fdqueue){0})

/* Closes everything. */
void fdqueue_deinit(struct fdqueue *queue);

/* Makes room for `n` more, so that the next fdqueue_push() of as many cannot fail. */
__attribute__((warn_unused_result)) int fdqueue_reserve(struct fdqueue *queue, size_t n);
/* Takes ownership of all, or of none with -ENOMEM. */
__attribute__((warn_unused_result)) int fdqueue_push(
	struct fdqueue *queue, uint64_t at, const int *fds, size_t n);

/* Copies at most `max` descriptors of the first group without taking them. Returns how
 * many; *ret_at is their position. 0 when the queue is empty. */
size_t fdqueue_peek(const struct fdqueue *queue, int *fds, size_t max, uint64_t *ret_at);
/* Hands the first `n` <= len descriptors to the caller. */
void fdqueue_pop(struct fdqueue *queue, int *fds, size_t n);
/* Closes the first `n` <= len descriptors. */
void fdqueue_drop(struct fdqueue *queue, size_t n);

#endif
