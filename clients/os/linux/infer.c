/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/infer.h"

#include <stdlib.h>

#include "clients/os/linux/infer_cache.h"
#include "clients/os/linux/infer_file.h"
#include "clients/os/linux/infer_module.h"
#include "clients/os/linux/infer_mount.h"
#include "clients/os/linux/infer_net.h"
#include "clients/os/linux/infer_note.h"
#include "clients/os/linux/infer_probe.h"
#include "clients/os/linux/infer_space.h"
#include "clients/os/linux/infer_task.h"
#include "vmsig/vmsig_error.h"

#define EXPORTS_SEEN 16u
#define EXPORT_NAME_MAX 256u

/* struct kernel_symbol, where the kernel says what it offers: distances of 4 bytes to the value and
 * to the name, and from 5.4 on to a namespace. */
static bool are_exports(struct infer *infer, uint64_t at, uint32_t size)
{
	char name[EXPORT_NAME_MAX];

	for (unsigned i = 0; i < EXPORTS_SEEN; i++) {
		uint64_t entry = at + (uint64_t)i * size;
		int32_t words[2];

		if (!infer_read(infer, entry, words, sizeof(words)) ||
			!infer_text(
				infer, entry + 4 + (uint64_t)(int64_t)words[1], name, sizeof(name)))
			return false;
	}
	return true;
}

static void find_exports(struct infer *infer)
{
	uint64_t at = infer_symbol(infer, "__start___ksymtab");

	for (uint32_t size = 8; at && size <= 12; size += 4) {
		if (!are_exports(infer, at, size))
			continue;
		infer_set(infer, LINUX_EXPORT_VALUE, 0, 4);
		infer->kernel->fields.size[LINUX_STRUCT_EXPORT] = size;
		return;
	}
}

/* What rests on what: families on tasks, pids on nodes, files on areas, all else on files. */
static int look(struct infer *infer)
{
	int r;

	infer->kernel->fields = (struct linux_fields){0};
	infer->task_count = infer->space_count = infer->area_count = infer->file_count = 0;
	infer->left = INFER_READS_MAX;
	vmsig_mem_flush(infer->kernel->mem);
	r = infer_tasks(infer);
	if (r)
		return infer->error ? infer->error : r;
	infer_family(infer);
	infer_spaces(infer);
	infer_nodes(infer);
	infer_task_members(infer);
	if (infer->area_count)
		infer_files(infer);
	infer_mounts(infer);
	infer_pages(infer);
	infer_modules(infer);
	infer_sockets(infer);
	infer_note(infer);
	find_exports(infer);
	return infer->error;
}

/* What processes and their memory need. */
static bool is_enough(const struct linux_fields *fields)
{
	for (enum linux_field field = 0; field < LINUX_FIELDS; field++) {
		if (!fields->field[field].known && !linux_field_is_optional(field))
			return false;
	}
	return true;
}

static int look_until_enough(struct infer *infer)
{
	struct linux_fields best = {
		0}; /* of a guest that runs, one look may see what another does not */
	int r = VMSIG_ERR_UNSUPPORTED;

	for (unsigned i = 0; i < LINUX_ATTEMPTS && !is_enough(&best); i++) {
		r = look(infer);
		if (r && r != VMSIG_ERR_UNSUPPORTED)
			return r;
		if (linux_field_count(&infer->kernel->fields) > linux_field_count(&best))
			best = infer->kernel->fields;
	}
	infer->kernel->fields = best;
	return best.field[LINUX_TASK_TASKS].known ? 0 : VMSIG_ERR_UNSUPPORTED;
}

int linux_infer(struct linux_kernel *kernel)
{
	struct infer infer = {.kernel = kernel};
	int r = VMSIG_ERR_NO_MEMORY;

	infer.init = linux_symbols_addr(&kernel->symbols, "init_task");
	infer.tasks = calloc(INFER_TASKS_MAX, sizeof(*infer.tasks));
	infer.spaces = calloc(INFER_SPACES_MAX, sizeof(*infer.spaces));
	infer.areas = calloc(INFER_AREAS_MAX, sizeof(*infer.areas));
	infer.files = calloc(INFER_FILES_MAX, sizeof(*infer.files));
	if (infer.tasks && infer.spaces && infer.areas && infer.files)
		r = infer.init ? look_until_enough(&infer) : VMSIG_ERR_UNSUPPORTED;
	free(infer.tasks);
	free(infer.spaces);
	free(infer.areas);
	free(infer.files);
	linux_begin(kernel);
	return r;
}
