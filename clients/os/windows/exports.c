/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/exports.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/names.h"
#include "clients/os/windows/image.h"
#include "clients/os/windows/reader.h"
#include "vmsig/vmsig_error.h"

#define EXPORTS_MAX 65536u /* an ordinal has 16 bits */
#define FORWARD " -> "
#define NAME_PART 512u

/* IMAGE_EXPORT_DIRECTORY. */
struct exports_directory {
	uint32_t characteristics, stamp, version;
	uint32_t self, first;
	uint32_t functions, names;
	uint32_t functions_at, names_at, ordinals_at;
};

struct exports_tables {
	struct windows_kernel *kernel;
	const struct windows_image *image;
	vmsig_name_list *list;
	struct exports_directory directory;
	uint32_t *functions, *names;
	uint16_t *ordinals;
	bool *named; /* functions that have a name */
	bool missing;
};

static bool read_directory(struct windows_kernel *kernel, const struct windows_image *image,
	struct exports_directory *ret_directory)
{
	const struct windows_directory *where = &image->directories[WINDOWS_DIRECTORY_EXPORTS];
	bool missing = true;

	if (where->at && where->size >= sizeof(*ret_directory))
		windows_image_some(
			kernel, image, where->at, ret_directory, sizeof(*ret_directory), &missing);
	return !missing && !kernel->fault;
}

bool windows_exports_self(struct windows_kernel *kernel, const struct windows_image *image,
	char *ret_name, size_t size)
{
	struct exports_directory directory;

	return read_directory(kernel, image, &directory) &&
	       windows_image_text(kernel, image, directory.self, ret_name, size);
}

static int take(struct exports_tables *tables, uint32_t function, const char *name)
{
	const struct windows_directory *where =
		&tables->image->directories[WINDOWS_DIRECTORY_EXPORTS];
	char text[WINDOWS_EXPORT_NAME_MAX], forward[NAME_PART];
	uint32_t at = tables->functions[function];

	if (!at)
		return 0; /* a number that is not used, or one that is not resident */
	if (at < where->at || at - where->at >= where->size)
		return names_append(tables->list, tables->image->base + at, name);
	if (!windows_image_text(tables->kernel, tables->image, at, forward, sizeof(forward))) {
		tables->missing = true;
		return 0;
	}
	snprintf(text, sizeof(text), "%s" FORWARD "%s", name, forward);
	return names_append(tables->list, 0, text);
}

static int take_named(struct exports_tables *tables)
{
	char name[NAME_PART];
	int r = 0;

	for (uint32_t i = 0; i < tables->directory.names && !r && !tables->kernel->fault; i++) {
		uint16_t ordinal = tables->ordinals[i];

		if (!tables->names[i] || ordinal >= tables->directory.functions)
			continue;
		tables->named[ordinal] = true;
		if (windows_image_text(
			    tables->kernel, tables->image, tables->names[i], name, sizeof(name)) &&
			name[0])
			r = take(tables, ordinal, name);
		else
			tables->missing = true;
	}
	return r;
}

static int take_numbered(struct exports_tables *tables)
{
	char name[NAME_PART];
	int r = 0;

	for (uint32_t i = 0; i < tables->directory.functions && !r && !tables->kernel->fault; i++) {
		if (tables->named[i] || !tables->functions[i])
			continue;
		snprintf(name, sizeof(name), "#%" PRIu64, (uint64_t)tables->directory.first + i);
		r = take(tables, i, name);
	}
	return r;
}

static void *read_table(struct exports_tables *tables, uint32_t at, uint32_t n, size_t size)
{
	void *table = calloc(n ? n : 1, size);
	bool missing = false;

	if (table)
		windows_image_some(tables->kernel, tables->image, at, table, n * size, &missing);
	tables->missing |= missing;
	return table;
}

static int take_all(struct exports_tables *tables)
{
	struct exports_directory *directory = &tables->directory;
	bool missing = tables->missing;
	int r = VMSIG_ERR_NO_MEMORY;

	/* A number that is not resident must not become the first function's. */
	tables->missing = false;
	tables->ordinals = read_table(tables, directory->ordinals_at, directory->names, 2);
	if (tables->missing)
		directory->names = 0;
	tables->missing |= missing;
	tables->functions = read_table(tables, directory->functions_at, directory->functions, 4);
	tables->names = read_table(tables, directory->names_at, directory->names, 4);
	tables->named = calloc(directory->functions + 1u, sizeof(*tables->named));
	if (tables->functions && tables->names && tables->ordinals && tables->named)
		r = take_named(tables);
	if (!r)
		r = take_numbered(tables);
	free(tables->functions);
	free(tables->names);
	free(tables->ordinals);
	free(tables->named);
	return r;
}

int windows_exports(struct windows_kernel *kernel, const struct windows_image *image,
	vmsig_name_list *list, bool *ret_missing)
{
	struct exports_tables tables = {.kernel = kernel, .image = image, .list = list};
	int r;

	names_clear(list);
	*ret_missing = false;
	if (!image->directories[WINDOWS_DIRECTORY_EXPORTS].at)
		return 0;
	if (!read_directory(kernel, image, &tables.directory) ||
		tables.directory.functions > EXPORTS_MAX || tables.directory.names > EXPORTS_MAX) {
		*ret_missing = true;
		return kernel->fault;
	}
	r = take_all(&tables);
	*ret_missing = tables.missing;
	return r ? r : kernel->fault;
}
