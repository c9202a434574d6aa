/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/images.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/fault.h"
#include "clients/os/grow.h"
#include "clients/os/linux/cache.h"
#include "clients/os/linux/elf.h"
#include "clients/os/linux/task.h"
#include "vmsig/vmsig_error.h"

void linux_images_clear(vmsig_image_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free((char *)(uintptr_t)list->images[i].path);
	list->count = 0;
}

static int append(vmsig_image_list *list, const vmsig_image *image, const char *path)
{
	vmsig_image *images = grow_array(list->images, list->count, sizeof(*images));
	char *copy = strdup(path);

	list->images = images ? images : list->images;
	if (!copy || !images) {
		free(copy);
		return VMSIG_ERR_NO_MEMORY;
	}
	images[list->count] = *image;
	images[list->count++].path = copy;
	return 0;
}

/* Where the beginning of a file is mapped, or what the kernel made of one. */
static bool may_be_image(const vmsig_map *map)
{
	return (map->prot & VMSIG_PROT_READ) &&
	       (map->object ? map->offset == 0 : strcmp(map->path, "[vdso]") == 0);
}

/* Of maps that follow, what is the same file's. */
static bool is_run(const vmsig_map_list *maps, size_t at)
{
	for (size_t i = at; i < maps->count && maps->maps[i].object == maps->maps[at].object; i++) {
		if (maps->maps[i].prot & VMSIG_PROT_EXEC)
			return true;
	}
	return false;
}

static int take(struct linux_mapped *mapped, size_t at, uint64_t program, vmsig_image_list *list)
{
	const vmsig_map *map = &mapped->maps.maps[at];
	vmsig_image image = {.object = map->object,
		.base = map->start,
		.flags = map->object && map->object == program ? VMSIG_IMAGE_PROGRAM : 0};
	struct linux_elf elf;
	bool misses;

	linux_mapped_choose(mapped, map->object, map->start, map->end - map->start);
	if (linux_elf_load(&elf, mapped)) {
		image.size = elf.size;
		image.bias = elf.bias;
		return append(list, &image, map->path);
	}
	misses = linux_mapped_misses(mapped);
	if (!misses || !is_run(&mapped->maps, at))
		return misses ? 0 : mapped->fault;
	image.size = map->end - map->start;
	image.flags |= VMSIG_IMAGE_ABSENT;
	return append(list, &image, map->path);
}

static int take_all(struct linux_mapped *mapped, uint64_t program, vmsig_image_list *list)
{
	const vmsig_map_list *maps = &mapped->maps;
	int r = 0;

	list->partial = maps->partial;
	for (size_t i = 0; i < maps->count && !r; i++) {
		/* The beginning may be mapped in several pieces. */
		if (!may_be_image(&maps->maps[i]) ||
			(i && maps->maps[i].object &&
				maps->maps[i - 1].object == maps->maps[i].object))
			continue;
		if (list->count == LINUX_IMAGES_MAX || !mapped->left) {
			list->partial = true;
			break;
		}
		r = take(mapped, i, program, list);
	}
	return r;
}

/* The open file of the program; 0: none, with the kernel's fault or not. */
static uint64_t program_of(struct linux_kernel *kernel, const vmsig_proc *process)
{
	uint64_t mm;

	if (!linux_has(kernel, LINUX_MM_EXE_FILE))
		return 0;
	linux_begin(kernel);
	mm = linux_task_mm(kernel, process);
	return mm ? linux_get(kernel, mm, LINUX_MM_EXE_FILE) : 0;
}

int linux_images_list(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_image_list *ret_list)
{
	uint64_t program = program_of(kernel, process);
	struct linux_mapped mapped;
	int r = linux_mapped_init(&mapped, kernel, process);

	if (r)
		return r;
	r = take_all(&mapped, program, ret_list);
	linux_mapped_deinit(&mapped);
	return r ? r : linux_task_is(kernel, process);
}

int linux_images_program(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_file *ret_file)
{
	static const enum linux_field needed[] = {
		LINUX_MM_EXE_FILE, LINUX_FILE_INODE, LINUX_FILE_MAPPING};
	uint64_t file;
	int is;

	linux_begin(kernel);
	vmsig_mem_flush(kernel->mem);
	linux_need(kernel, needed, sizeof(needed) / sizeof(needed[0]));
	if (kernel->fault)
		return kernel->fault;
	file = program_of(kernel, process);
	if (file)
		linux_cache_file(kernel, linux_get(kernel, file, LINUX_FILE_INODE),
			linux_get(kernel, file, LINUX_FILE_MAPPING), ret_file);
	if (fault_again(kernel->fault))
		kernel->fault = VMSIG_ERR_TORN;
	if (kernel->fault)
		return kernel->fault;
	is = linux_task_is(kernel, process);
	return is || file ? is : VMSIG_ERR_NOT_MAPPED;
}
