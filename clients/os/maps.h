/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_MAPS_H
#define CLIENTS_OS_MAPS_H

/* Lists of what a process has mapped, which own their paths. */

#include "vmsig/vmsig_os.h"

/* 0 or VMSIG_ERR_NO_MEMORY. The path is copied; that of `map` is not looked at. */
__attribute__((warn_unused_result)) int maps_append(
	vmsig_map_list *list, const vmsig_map *map, const char *path);
/* Forgets all. */
void maps_clear(vmsig_map_list *list);

#endif
