/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_CACHE_H
#define CLIENTS_OS_LINUX_CACHE_H

/* Files as far as their pages are resident, whether a process maps them or not. */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

#define LINUX_PAGE 4096u

/* The file of an inode, or of a struct file: a device's pages are those of its mapping. */
void linux_cache_file(
	struct linux_kernel *kernel, uint64_t inode, uint64_t mapping, vmsig_file *ret_file);
/* One page of it. VMSIG_ERR_NOT_MAPPED: it is not resident. */
__attribute__((warn_unused_result)) int linux_cache_page(struct linux_kernel *kernel,
	const vmsig_file *file, uint64_t index, uint8_t ret_bytes[static LINUX_PAGE]);
/* The indices of all that are, in ascending order; non-zero stops and is returned. */
__attribute__((warn_unused_result)) int linux_cache_visit(
	struct linux_kernel *kernel, const vmsig_file *file, vmsig_page_fn visit, void *ctx);

#endif
