/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/space.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/fault.h"
#include "clients/os/linux/maple.h"
#include "clients/os/linux/path.h"
#include "clients/os/linux/task.h"
#include "clients/os/maps.h"
#include "vmsig/vmsig_error.h"

/* include/linux/mm.h */
#define VM_READ 0x1u
#define VM_WRITE 0x2u
#define VM_EXEC 0x4u
#define VM_MAYSHARE 0x80u

struct space_walk {
	struct linux_kernel *kernel;
	uint64_t mm;
	vmsig_map_list *list;
	int error; /* NO_MEMORY */
};

/* What the kernel says of an area without a file (fs/proc/task_mmu.c). */
static const char *special(struct linux_kernel *kernel, uint64_t mm, const vmsig_map *map)
{
	uint64_t stack = linux_get(kernel, mm, LINUX_MM_START_STACK);
	uint64_t vdso = kernel->fields.field[LINUX_MM_VDSO].known
				? linux_get(kernel, mm, LINUX_MM_VDSO)
				: 0;

	if (vdso && vdso == map->start)
		return "[vdso]";
	if (map->start <= linux_get(kernel, mm, LINUX_MM_BRK) &&
		map->end >= linux_get(kernel, mm, LINUX_MM_START_BRK))
		return "[heap]";
	return map->start <= stack && map->end >= stack ? "[stack]" : "";
}

static uint32_t prot_of(uint64_t flags)
{
	return (flags & VM_READ ? VMSIG_PROT_READ : 0) | (flags & VM_WRITE ? VMSIG_PROT_WRITE : 0) |
	       (flags & VM_EXEC ? VMSIG_PROT_EXEC : 0) |
	       (flags & VM_MAYSHARE ? VMSIG_MAP_SHARED : 0);
}

static void take(struct space_walk *walk, uint64_t area)
{
	struct linux_kernel *kernel = walk->kernel;
	uint64_t file = linux_get(kernel, area, LINUX_VMA_FILE);
	vmsig_map map = {.start = linux_get(kernel, area, LINUX_VMA_START),
		.end = linux_get(kernel, area, LINUX_VMA_END),
		.prot = prot_of(linux_get(kernel, area, LINUX_VMA_FLAGS))};
	char path[LINUX_PATH_MAX] = "";
	const char *shown;

	/* Of memory without a file it says where the memory was first. */
	if (file) {
		map.object = file;
		map.offset = linux_get(kernel, area, LINUX_VMA_PGOFF) << 12;
		linux_path(kernel, file, path);
	}
	if (map.start >= map.end)
		linux_torn(kernel);
	shown = file ? path : special(kernel, walk->mm, &map);
	if (!kernel->fault && linux_room(kernel, sizeof(map) + strlen(shown)))
		walk->error = maps_append(walk->list, &map, shown);
}

static bool take_entry(void *ctx, uint64_t first, uint64_t last, uint64_t entry)
{
	struct space_walk *walk = ctx;
	size_t count = walk->list->count;

	take(walk, entry);
	if (walk->error || walk->kernel->fault || walk->list->count == count)
		return false;
	if (walk->list->maps[count].start != first || walk->list->maps[count].end - 1 != last)
		linux_torn(walk->kernel);
	return !walk->kernel->fault;
}

/* Before 6.1: they are linked in the order of their addresses. */
static void take_list(struct space_walk *walk)
{
	uint64_t area = linux_get(walk->kernel, walk->mm, LINUX_MM_LIST), end = 0;

	while (area && !walk->kernel->fault && !walk->error) {
		take(walk, area);
		if (walk->kernel->fault || walk->error)
			return;
		/* Which also ends circles. */
		if (walk->list->maps[walk->list->count - 1].start < end ||
			walk->list->count > LINUX_MAPLE_MAX)
			linux_torn(walk->kernel);
		end = walk->list->maps[walk->list->count - 1].end;
		area = linux_get(walk->kernel, area, LINUX_VMA_NEXT);
	}
}

/* One walk; a fault is the kernel's. */
static int walk_once(struct space_walk *walk, const vmsig_proc *process)
{
	struct linux_kernel *kernel = walk->kernel;

	maps_clear(walk->list);
	walk->mm = linux_task_mm(kernel, process);
	if (!walk->mm || kernel->fault)
		return kernel->fault;
	if (kernel->fields.field[LINUX_MM_TREE].known)
		linux_maple_visit(
			kernel, linux_get(kernel, walk->mm, LINUX_MM_TREE), take_entry, walk);
	else
		take_list(walk);
	if (linux_get(kernel, walk->mm, LINUX_MM_MAP_COUNT) != walk->list->count && !walk->error)
		linux_torn(kernel);
	return walk->error ? walk->error : kernel->fault;
}

int linux_space_list(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_map_list *ret_list)
{
	struct space_walk walk = {.kernel = kernel, .list = ret_list};
	int r = VMSIG_ERR_TORN, is;

	for (unsigned i = 0; linux_attempt(kernel, i, r); i++) {
		r = walk_once(&walk, process);
		is = linux_task_is(kernel, process);
		if (is)
			return is;
	}
	ret_list->partial = fault_again(r);
	return ret_list->partial ? 0 : r;
}
