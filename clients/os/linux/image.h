/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_IMAGE_H
#define CLIENTS_OS_LINUX_IMAGE_H

/*
 * The kernel's own mapping as bytes: read once, when a guest is opened. Neighbouring ranges are one
 * part whatever their rights, as tables cross borders of rights. What cannot be read is zeros.
 */

#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_mem.h"

/* Where the x86-64 kernel maps its image, modules excluded (Documentation/arch/x86/x86_64/mm.rst).
 */
#define LINUX_IMAGE_FIRST 0xffffffff80000000ull
#define LINUX_IMAGE_LAST 0xffffffffbfffffffull

/* Twice the largest image that was seen of a kernel with KASAN; Debian's have 34 to 54 MiB. */
#define LINUX_IMAGE_MAX (256ull << 20)

struct linux_part {
	uint64_t gva;
	size_t len;
	uint8_t *bytes;
};

struct linux_image {
	struct linux_part *parts;
	size_t count;
	uint64_t size; /* bytes of all */
};

/* VMSIG_ERR_UNSUPPORTED: nothing is mapped there. What is beyond LINUX_IMAGE_MAX is left out. */
__attribute__((warn_unused_result)) int linux_image_read(
	struct linux_image *image, vmsig_mem *mem, uint64_t root);
void linux_image_deinit(struct linux_image *image);

/* `len` bytes at gva; NULL: not all of them are in one part. */
const uint8_t *linux_image_at(const struct linux_image *image, uint64_t gva, size_t len);

#endif
