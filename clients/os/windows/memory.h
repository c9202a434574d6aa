/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_MEMORY_H
#define CLIENTS_OS_WINDOWS_MEMORY_H

/* All that the kernel has mapped to be written: where its objects are, whatever its lists say. */

#include "clients/os/windows/kernel.h"

/* A page; 0 goes on, anything else stops and is returned. */
typedef int (*windows_memory_fn)(void *ctx, uint64_t gva, const uint8_t page[WINDOWS_PAGE]);
/* *ret_spent: more is mapped than any guest of this size has, and not all of it was looked at. */
__attribute__((warn_unused_result)) int windows_memory_visit(
	struct windows_kernel *kernel, windows_memory_fn visit, void *ctx, bool *ret_spent);

#endif
