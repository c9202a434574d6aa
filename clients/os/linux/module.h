/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_MODULE_H
#define CLIENTS_OS_LINUX_MODULE_H

/* Modules of a Linux guest's kernel, as vmsig_os.h gives them out. */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

/* Where the x86-64 kernel has its modules (Documentation/arch/x86/x86_64/mm.rst). */
#define LINUX_MODULES_FIRST 0xffffffffc0000000ull
#define LINUX_MODULES_LAST 0xfffffffffeffffffull

/* How a module's description begins in all kernels: its state, its place in the list, its name
 * (include/linux/module.h). */
#define LINUX_MODULE_NAME_AT 24u
#define LINUX_MODULE_NAME_BYTES 56u

/* In the kernel's order: the newest first. VMSIG_ERR_UNSUPPORTED: it was built without modules. */
__attribute__((warn_unused_result)) int linux_module_list(
	struct linux_kernel *kernel, vmsig_module_list *ret_list);

#endif
