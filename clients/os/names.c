/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/names.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/grow.h"
#include "vmsig/vmsig_error.h"

int names_append(vmsig_name_list *list, uint64_t addr, const char *name)
{
	vmsig_name *names = grow_array(list->names, list->count, sizeof(*names));
	char *copy = strdup(name);

	list->names = names ? names : list->names;
	if (!names || !copy) {
		free(copy);
		return VMSIG_ERR_NO_MEMORY;
	}
	names[list->count++] = (vmsig_name){.addr = addr, .name = copy};
	return 0;
}

void names_clear(vmsig_name_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free((char *)(uintptr_t)list->names[i].name);
	list->count = 0;
}
