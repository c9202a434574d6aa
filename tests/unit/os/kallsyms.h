/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_OS_KALLSYMS_H
#define TESTS_UNIT_OS_KALLSYMS_H

/* Writes tables of symbols as scripts/kallsyms.c does, in the orders of several kernels. */

#include <stddef.h>
#include <stdint.h>

enum kallsyms_shape {
	KALLSYMS_5_10, /* offsets first, per-CPU ones absolute; names of one length byte */
	KALLSYMS_6_1,  /* the same, with sequences between markers and words */
	KALLSYMS_6_12, /* offsets last, per-CPU ones absolute */
	KALLSYMS_6_16, /* offsets last, all relative to the base */
	KALLSYMS_7_0,  /* offsets last, relative to themselves */
	KALLSYMS_ABSOLUTE,
	KALLSYMS_SHAPES,
};

#define KALLSYMS_COUNT 3000u
#define KALLSYMS_IMAGE (512u << 10) /* bytes that are enough */
#define KALLSYMS_LONG 2900u         /* a symbol whose name has more than 127 words, from 6.1 on */

/* What symbol i is called, with its type's letter in front, and where it is. */
void kallsyms_name(enum kallsyms_shape shape, unsigned i, char ret_name[static 256]);
uint64_t kallsyms_addr(enum kallsyms_shape shape, unsigned i, uint64_t base);

/* Fills an image that begins at `gva`; the kernel's text begins at `base`. */
void kallsyms_write(enum kallsyms_shape shape, uint8_t image[static KALLSYMS_IMAGE], uint64_t gva,
	uint64_t base);

#endif
