/* SPDX-License-Identifier: Apache-2.0 */
/* Deliveries: what waits for the holder, in order, and who owns their descriptors and payload. */
#include "clients/lib/client.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int delivery_queue_init(struct delivery_queue *queue, uint32_t limit)
{
	uint32_t size = limit + CLIENT_QUEUE_SPARE;
	vmsig_delivery *ring = calloc(size, sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	*queue = (struct delivery_queue){.ring = ring, .size = size, .limit = limit};
	return 0;
}

void delivery_queue_deinit(struct delivery_queue *queue)
{
	for (; queue->count; queue->count--) {
		vmsig_delivery_clear(&queue->ring[queue->head]);
		queue->head = (queue->head + 1) % queue->size;
	}
	free(queue->ring);
	*queue = (struct delivery_queue){0};
}

bool delivery_queue_is_full(const struct delivery_queue *queue)
{
	return queue->count >= queue->limit;
}

vmsig_delivery *delivery_queue_add(struct delivery_queue *queue, uint32_t kind, const char *name)
{
	vmsig_delivery *delivery;

	assert(queue->count < queue->size);
	delivery = &queue->ring[(queue->head + queue->count) % queue->size];
	queue->count++;
	*delivery = VMSIG_DELIVERY_INIT;
	delivery->event.kind = kind;
	delivery->event.source = kind < VMSIG_EV_CONNECTED ? VMSIG_SRC_MEMCTX : VMSIG_SRC_NONE;
	snprintf(delivery->endpoint, sizeof(delivery->endpoint), "%s", name);
	return delivery;
}

void delivery_set_text(vmsig_delivery *delivery, const char *text)
{
	size_t len = strnlen(text, CLIENT_TEXT_MAX);
	char *copy;

	if (!len)
		return;
	copy = malloc(len + 1);
	if (!copy)
		return;
	client_clean_text(copy, len + 1, text);
	delivery->event.payload = (vmsig_payload){.data = copy, .len = len, .release = free};
}

int vmsig_next(vmsig *v, vmsig_delivery *ret_delivery)
{
	struct delivery_queue *queue = &v->queue;

	if (!queue->count)
		return -VMSIG_ERR_WOULD_BLOCK;
	*ret_delivery = queue->ring[queue->head];
	queue->ring[queue->head] = VMSIG_DELIVERY_INIT;
	queue->head = (queue->head + 1) % queue->size;
	queue->count--;
	return 0;
}

static void fd_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

void vmsig_delivery_clear(vmsig_delivery *delivery)
{
	if (!delivery)
		return;
	fd_close(delivery->ram_fd);
	fd_close(delivery->coherence_fd);
	vmsig_event_clear(&delivery->event);
	*delivery = VMSIG_DELIVERY_INIT;
}

int vmsig_delivery_take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

const char *vmsig_delivery_text(const vmsig_delivery *delivery)
{
	switch (delivery->event.kind) {
	case VMSIG_EV_ENDPOINT_STATE:
	case VMSIG_EV_DISCONNECTED:
	case VMSIG_EV_SUBSCRIBED:
		return delivery->event.payload.data ? delivery->event.payload.data : "";
	default:
		return "";
	}
}

vmsig_endpoint_list *vmsig_delivery_take_list(vmsig_delivery *delivery)
{
	vmsig_endpoint_list *list;

	if (delivery->event.kind != VMSIG_EV_LISTED)
		return NULL;
	list = (vmsig_endpoint_list *)(uintptr_t)delivery->event.payload.data;
	delivery->event.payload = (vmsig_payload){0};
	return list;
}
