/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_START_H
#define CLIENTS_OS_WINDOWS_START_H

/* What a process was started with, as it lies in the process: who runs there may change it. In
 * UTF-8; as vmsig_os_command_line() and vmsig_os_environment() give it out. A process without a
 * program has none. */

#include "clients/os/windows/kernel.h"

/* One word, as Windows does not split it. */
__attribute__((warn_unused_result)) int windows_start_command(struct windows_kernel *kernel,
	const vmsig_proc *process, char *buf, size_t size, size_t *ret_len);
__attribute__((warn_unused_result)) int windows_start_environment(struct windows_kernel *kernel,
	const vmsig_proc *process, char *buf, size_t size, size_t *ret_len);

#endif
