/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_SPACE_H
#define CLIENTS_OS_WINDOWS_SPACE_H

/* Address spaces of a Windows guest, as vmsig_os.h gives them out. */

#include "clients/os/windows/kernel.h"

/* What was taken before an error is in the list. VMSIG_ERR_UNSUPPORTED: where
 * they are was not found. */
__attribute__((warn_unused_result)) int windows_space_list(
	struct windows_kernel *kernel, const vmsig_proc *process, vmsig_map_list *ret_list);

#endif
