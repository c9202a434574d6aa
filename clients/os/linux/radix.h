/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_RADIX_H
#define CLIENTS_OS_LINUX_RADIX_H

/*
 * struct xarray, in which the kernel keeps the pages of a file by their index, and pids: nodes of
 * 64 slots, of which each level has six bits of the index. Unchanged from 4.20 to 7.3.
 */

#include <stdbool.h>
#include <stdint.h>

#include "clients/os/linux/kernel.h"

#define LINUX_RADIX_MAX                                                                            \
	(1u << 24) /* entries: pages of 64 GiB, four times as many as pids there are */

/* False stops. */
typedef bool (*linux_radix_fn)(void *ctx, uint64_t index, uint64_t entry);

/* The entry below `head`, the word that a struct xarray has; 0: there is none, or a number where a
 * pointer should be, as of a page that is in swap. */
uint64_t linux_radix_get(struct linux_kernel *kernel, uint64_t head, uint64_t index);
/* All pointers, in ascending order; one that covers several indices comes once for each. */
void linux_radix_visit(struct linux_kernel *kernel, uint64_t head, linux_radix_fn visit, void *ctx);

#endif
