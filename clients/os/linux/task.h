/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_TASK_H
#define CLIENTS_OS_LINUX_TASK_H

/* Processes and threads of a Linux guest, as vmsig_os.h gives them out. */

#include <stddef.h>
#include <stdint.h>

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

/* All processes, in the order in which they were started; the idle task is not among them. */
__attribute__((warn_unused_result)) int linux_task_list(
	struct linux_kernel *kernel, vmsig_proc_list *ret_list);
/* Threads of a process. VMSIG_ERR_GONE: it has ended. */
__attribute__((warn_unused_result)) int linux_task_threads(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_proc_list *ret_list);

/* Whether the object still is that process. 0, VMSIG_ERR_GONE, or a read's error. */
__attribute__((warn_unused_result)) int linux_task_is(
	struct linux_kernel *kernel, const vmsig_proc *process);
/* A process' mm_struct, or 0 for a thread of the kernel and for what has ended. */
uint64_t linux_task_mm(struct linux_kernel *kernel, const vmsig_proc *process);

/* Bytes of [start, end) of the process' memory, by the members that say where they are. */
__attribute__((warn_unused_result)) int linux_task_text(struct linux_kernel *kernel,
	const vmsig_proc *process, enum linux_field start, enum linux_field end, char *buf,
	size_t size, size_t *ret_len);

#endif
