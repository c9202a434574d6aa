/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/contents.h"

#include "clients/os/linux/task.h"

static int list_of(struct linux_mapped *mapped, const vmsig_image *image, linux_contents_fn take,
	vmsig_name_list *ret_list)
{
	struct linux_elf elf;
	int r = 0;

	linux_mapped_choose(mapped, image->object, image->base, image->size);
	mapped->left = LINUX_MAPPED_PAGES;
	if (linux_elf_load(&elf, mapped))
		r = take(mapped, &elf, ret_list);
	else
		ret_list->partial = true;
	if (linux_mapped_misses(mapped))
		ret_list->partial = true;
	else
		r = r ? r : mapped->fault;
	return r;
}

int linux_contents(struct linux_kernel *kernel, const vmsig_proc *process,
	const vmsig_image *images, size_t count, linux_contents_fn take,
	vmsig_name_list *const *ret_lists)
{
	struct linux_mapped mapped;
	int r = linux_mapped_init(&mapped, kernel, process);

	if (r)
		return r;
	for (size_t i = 0; i < count && !r; i++)
		r = list_of(&mapped, &images[i], take, ret_lists[i]);
	linux_mapped_deinit(&mapped);
	return r ? r : linux_task_is(kernel, process);
}
