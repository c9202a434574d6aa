/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_LEARN_H
#define CLIENTS_OS_LINUX_LEARN_H

/* What is known of a kernel: its symbols, and where the members of its structs are. */

#include "clients/os/linux/kernel.h"

/* Learns all there is to know; `error` says what was missing (VMSIG_ERR_UNSUPPORTED). */
__attribute__((warn_unused_result)) int linux_init(
	struct linux_kernel *kernel, vmsig_mem *mem, uint64_t root, char *error, size_t error_size);
void linux_deinit(struct linux_kernel *kernel);

/* After a call that ended with `r`: looks again for what it lacked, in a kernel without types whose
 * objects may say more by now. True: it is worth a second call. */
bool linux_learn_more(struct linux_kernel *kernel, int r);

#endif
