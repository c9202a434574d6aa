/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_REGISTERS_H
#define CLIENTS_OS_LINUX_REGISTERS_H

/* Registers that a Linux kernel has saved in memory: those of a process, when it entered the kernel
 * last, and those of a thread of the kernel's, when it gave its CPU away last. */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

/* VMSIG_ERR_NOT_MAPPED: nothing of the kind is where it should be, as when the thread runs now. */
__attribute__((warn_unused_result)) int linux_registers(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_registers *ret_registers);

#endif
