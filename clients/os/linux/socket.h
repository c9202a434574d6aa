/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_SOCKET_H
#define CLIENTS_OS_LINUX_SOCKET_H

/*
 * Endpoints of IPv4 and IPv6 that processes have open: found by their descriptors, so that each has
 * its process. What belongs to no process any more (TIME_WAIT, say) is not among them.
 */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

/* Of one process, appended to the list. More is read than LINUX_READS_MAX, or it changed whenever
 * it was looked at: the list is partial. */
__attribute__((warn_unused_result)) int linux_socket_list(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_socket_list *list);

#endif
