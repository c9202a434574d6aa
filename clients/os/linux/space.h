/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_SPACE_H
#define CLIENTS_OS_LINUX_SPACE_H

/* Address spaces of a Linux guest, as vmsig_os.h gives them out. */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

/* What was taken before an error is in the list. */
__attribute__((warn_unused_result)) int linux_space_list(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_map_list *ret_list);

#endif
