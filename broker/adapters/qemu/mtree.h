/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_MTREE_H
#define BROKER_ADAPTERS_QEMU_MTREE_H

/*
 * Parses the text of QEMU's `info mtree -f`: the flat view of the address space "memory",
 * which is what vCPUs outside of system management mode see. Pure; the text is foreign.
 *
 * A flat view has no overlaps and no aliases left: each line is one window, with the
 * offset inside of its memory region. RAM that firmware write-protected is typed "rom" but
 * is the same memory, so both types are kept; who knows the backends' names tells guest RAM
 * from the firmware image and video memory.
 */

#include <stddef.h>
#include <stdint.h>

#define MTREE_NAME_MAX 128 /* longer region names cannot be a backend of ours */
#define MTREE_MAX_RANGES 4096

struct mtree_range {
	uint64_t gpa; /* bytes, as the two below */
	uint64_t len;
	uint64_t off; /* in the memory region */
	char name[MTREE_NAME_MAX];
};

struct mtree {
	struct mtree_range *ranges; /* "ram" and "rom" lines, ascending, not overlapping */
	size_t nranges;
};

/* 0; VMSIG_ERR_BAD_REQUEST: no such view, or a line that makes no sense, `error` says which;
 * -ENOMEM. */
__attribute__((warn_unused_result)) int mtree_parse(
	struct mtree *ret_mtree, const char *text, size_t len, char *error, size_t error_size);
void mtree_deinit(struct mtree *mtree);

#endif
