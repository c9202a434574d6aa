/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_KERNEL_H
#define CLIENTS_OS_LINUX_KERNEL_H

/*
 * A Linux kernel as it lies in guest memory. Functions return 0, a positive enum vmsig_error or a
 * negative errno.
 *
 *   kernel   all that is known of one, and reading its objects
 *   image    its own mapping, as bytes
 *   tokens   the words that names of symbols are made of
 *   symbols  kallsyms
 *   types    BTF: where members of structs are
 *   field    the members that are needed
 *   ring     lists of objects
 *   task     processes and threads
 *   space    address spaces
 *   maple    the tree that newer ones are kept in
 *   path     names of files
 *   file     open files
 *   module   modules
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/os/linux/field.h"
#include "clients/os/linux/symbols.h"
#include "vmsig/vmsig_mem.h"

/* How often a walk that did not hold together is begun anew. */
#define LINUX_ATTEMPTS 5u

/* Reads of one walk: some seconds. A hundred thousand open files take some 6 million; a hostile
 * guest has a million of them, in folders without end. */
#define LINUX_READS_MAX 10000000u

struct linux_kernel {
	vmsig_mem *mem; /* borrowed */
	uint64_t root;
	struct linux_symbols symbols;
	struct linux_fields fields;
	int fault;     /* the first error of a read since linux_begin() */
	uint32_t left; /* reads until the next one */
};

/* Learns all there is to know; `error` says what was missing (VMSIG_ERR_UNSUPPORTED). */
__attribute__((warn_unused_result)) int linux_init(
	struct linux_kernel *kernel, vmsig_mem *mem, uint64_t root, char *error, size_t error_size);
void linux_deinit(struct linux_kernel *kernel);

/* Objects are read word by word; after the first read that fails all are 0, and linux_begin()
 * starts over. More than LINUX_READS_MAX are VMSIG_ERR_TORN. An address that the guest wants to be
 * read is any number: what is no canonical address of the kernel's half is VMSIG_ERR_NOT_MAPPED. */
void linux_begin(struct linux_kernel *kernel);
void linux_read(struct linux_kernel *kernel, uint64_t gva, void *ret_bytes, size_t len);
uint64_t linux_word(struct linux_kernel *kernel, uint64_t gva);
/* A member of the object, of 1, 2, 4 or 8 bytes, without its sign. */
uint64_t linux_get(struct linux_kernel *kernel, uint64_t object, enum linux_field field);
/* Where it is. */
static inline uint64_t linux_at(
	const struct linux_kernel *kernel, uint64_t object, enum linux_field field)
{
	return object + kernel->fields.field[field].offset;
}
/* Up to a NUL, or size - 1 bytes of it: *ret_text always ends with one. */
void linux_text(struct linux_kernel *kernel, uint64_t gva, char *ret_text, size_t size);

/* Sets the fault, if there was none: what was read makes no sense. */
void linux_torn(struct linux_kernel *kernel);

/* Whether walking again may help. */
bool linux_again(int error);

#endif
