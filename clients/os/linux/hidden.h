/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_HIDDEN_H
#define CLIENTS_OS_LINUX_HIDDEN_H

/*
 * What the kernel's lists leave out: processes that are in the table of pids, or lie in memory as a
 * living one does, and modules that lie where modules do. Lists are taken before and after, so that
 * what came or went meanwhile is no finding. Whoever changes all of what is looked at stays hidden.
 */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

__attribute__((warn_unused_result)) int linux_hidden_processes(
	struct linux_kernel *kernel, vmsig_finding_list *list);
__attribute__((warn_unused_result)) int linux_hidden_modules(
	struct linux_kernel *kernel, vmsig_finding_list *list);

#endif
