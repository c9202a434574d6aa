/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_OS_MEMORY_H
#define TESTS_UNIT_OS_MEMORY_H

/* A guest's memory that is made here, below one root of page tables, and a Linux kernel in it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/os/linux/kernel.h"

#define MEMORY_ROOT 0x1000u /* of the kernel's page tables */

struct memory {
	struct linux_kernel kernel; /* knows nothing yet */
	uint8_t *bytes;
	size_t size;
};

/* All of it is zeros. False: no memory. */
bool memory_make(struct memory *memory, size_t size);
void memory_free(struct memory *memory);

/* By the address that the guest's hardware has. */
void memory_put(struct memory *memory, uint64_t gpa, uint64_t word);
/* Where a member of a struct is. */
void memory_field(struct memory *memory, enum linux_field field, uint32_t offset, uint32_t size);
/* The first four megabytes as two large pages from `gva` on, by tables at 0x2000 and 0x3000. */
void memory_map_all(struct memory *memory, uint64_t gva);

#endif
