/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_LOOKUP_H
#define CLIENTS_OS_LINUX_LOOKUP_H

/*
 * Files by their names, as far as the kernel has the names in its memory: what nobody has looked
 * for is not there, although the disk may have it. Links are followed and mounts crossed as the
 * process would.
 */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

/* VMSIG_ERR_NOT_MAPPED: no such name in the kernel's memory. */
__attribute__((warn_unused_result)) int linux_lookup(struct linux_kernel *kernel,
	const vmsig_proc *process, const char *path, vmsig_file *ret_file);

#endif
