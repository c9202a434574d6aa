/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_INTACT_H
#define CLIENTS_OS_WINDOWS_INTACT_H

/* What should not change, and what should not be run. */

#include "clients/os/windows/kernel.h"

/* Memory of processes that may be run and is of no file. */
__attribute__((warn_unused_result)) int windows_intact_maps(
	struct windows_kernel *kernel, vmsig_finding_list *list);
/* The kernel's text that stays in memory, by pages; as vmsig_os_text() returns. What is not
 * resident is zeros. */
__attribute__((warn_unused_result)) int windows_intact_text(
	struct windows_kernel *kernel, vmsig_text_fn visit, void *ctx);

#endif
