/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_SYMBOLS_H
#define CLIENTS_OS_LINUX_SYMBOLS_H

/*
 * kallsyms: the names of a kernel's symbols, found in its image by their structure alone. Two
 * orders of the tables are known (that of 6.4 and before, that of 6.5 and later) and four meanings
 * of an address's entry (scripts/kallsyms.c of 5.10 to 7.3); each is taken only when all that it
 * implies holds.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/os/linux/image.h"

#define LINUX_SYMBOLS_MAX 2000000u /* ten times as many as Debian's largest kernel has */

struct linux_symbols {
	uint64_t *addrs;
	uint32_t *names; /* where each begins in `text`: its type, its name, NUL */
	size_t count;
	char *text;
	uint64_t at; /* where the guest has all tables of them, and what is between these */
	size_t len;
};

/* VMSIG_ERR_UNSUPPORTED: there are none. The image is not needed afterwards. */
__attribute__((warn_unused_result)) int linux_symbols_find(
	struct linux_symbols *symbols, const struct linux_image *image);
void linux_symbols_deinit(struct linux_symbols *symbols);

static inline char linux_symbols_type(const struct linux_symbols *symbols, size_t index)
{
	return symbols->text[symbols->names[index]];
}

static inline const char *linux_symbols_name(const struct linux_symbols *symbols, size_t index)
{
	return symbols->text + symbols->names[index] + 1;
}

/* The index of the first one of that name; false: there is none. */
bool linux_symbols_index(const struct linux_symbols *symbols, const char *name, size_t *ret_index);
/* Its address, or 0. */
uint64_t linux_symbols_addr(const struct linux_symbols *symbols, const char *name);
/* The last one of the image that begins at or before `addr`. */
bool linux_symbols_before(const struct linux_symbols *symbols, uint64_t addr, size_t *ret_index);

#endif
