/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/space.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/maps.h"
#include "clients/os/windows/area.h"
#include "clients/os/windows/process.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/vad.h"
#include "vmsig/vmsig_error.h"

#define PATH_BYTES                                                                                 \
	1024u /* paths may have 32767 units; those of files that are mapped are short              \
	       */

struct space_areas {
	struct windows_kernel *kernel;
	const vmsig_proc *process;
	vmsig_map_list *list;
	int error; /* NO_MEMORY */
};

static bool take(void *ctx, const struct windows_vad *vad)
{
	struct space_areas *walk = ctx;
	vmsig_map map = {.start = vad->start, .end = vad->end};
	struct windows_area area;
	char path[PATH_BYTES] = "";

	windows_area_read(walk->kernel, vad->node, &area);
	map.prot = area.protection;
	if (walk->kernel->area.flags && !area.is_private) {
		windows_area_path(walk->kernel, vad->node, path, sizeof(path));
		if (area.type != WINDOWS_AREA_IMAGE)
			map.prot |= VMSIG_MAP_SHARED;
	}
	if (!walk->kernel->fault)
		walk->error = maps_append(walk->list, &map, path);
	return !walk->error && !walk->kernel->fault;
}

static int walk_once(struct windows_kernel *kernel, void *ctx)
{
	struct space_areas *walk = ctx;

	maps_clear(walk->list);
	windows_vad_visit(kernel, &kernel->area, walk->process->object, take, walk);
	return walk->error;
}

int windows_space_list(
	struct windows_kernel *kernel, const vmsig_proc *process, vmsig_map_list *ret_list)
{
	struct space_areas walk = {.kernel = kernel, .process = process, .list = ret_list};
	int r = windows_process_is(kernel, process);

	if (!r)
		r = windows_area_learn(kernel);
	if (!r)
		r = windows_walk(kernel, walk_once, &walk, &ret_list->partial);
	/* Without its flags it is not all that there is to say. */
	ret_list->partial |= !kernel->area.flags;
	return r ? r : windows_process_is(kernel, process);
}
