/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of `info mtree -f`: what is accepted is ascending, not empty and does not wrap. The
 * same text as that of `info mtree` and of the clock.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/adapters/qemu/look.h"
#include "broker/adapters/qemu/memmap.h"
#include "broker/adapters/qemu/mtree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_as_others(const char *data, size_t size)
{
	struct memmap_backend backends[] = {{.id = "ram"}, {.id = "mem0"}};
	struct memmap map = {.backends = backends, .nbackends = 2};
	struct restore_look look = {0};
	char *text = strndup(data, size);

	if (!text)
		return;
	memmap_name_nodes(&map, text);
	look_clock(&look, text);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mtree mtree;
	char error[400];
	uint64_t last = 0;

	read_as_others((const char *)data, size);
	if (mtree_parse(&mtree, (const char *)data, size, error, sizeof(error)))
		return 0;
	for (size_t i = 0; i < mtree.nranges; i++) {
		const struct mtree_range *range = &mtree.ranges[i];

		if (range->len == 0 || range->gpa + (range->len - 1) < range->gpa ||
			(i && range->gpa <= last) || !memchr(range->name, 0, sizeof(range->name)))
			abort();
		last = range->gpa + (range->len - 1);
	}
	mtree_deinit(&mtree);
	return 0;
}
