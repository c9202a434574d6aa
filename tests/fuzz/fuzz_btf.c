/* SPDX-License-Identifier: Apache-2.0 */
/* Types (BTF) that a guest's kernel has in its memory. */
#include <stdlib.h>
#include <string.h>

#include "clients/os/linux/types.h"

#define GVA 0xffffffff82000000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct linux_part part = {.gva = GVA, .len = size, .bytes = malloc(size + 1)};
	struct linux_image image = {.parts = &part, .count = 1, .size = part.len};
	const struct linux_symbols none = {0};
	struct linux_fields fields;
	char error[128];

	if (!part.bytes)
		return 0;
	memcpy(part.bytes, data, size);
	(void)!linux_types_find(&fields, &none, &image, error, sizeof(error));
	free(part.bytes);
	return 0;
}
