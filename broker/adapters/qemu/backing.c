/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/backing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/guest/physmap.h"
#include "vmsig/vmsig_error.h"

/* backends/hostmem-memfd.c */
#define MEMFD_NAME "/memfd:memory-backend-memfd"

/* The files of a map, in its order. */
struct files {
	struct ram *rams[VMSIG_MEMFILES_MAX];
	size_t n;
};

static void files_close(struct files *files)
{
	while (files->n)
		ram_free(files->rams[--files->n]);
}

static int open_mapped(struct ram **ret_ram, const struct mapper *mapper,
	const struct memmap_file *file, char *error, size_t error_size)
{
	const struct mapping_wanted wanted = {.hva = file->hva,
		.hva_offset = file->hva_offset,
		.offset = file->backend->offset,
		.size = file->backend->size,
		.hint = file->backend->path ? file->backend->path : MEMFD_NAME};

	return ram_open_mapped(ret_ram, mapper, &wanted, error, error_size);
}

static int open_named(struct ram **ret_ram, const struct backing *backing, const struct memmap *map,
	char *error, size_t error_size)
{
	if (map->nfiles == 1)
		return ram_open_path(ret_ram, backing->path, backing->owner, error, error_size);
	snprintf(error, error_size,
		"guest RAM is in %zu files, and 'ram' of the configuration names one; remove it "
		"and "
		"let vmsigd see QEMU's /proc, or put RAM into a single file",
		map->nfiles);
	return VMSIG_ERR_UNSUPPORTED;
}

/* Every backend that is in the file has to be in it whole. */
static int check_size(const struct ram *ram, const struct memmap *map, size_t file, char *error,
	size_t error_size)
{
	for (size_t i = 0; i < map->nbackends; i++) {
		const struct memmap_backend *backend = &map->backends[i];

		if (!backend->used || backend->file != file ||
			(ram_size(ram) >= backend->offset &&
				ram_size(ram) - backend->offset >= backend->size))
			continue;
		snprintf(error, error_size,
			"the file of backend %s has %llu bytes, and RAM goes from byte %llu for "
			"%llu",
			backend->id, (unsigned long long)ram_size(ram),
			(unsigned long long)backend->offset, (unsigned long long)backend->size);
		return VMSIG_ERR_UNSUPPORTED;
	}
	return 0;
}

static int files_open(struct files *files, const struct backing *backing, const struct memmap *map,
	char *error, size_t error_size)
{
	for (size_t i = 0; i < map->nfiles; i++) {
		struct ram **ram = &files->rams[i];
		int r = backing->path ? open_named(ram, backing, map, error, error_size)
				      : open_mapped(ram, backing->mapper, &map->files[i], error,
						error_size);

		if (r)
			return r;
		files->n++;
		r = check_size(*ram, map, i, error, error_size);
		if (r)
			return r;
	}
	return 0;
}

/* Where a file of the map begins in the whole. */
static uint64_t start_of(const struct ramset *set, const struct ram *ram)
{
	size_t i = 0;

	while (ramset_file(set, i) != ram)
		i++;
	return ramset_start(set, i);
}

static int lay_out(struct physmap *ret_physmap, const struct ramset *set, const struct files *files,
	const struct memmap *map, char *error, size_t error_size)
{
	vmsig_memseg *segs = calloc(map->nseg, sizeof(*segs));
	int r = segs ? 0 : -ENOMEM;

	for (size_t i = 0; !r && i < map->nseg; i++) {
		const struct ram *ram = files->rams[memmap_seg_file(map, i)];

		segs[i] = map->segs[i];
		if (segs[i].file_off > ram_size(ram) ||
			segs[i].len > ram_size(ram) - segs[i].file_off)
			r = VMSIG_ERR_BAD_REQUEST;
		segs[i].file_off += start_of(set, ram);
	}
	if (!r)
		r = physmap_init(ret_physmap, segs, map->nseg, ramset_size(set));
	free(segs);
	if (r)
		snprintf(error, error_size,
			r < 0 ? "out of memory" : "QEMU's memory map does not fit into its files");
	return r;
}

int backing_open(struct ramset **ret_ram, struct physmap *ret_physmap,
	const struct backing *backing, const struct memmap *map, char *error, size_t error_size)
{
	struct files files = {.n = 0}, ordered;
	struct ramset *set = NULL;
	int r = files_open(&files, backing, map, error, error_size);

	ordered = files;
	ramset_order(ordered.rams, ordered.n);
	if (!r)
		r = ramset_new(&set, ordered.rams, ordered.n, error, error_size);
	if (r) {
		files_close(&files);
		return r;
	}
	r = lay_out(ret_physmap, set, &files, map, error, error_size);
	if (r)
		ramset_free(set);
	else
		*ret_ram = set;
	return r;
}
