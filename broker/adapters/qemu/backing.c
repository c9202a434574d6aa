/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/backing.h"

#include <stdio.h>

#include "vmsig/vmsig_error.h"

/* backends/hostmem-memfd.c */
#define MEMFD_NAME "/memfd:memory-backend-memfd"

static int open_mapped(struct ram **ret_ram, const struct mapper *mapper, const struct memmap *map,
	char *error, size_t error_size)
{
	const struct mapping_wanted wanted = {.hva = map->hva,
		.hva_offset = map->hva_offset,
		.offset = map->main->offset,
		.size = map->main->size,
		.hint = map->main->path ? map->main->path : MEMFD_NAME};

	return ram_open_mapped(ret_ram, mapper, &wanted, error, error_size);
}

int backing_open(struct ram **ret_ram, const struct backing *backing, const struct memmap *map,
	char *error, size_t error_size)
{
	const struct memmap_backend *backend = map->main;
	struct ram *ram;
	int r = backing->path
			? ram_open_path(&ram, backing->path, backing->owner, error, error_size)
			: open_mapped(&ram, backing->mapper, map, error, error_size);

	if (r)
		return r;
	if (ram_size(ram) < backend->offset || ram_size(ram) - backend->offset < backend->size) {
		snprintf(error, error_size,
			"the file of backend %s has %llu bytes, and RAM goes from byte %llu for "
			"%llu",
			backend->id, (unsigned long long)ram_size(ram),
			(unsigned long long)backend->offset, (unsigned long long)backend->size);
		ram_free(ram);
		return VMSIG_ERR_UNSUPPORTED;
	}
	*ret_ram = ram;
	return 0;
}
