/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_MOUNTS_H
#define CLIENTS_OS_LINUX_MOUNTS_H

/* What is mounted, as a process sees it: the tree of mounts of its namespace. */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

#define LINUX_MOUNTS_MAX 100000u /* fs.mount-max, as it is when nobody changes it */

/* Texts are allocated. */
__attribute__((warn_unused_result)) int linux_mounts_list(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_mount_list *ret_list);
/* Forgets all. */
void linux_mounts_clear(vmsig_mount_list *list);

#endif
