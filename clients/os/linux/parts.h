/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_PARTS_H
#define CLIENTS_OS_LINUX_PARTS_H

/* What a module of the kernel is made of: its sections, and the symbols that others may use. */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

#define LINUX_PARTS_MAX                                                                            \
	100000u /* sections or exports of one; Debian's kernels export some 20,000 */

/* Names are allocated. VMSIG_ERR_UNSUPPORTED: this kernel does not keep them. */
__attribute__((warn_unused_result)) int linux_parts_sections(
	struct linux_kernel *kernel, const vmsig_module *module, vmsig_name_list *ret_list);
__attribute__((warn_unused_result)) int linux_parts_symbols(
	struct linux_kernel *kernel, const vmsig_module *module, vmsig_name_list *ret_list);
/* Without a module: those of the kernel itself. */
__attribute__((warn_unused_result)) int linux_parts_exports(
	struct linux_kernel *kernel, const vmsig_module *module, vmsig_name_list *ret_list);

#endif
