/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_CONTENTS_H
#define CLIENTS_OS_LINUX_CONTENTS_H

/* What is in a program or library of a process, as vmsig_os.h gives it out. */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

/* Names are allocated; the list is partial when something of it is not resident. */
__attribute__((warn_unused_result)) int linux_contents_sections(struct linux_kernel *kernel,
	const vmsig_proc *process, const vmsig_image *image, vmsig_name_list *ret_list);
__attribute__((warn_unused_result)) int linux_contents_exports(struct linux_kernel *kernel,
	const vmsig_proc *process, const vmsig_image *image, vmsig_name_list *ret_list);
__attribute__((warn_unused_result)) int linux_contents_imports(struct linux_kernel *kernel,
	const vmsig_proc *process, const vmsig_image *image, vmsig_name_list *ret_list);
__attribute__((warn_unused_result)) int linux_contents_needed(struct linux_kernel *kernel,
	const vmsig_proc *process, const vmsig_image *image, vmsig_name_list *ret_list);

#endif
