/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/contents.h"

#include "clients/os/linux/dynamic.h"
#include "clients/os/linux/elf.h"
#include "clients/os/linux/task.h"

typedef int (*list_fn)(
	struct linux_mapped *mapped, const struct linux_elf *elf, vmsig_name_list *list);

static int list_of(struct linux_kernel *kernel, const vmsig_proc *process, const vmsig_image *image,
	list_fn take, vmsig_name_list *ret_list)
{
	struct linux_mapped mapped;
	struct linux_elf elf;
	int r = linux_mapped_init(&mapped, kernel, process);

	if (r)
		return r;
	linux_mapped_choose(&mapped, image->object, image->base, image->size);
	if (linux_elf_load(&elf, &mapped))
		r = take(&mapped, &elf, ret_list);
	else
		ret_list->partial = true;
	if (linux_mapped_misses(&mapped))
		ret_list->partial = true;
	else
		r = r ? r : mapped.fault;
	linux_mapped_deinit(&mapped);
	return r ? r : linux_task_is(kernel, process);
}

int linux_contents_sections(struct linux_kernel *kernel, const vmsig_proc *process,
	const vmsig_image *image, vmsig_name_list *ret_list)
{
	return list_of(kernel, process, image, linux_elf_sections, ret_list);
}

int linux_contents_exports(struct linux_kernel *kernel, const vmsig_proc *process,
	const vmsig_image *image, vmsig_name_list *ret_list)
{
	return list_of(kernel, process, image, linux_dynamic_exports, ret_list);
}

int linux_contents_imports(struct linux_kernel *kernel, const vmsig_proc *process,
	const vmsig_image *image, vmsig_name_list *ret_list)
{
	return list_of(kernel, process, image, linux_dynamic_imports, ret_list);
}

int linux_contents_needed(struct linux_kernel *kernel, const vmsig_proc *process,
	const vmsig_image *image, vmsig_name_list *ret_list)
{
	return list_of(kernel, process, image, linux_dynamic_needed, ret_list);
}
