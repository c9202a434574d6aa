/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_MODULE_H
#define CLIENTS_OS_LINUX_MODULE_H

/* Modules of a Linux guest's kernel, as vmsig_os.h gives them out. */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

/* In the kernel's order: the newest first. VMSIG_ERR_UNSUPPORTED: it was built without modules. */
__attribute__((warn_unused_result)) int linux_module_list(
	struct linux_kernel *kernel, vmsig_module_list *ret_list);

#endif
