/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/fdqueue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fdqueue_advance(struct fdqueue *queue, size_t n)
{
	queue->head += n;
	queue->len -= n;
	if (queue->len == 0) {
		free(queue->entries);
		*queue = FDQUEUE_INIT;
	}
}

void fdqueue_deinit(struct fdqueue *queue)
{
	fdqueue_drop(queue, queue->len);
}

int fdqueue_reserve(struct fdqueue *queue, size_t n)
{
	struct fdqueue_entry *entries;
	size_t cap = queue->len + n;

	if (queue->cap - queue->head - queue->len >= n)
		return 0;
	/* Half as much again keeps a growing queue from copying itself on every push. */
	cap += cap / 2;
	entries = calloc(cap, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	if (queue->len)
		memcpy(entries, queue->entries + queue->head, queue->len * sizeof(*entries));
	free(queue->entries);
	queue->entries = entries;
	queue->head = 0;
	queue->cap = cap;
	return 0;
}

int fdqueue_push(struct fdqueue *queue, uint64_t at, const int *fds, size_t n)
{
	int r;

	if (n == 0)
		return 0;
	r = fdqueue_reserve(queue, n);
	if (r)
		return r;
	for (size_t i = 0; i < n; i++) {
		struct fdqueue_entry entry = {.at = at, .fd = fds[i]};

		queue->entries[queue->head + queue->len++] = entry;
	}
	return 0;
}

size_t fdqueue_peek(const struct fdqueue *queue, int *fds, size_t max, uint64_t *ret_at)
{
	const struct fdqueue_entry *entries;
	size_t n;

	if (queue->len == 0)
		return 0;
	entries = queue->entries + queue->head;
	for (n = 0; n < queue->len && n < max && entries[n].at == entries[0].at; n++)
		fds[n] = entries[n].fd;
	*ret_at = entries[0].at;
	return n;
}

void fdqueue_pop(struct fdqueue *queue, int *fds, size_t n)
{
	assert(n <= queue->len);
	for (size_t i = 0; i < n; i++)
		fds[i] = queue->entries[queue->head + i].fd;
	fdqueue_advance(queue, n);
}

void fdqueue_drop(struct fdqueue *queue, size_t n)
{
	assert(n <= queue->len);
	for (size_t i = 0; i < n; i++)
		close(queue->entries[queue->head + i].fd);
	fdqueue_advance(queue, n);
}
