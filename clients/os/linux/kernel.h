/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_KERNEL_H
#define CLIENTS_OS_LINUX_KERNEL_H

/*
 * A Linux kernel as it lies in guest memory. Functions return 0, a positive enum vmsig_error or a
 * negative errno.
 *
 *   kernel   all that is known of one, and reading its objects
 *   learn    how that becomes known
 *   profile  which is kept for others like it
 *   image    its own mapping, as bytes
 *   tokens   the words that names of symbols are made of
 *   symbols  kallsyms
 *   types    BTF: where members of structs are
 *   field    the members that are needed
 *   infer    where they are in a kernel that does not say so: infer_*
 *   ring     lists of objects
 *   task     processes and threads
 *   space    address spaces
 *   maple    the tree that newer ones are kept in
 *   path     names of files
 *   file     open files
 *   module   modules
 *   parts    what a module is made of: sections, and what it offers to others
 *   mounts   what is mounted
 *   socket   endpoints of the Internet's protocols
 *   log      what the kernel has said
 *   radix    trees of pages and of pids
 *   cache    files that are resident
 *   lookup   files by their names
 *   mapped   what a process has mapped of a file
 *   images   programs and libraries
 *   elf      their headers and sections
 *   dynamic  what they offer, and take from others
 *   contents  all of that, of one
 *   registers  what was saved of a task that does not run
 *   hidden   what lists leave out
 *   intact   what a kernel's code and its tables should be
 *   dispatch  where a system call leads by code
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
/* Bytes of texts in one list. Those of a hundred thousand open files are some ten million; a
 * hostile guest's files all have the longest name that there is. */
#define LINUX_ROOM_MAX (128u << 20)

struct linux_profile;

struct linux_kernel {
	vmsig_mem *mem; /* borrowed */
	uint64_t root;
	struct linux_profile *profile; /* that the symbols are of; NULL: they are its own */
	struct linux_symbols symbols;
	struct linux_fields fields;
	int fault;      /* the first error of a read since linux_begin() */
	uint32_t left;  /* reads until the next one */
	uint32_t room;  /* bytes of texts until then; 0: there were too many */
	uint64_t spent; /* reads since somebody set it to 0 */
	bool inferred;  /* it carries no types: where members are was found by what has to hold */
	const char *missing; /* what the last fault of VMSIG_ERR_UNSUPPORTED was for; or NULL */
};

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

/* Whether this kernel has that member. */
static inline bool linux_has(const struct linux_kernel *kernel, enum linux_field field)
{
	return kernel->fields.field[field].known;
}
/* VMSIG_ERR_UNSUPPORTED becomes the fault, if there was none, for want of what is named, a text
 * that stays; the fault. */
int linux_lacks(struct linux_kernel *kernel, const char *what);
/* The address of a symbol; 0 and VMSIG_ERR_UNSUPPORTED as the fault: there is none. */
uint64_t linux_symbol(struct linux_kernel *kernel, const char *name);
/* VMSIG_ERR_UNSUPPORTED becomes the fault, unless the kernel has all of the members. */
void linux_need(struct linux_kernel *kernel, const enum linux_field *fields, size_t n);

/* One walk, begun by linux_begin(); 0 or an error of its own, while what it read may have become
 * the kernel's fault. */
typedef int (*linux_walk_fn)(struct linux_kernel *kernel, void *ctx);
/* Walks until it holds together, LINUX_ATTEMPTS times at most: what the last one has found is then
 * all there is, and *ret_partial. */
__attribute__((warn_unused_result)) int linux_walk(
	struct linux_kernel *kernel, linux_walk_fn walk, void *ctx, bool *ret_partial);

/* Sets the fault, if there was none: what was read makes no sense. */
void linux_torn(struct linux_kernel *kernel);

/* Whether a list may have a text of that many bytes more; false, and torn: there are enough. */
bool linux_room(struct linux_kernel *kernel, size_t len);

/* Begins attempt 0, or another one after one that ended with `r`: all of them together get as many
 * reads as one. False: there is no use in another one. */
bool linux_attempt(struct linux_kernel *kernel, unsigned attempt, int r);

#endif
