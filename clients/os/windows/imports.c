/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/imports.h"

#include <inttypes.h>
#include <stdio.h>

#include "clients/os/names.h"
#include "clients/os/windows/image.h"
#include "clients/os/windows/reader.h"
#include "vmsig/vmsig_error.h"

#define LIBRARIES_MAX 4096u
#define IMPORTS_MAX 65536u /* of all; the largest programs have some thousands */
#define NAME_PART 512u
#define NUMBER_MASK 0xffffu

/* IMAGE_IMPORT_DESCRIPTOR. */
struct imports_library {
	uint32_t lookup, stamp, forwarder, name, address;
};

struct imports_walk {
	struct windows_kernel *kernel;
	const struct windows_image *image;
	vmsig_name_list *list;
	bool missing;
};

/* One word of a table, of 4 or 8 bytes. */
static uint64_t read_word(struct imports_walk *walk, uint64_t at)
{
	uint64_t value = 0; /* little-endian, as the guest is */
	bool missing;

	windows_image_some(
		walk->kernel, walk->image, at, &value, walk->image->wide ? 8 : 4, &missing);
	walk->missing |= missing;
	return value;
}

/* The name that a word of the lookup table stands for; false: it is not resident. */
static bool read_name(struct imports_walk *walk, uint64_t lookup, char ret_name[static NAME_PART])
{
	uint64_t by_number = walk->image->wide ? 1ull << 63 : 1u << 31;

	if (lookup & by_number) {
		snprintf(ret_name, NAME_PART, "#%" PRIu64, lookup & NUMBER_MASK);
		return true;
	}
	/* Two bytes in front of it are a hint. */
	return windows_image_text(walk->kernel, walk->image, lookup + 2, ret_name, NAME_PART) &&
	       ret_name[0];
}

static int take_library(struct imports_walk *walk, const struct imports_library *library)
{
	uint64_t step = walk->image->wide ? 8 : 4, lookup;
	char module[NAME_PART], name[NAME_PART], text[2 * NAME_PART];
	int r = 0;

	/* Without a table of names they were where the addresses are now. */
	if (!library->lookup || !windows_image_text(walk->kernel, walk->image, library->name,
					module, sizeof(module))) {
		walk->missing = true;
		return 0;
	}
	for (uint64_t i = 0; !r && !walk->kernel->fault; i += step) {
		lookup = read_word(walk, library->lookup + i);
		if (!lookup)
			break;
		if (walk->list->count == IMPORTS_MAX || !read_name(walk, lookup, name)) {
			walk->missing = true;
			break;
		}
		snprintf(text, sizeof(text), "%s!%s", module, name);
		r = names_append(walk->list, read_word(walk, library->address + i), text);
	}
	return r;
}

static int take_name(struct imports_walk *walk, const struct imports_library *library)
{
	char module[NAME_PART];

	if (windows_image_text(walk->kernel, walk->image, library->name, module, sizeof(module)))
		return names_append(walk->list, 0, module);
	walk->missing = true;
	return 0;
}

static int walk_libraries(struct imports_walk *walk,
	int (*take)(struct imports_walk *walk, const struct imports_library *library))
{
	struct windows_kernel *kernel = walk->kernel;
	uint64_t at = walk->image->directories[WINDOWS_DIRECTORY_IMPORTS].at;
	struct imports_library library;
	bool missing = false;
	int r = 0;

	names_clear(walk->list);
	for (unsigned i = 0; at && !r && !kernel->fault; i++) {
		windows_image_some(kernel, walk->image, at + i * sizeof(library), &library,
			sizeof(library), &missing);
		walk->missing |= missing || i == LIBRARIES_MAX;
		if (!library.name || missing || i == LIBRARIES_MAX)
			break;
		r = take(walk, &library);
	}
	return r ? r : kernel->fault;
}

int windows_imports(struct windows_kernel *kernel, const struct windows_image *image,
	vmsig_name_list *list, bool *ret_missing)
{
	struct imports_walk walk = {.kernel = kernel, .image = image, .list = list};
	int r = walk_libraries(&walk, take_library);

	*ret_missing = walk.missing;
	return r;
}

int windows_imports_from(struct windows_kernel *kernel, const struct windows_image *image,
	vmsig_name_list *list, bool *ret_missing)
{
	struct imports_walk walk = {.kernel = kernel, .image = image, .list = list};
	int r = walk_libraries(&walk, take_name);

	*ret_missing = walk.missing;
	return r;
}
