/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/file.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/fault.h"
#include "clients/os/grow.h"
#include "clients/os/linux/path.h"
#include "clients/os/linux/task.h"
#include "vmsig/vmsig_error.h"

#define DESCRIPTORS_MAX (1u << 20) /* fs.nr_open, as it is when nobody changes it */
#define PIECE 512u                 /* entries of the table that are read at once */

void linux_file_clear(vmsig_file_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free((char *)(uintptr_t)list->files[i].path);
	list->count = 0;
}

static int append(vmsig_file_list *list, uint64_t object, uint32_t number, const char *path)
{
	vmsig_open_file *files = grow_array(list->files, list->count, sizeof(*files));
	char *copy = strdup(path);

	list->files = files ? files : list->files;
	if (!copy || !files) {
		free(copy);
		return VMSIG_ERR_NO_MEMORY;
	}
	files[list->count++] =
		(vmsig_open_file){.object = object, .number = (int32_t)number, .path = copy};
	return 0;
}

/* One that is closed meanwhile is torn, and so is the list. */
static int take_piece(struct linux_kernel *kernel, uint64_t entries, uint32_t first, uint32_t n,
	vmsig_file_list *list)
{
	uint64_t files[PIECE];
	char path[LINUX_PATH_MAX];
	int r = 0;

	linux_read(kernel, entries + (uint64_t)first * 8, files, (size_t)n * 8);
	for (uint32_t i = 0; i < n && !r && !kernel->fault; i++) {
		if (!files[i])
			continue;
		linux_path(kernel, files[i], path);
		if (!kernel->fault && linux_room(kernel, sizeof(vmsig_open_file) + strlen(path)))
			r = append(list, files[i], first + i, path);
	}
	return r ? r : kernel->fault;
}

static int walk_once(struct linux_kernel *kernel, const vmsig_proc *process, vmsig_file_list *list)
{
	uint64_t files, table, entries, max;
	int r = 0;

	linux_file_clear(list);
	files = linux_get(kernel, process->object, LINUX_TASK_FILES);
	if (!files || kernel->fault) /* of a thread of the kernel's, and of what has ended */
		return kernel->fault;
	table = linux_get(kernel, files, LINUX_FILES_TABLE);
	max = linux_get(kernel, table, LINUX_TABLE_MAX);
	entries = linux_get(kernel, table, LINUX_TABLE_FILES);
	if (max > DESCRIPTORS_MAX)
		linux_torn(kernel);
	for (uint64_t at = 0; at < max && !r && !kernel->fault; at += PIECE)
		r = take_piece(kernel, entries, (uint32_t)at,
			(uint32_t)(max - at < PIECE ? max - at : PIECE), list);
	return r ? r : kernel->fault;
}

int linux_file_list(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_file_list *ret_list)
{
	int r = VMSIG_ERR_TORN, is;

	for (unsigned i = 0; linux_attempt(kernel, i, r); i++) {
		r = walk_once(kernel, process, ret_list);
		is = linux_task_is(kernel, process);
		if (is)
			return is;
	}
	ret_list->partial = fault_again(r);
	return ret_list->partial ? 0 : r;
}
