/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_GUEST_IMAGE_H
#define TESTS_UNIT_GUEST_IMAGE_H

/*
 * Guest RAM that a test puts together in a sparse memfd: page tables, VMCOREINFO notes, a
 * kernel's release string, a Windows start block. Guest-physical is file offset.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/guest/kcr3.h"

#define IMAGE_SIZE (16u << 20)

struct image {
	int fd;
	uint8_t *ram;
	struct physmap map;
	struct span span;
	struct kcr3_memory memory;
	uint64_t next_table; /* where the next page table goes */
};

void image_init(struct image *image);
void image_deinit(struct image *image);

/* An image, and what a search of it has found. cmocka fixtures: *state is one. */
struct image_lab {
	struct image image;
	struct kcr3_proof proof;
	char why[256];
};

int image_lab_setup(void **state);
int image_lab_teardown(void **state);

/* Maps one page under `root`, making tables as needed. `flags` go into the last entry. */
void image_map(struct image *image, uint64_t root, unsigned levels, uint64_t gva, uint64_t gpa,
	uint64_t flags);
/* A root of its own with the same kernel half as `root`: another process of that kernel. */
void image_clone_root(struct image *image, uint64_t root, uint64_t clone);

/* One Linux kernel: where it lies and what its note says. */
struct image_linux {
	const char *release;
	uint64_t root; /* guest-physical page of swapper_pg_dir */
	uint64_t text; /* guest-physical page of init_uts_ns */
	uint64_t note; /* guest-physical place of the note's page */
	unsigned levels;
	unsigned note_offset; /* 0 or 24 */
	int64_t phys_base;
	uint64_t offset;     /* KERNELOFFSET; 0: no KASLR */
	uint64_t direct_map; /* where it begins; 0: where Linux has it without KASLR */
};

void image_put_linux(struct image *image, const struct image_linux *linux_);
/* The note alone, with a line more. */
void image_put_note(struct image *image, const struct image_linux *linux_, const char *extra);

/* In the text at `gpa`, to its end: the first `from` becomes `to`. */
void image_replace_text(struct image *image, uint64_t gpa, const char *from, const char *to);

#define IMAGE_PRESENT 0x3ull /* present, writable */
#define IMAGE_NX (1ull << 63)

#endif
