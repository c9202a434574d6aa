/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_LEARN_H
#define CLIENTS_OS_WINDOWS_LEARN_H

/* What is learnt of a kernel when a guest is opened. */

#include "clients/os/windows/kernel.h"

/* Learns all there is to know under `root`; `error` says what was missing (VMSIG_ERR_UNSUPPORTED).
 * Without the names and numbers of processes there is nothing; what else was not found is a list
 * that is not to be had then. */
__attribute__((warn_unused_result)) int windows_learn(struct windows_kernel *kernel, vmsig_mem *mem,
	uint64_t root, char *error, size_t error_size);
void windows_forget(struct windows_kernel *kernel);

#endif
