/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_PROCESS_H
#define CLIENTS_OS_WINDOWS_PROCESS_H

/* Processes of a Windows guest, as vmsig_os.h gives them out. */

#include "clients/os/windows/kernel.h"

/* EPROCESS begins with KPROCESS; unchanged from 7 to 11. */
#define WINDOWS_PROCESS_SIGNAL 0x04u /* of DISPATCHER_HEADER: not 0 when it has ended */
#define WINDOWS_PROCESS_ROOT 0x28u   /* DirectoryTableBase, with bits that are no address */
#define WINDOWS_ROOT_MASK 0x000ffffffffff000ull

#define WINDOWS_PROCESS_NAME 15u
#define WINDOWS_PID_MAX 0x7ffffffcu

/* What the object at `object` says; a fault is the kernel's, also when it is no process. `start`:
 * windows_clock_start(). */
void windows_process_read(
	struct windows_kernel *kernel, uint64_t object, uint64_t start, vmsig_proc *ret_process);
/* Whether it is still the one that was given out: 0, VMSIG_ERR_GONE or another error. Begins anew.
 */
__attribute__((warn_unused_result)) int windows_process_is(
	struct windows_kernel *kernel, const vmsig_proc *process);

/* In the kernel's order. */
__attribute__((warn_unused_result)) int windows_process_list(
	struct windows_kernel *kernel, vmsig_proc_list *ret_list);

#endif
