/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_CONTENTS_H
#define CLIENTS_OS_LINUX_CONTENTS_H

/* What is in programs and libraries of a process, as vmsig_os.h gives it out. */

#include "clients/os/linux/dynamic.h"
#include "clients/os/linux/elf.h"

/* What is taken of one: linux_elf_sections(), linux_dynamic_exports() and those beside it. */
typedef int (*linux_contents_fn)(
	struct linux_mapped *mapped, const struct linux_elf *elf, vmsig_name_list *list);

/* Of `count` images, the list of each, with one look at what the process has mapped. Names are
 * allocated; a list is partial when something of it is not resident. */
__attribute__((warn_unused_result)) int linux_contents(struct linux_kernel *kernel,
	const vmsig_proc *process, const vmsig_image *images, size_t count, linux_contents_fn take,
	vmsig_name_list *const *ret_lists);

#endif
