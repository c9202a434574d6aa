/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/spares.h"

#include <stdint.h>
#include <stdlib.h>

#define ROUND 256u /* bytes: writes that differ by few can use each other's */

struct spare {
	struct spare *next; /* while nobody has it */
	size_t size;
	_Alignas(max_align_t) unsigned char memory[];
};

static struct spare *spare_pop(struct spares *spares)
{
	struct spare *spare = spares->list;

	spares->list = spare->next;
	spares->bytes -= spare->size;
	return spare;
}

static void *memory_of(struct spare *spare)
{
	return spare->memory;
}

void *spares_take(struct spares *spares, size_t size)
{
	struct spare *spare;

	if (size > SIZE_MAX - sizeof(*spare) - ROUND)
		return NULL;
	size = (size + ROUND - 1) / ROUND * ROUND;
	if (spares->list && spares->list->size >= size)
		return memory_of(spare_pop(spares));
	/* Its place is for one that is large enough. */
	if (spares->list)
		free(spare_pop(spares));
	spare = malloc(sizeof(*spare) + size);
	if (!spare)
		return NULL;
	spare->size = size;
	return memory_of(spare);
}

void spares_give(struct spares *spares, void *memory)
{
	struct spare *spare;

	if (!memory)
		return;
	spare = (struct spare *)(void *)((unsigned char *)memory - offsetof(struct spare, memory));
	if (spare->size > SPARES_MAX - spares->bytes) {
		free(spare);
		return;
	}
	spare->next = spares->list;
	spares->list = spare;
	spares->bytes += spare->size;
}

void spares_deinit(struct spares *spares)
{
	while (spares->list)
		free(spare_pop(spares));
}
