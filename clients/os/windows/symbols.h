/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_SYMBOLS_H
#define CLIENTS_OS_WINDOWS_SYMBOLS_H

/* What the kernel exports by names, in the order of addresses. */

#include "clients/os/windows/kernel.h"

/* Of the kernel's image, when it is there. */
__attribute__((warn_unused_result)) int windows_symbols_read(struct windows_kernel *kernel);
void windows_symbols_deinit(struct windows_symbols *symbols);

/* False: there is none of that name. */
bool windows_symbols_find(
	const struct windows_symbols *symbols, const char *name, size_t *ret_index);
/* The last one at or before `addr`. */
bool windows_symbols_before(
	const struct windows_symbols *symbols, uint64_t addr, size_t *ret_index);
/* 0: there is none. */
uint64_t windows_symbols_addr(const struct windows_symbols *symbols, const char *name);

#endif
