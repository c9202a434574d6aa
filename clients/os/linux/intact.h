/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INTACT_H
#define CLIENTS_OS_LINUX_INTACT_H

/* What a kernel's code and its tables should be: where system calls lead to, memory that is run and
 * came from no file, and the text as bytes that only change when somebody changes them. */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

/* Each entry of sys_call_table leads to where a function for system calls begins. From 6.9 on the
 * kernel itself goes another way, and only others use the table. */
__attribute__((warn_unused_result)) int linux_intact_calls(
	struct linux_kernel *kernel, vmsig_finding_list *list);
/* Memory of processes that may be run and has no file. */
__attribute__((warn_unused_result)) int linux_intact_maps(
	struct linux_kernel *kernel, vmsig_finding_list *list);
/* Pages of the text, in which the places that the kernel rewrites itself (jump labels, static
 * calls) are zeros. Non-zero of `visit` stops and is returned; errors are negated. */
__attribute__((warn_unused_result)) int linux_intact_text(
	struct linux_kernel *kernel, vmsig_text_fn visit, void *ctx);

#endif
