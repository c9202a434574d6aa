/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_THREAD_H
#define CLIENTS_OS_WINDOWS_THREAD_H

/* Threads of a process. */

#include "clients/os/windows/kernel.h"

/* Bytes of objects that are looked through for lists of threads. */
#define WINDOWS_THREAD_HEADS_FIRST 0x18u /* in KPROCESS, behind its header */
#define WINDOWS_THREAD_HEADS_END 0x80u
#define WINDOWS_THREAD_LINKS_FIRST 0x40u /* in KTHREAD */
#define WINDOWS_THREAD_LINKS_END 0x600u

/* Where lists of threads are linked: by what functions tell of threads, and is true of all threads
 * of the first process. Leaves kernel->offset.threads 0 when it is not found. */
void windows_thread_find(struct windows_kernel *kernel);
/* Of the process at `object`; 0: it has none, or their list changed while it was counted. */
uint32_t windows_thread_count(struct windows_kernel *kernel, uint64_t object);
/* Whether it is a thread of that process, and its number. A fault is the kernel's. */
bool windows_thread_is(struct windows_kernel *kernel, uint64_t thread, uint64_t process,
	uint64_t pid, uint32_t *ret_tid);
/* VMSIG_ERR_UNSUPPORTED: where they are is not known. */
__attribute__((warn_unused_result)) int windows_thread_list(
	struct windows_kernel *kernel, const vmsig_proc *process, vmsig_proc_list *ret_list);

#endif
