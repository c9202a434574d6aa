/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's memory with the objects that its kernel keeps: all lists of them, and where members of
 * objects are when nothing says so. */
#include <stdlib.h>
#include <string.h>

#include "clients/os/linux/infer.h"
#include "tests/unit/os/objects.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input is pairs of a place, counted in words, and what is there: 2 and 8 bytes. */
static void change(struct objects *objects, const uint8_t *data, size_t size)
{
	for (; size >= 10; data += 10, size -= 10) {
		uint16_t place;
		uint64_t word;

		memcpy(&place, data, sizeof(place));
		memcpy(&word, data + 2, sizeof(word));
		objects_put(objects,
			OBJECTS_MAP + OBJECTS_FIRST +
				8ull * (place % (OBJECTS_PLACES * OBJECTS_STEP / 8)),
			word);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct objects objects;

	if (!objects_make(&objects))
		abort();
	change(&objects, data, size);
	(void)objects_list_all(&objects);
	(void)!linux_infer(&objects.memory.kernel);
	(void)objects_list_all(&objects);
	objects_free(&objects);
	return 0;
}
