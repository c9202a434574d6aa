/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/maps.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/grow.h"
#include "vmsig/vmsig_error.h"

int maps_append(vmsig_map_list *list, const vmsig_map *map, const char *path)
{
	vmsig_map *maps = grow_array(list->maps, list->count, sizeof(*maps));
	char *copy = strdup(path);

	list->maps = maps ? maps : list->maps;
	if (!copy || !maps) {
		free(copy);
		return VMSIG_ERR_NO_MEMORY;
	}
	maps[list->count] = *map;
	maps[list->count++].path = copy;
	return 0;
}

void maps_clear(vmsig_map_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free((char *)(uintptr_t)list->maps[i].path);
	list->count = 0;
}
