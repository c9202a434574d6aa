/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of symbols that a guest has in its memory. */
#include <stdlib.h>
#include <string.h>

#include "clients/os/linux/symbols.h"

#define GVA 0xffffffff82000000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct linux_part part = {.gva = GVA, .len = size, .bytes = malloc(size + 1)};
	struct linux_image image = {.parts = &part, .count = 1, .size = size};
	struct linux_symbols symbols;

	if (!part.bytes)
		return 0;
	memcpy(part.bytes, data, size);
	if (linux_symbols_find(&symbols, &image) == 0) {
		for (size_t i = 0; i < symbols.count; i++) {
			if (strlen(linux_symbols_name(&symbols, i)) > 512)
				abort();
		}
		linux_symbols_deinit(&symbols);
	}
	free(part.bytes);
	return 0;
}
