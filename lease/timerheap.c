/* SPDX-License-Identifier: Apache-2.0 */
#include "lease/timerheap.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

void timerheap_deinit(struct timerheap *heap)
{
	assert(heap->n == 0 && heap->reserved == 0);
	free(heap->nodes);
	*heap = TIMERHEAP_INIT;
}

int timerheap_reserve(struct timerheap *heap)
{
	if (heap->reserved == heap->capacity) {
		size_t capacity = heap->capacity ? heap->capacity * 2 : 16;
		struct timerheap_node **nodes =
			reallocarray(heap->nodes, capacity, sizeof(struct timerheap_node *));

		if (!nodes)
			return -ENOMEM;
		heap->nodes = nodes;
		heap->capacity = capacity;
	}
	heap->reserved++;
	return 0;
}

void timerheap_unreserve(struct timerheap *heap)
{
	assert(heap->reserved > heap->n);
	heap->reserved--;
}

static void place(struct timerheap *heap, size_t i, struct timerheap_node *node)
{
	heap->nodes[i] = node;
	node->index = i + 1;
}

static void sift(struct timerheap *heap, size_t i, struct timerheap_node *node)
{
	while (i > 0 && heap->nodes[(i - 1) / 2]->due > node->due) {
		place(heap, i, heap->nodes[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < heap->n && heap->nodes[child + 1]->due < heap->nodes[child]->due)
			child++;
		if (child >= heap->n || heap->nodes[child]->due >= node->due)
			break;
		place(heap, i, heap->nodes[child]);
		i = child;
	}
	place(heap, i, node);
}

static void disarm(struct timerheap *heap, struct timerheap_node *node)
{
	size_t i = node->index - 1;
	struct timerheap_node *last = heap->nodes[--heap->n];

	node->index = 0;
	if (last != node)
		sift(heap, i, last);
}

void timerheap_set(struct timerheap *heap, struct timerheap_node *node, uint64_t due)
{
	bool armed = node->index != 0;

	if (armed && due == TIMERHEAP_NEVER) {
		disarm(heap, node);
	} else if (due != TIMERHEAP_NEVER) {
		node->due = due;
		if (!armed) {
			assert(heap->n < heap->reserved);
			heap->n++;
		}
		sift(heap, armed ? node->index - 1 : heap->n - 1, node);
	}
}

struct timerheap_node *timerheap_first(const struct timerheap *heap)
{
	return heap->n ? heap->nodes[0] : NULL;
}
