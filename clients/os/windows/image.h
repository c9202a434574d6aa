/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_IMAGE_H
#define CLIENTS_OS_WINDOWS_IMAGE_H

/*
 * PE images as they are mapped: the kernel, its modules, programs and their libraries, of 64 or 32
 * bits. Nothing leads outside of the image ("PE Format" of Microsoft's documentation). Pages that
 * nobody touched are not resident, of user programs in particular.
 */

#include "clients/os/windows/kernel.h"

#define WINDOWS_IMAGE_MAX (1u << 30) /* bytes of one; real ones have some 200 MiB at most */

/* What is at `base` under `root`. VMSIG_ERR_UNSUPPORTED: no PE image. A fault of reading stays the
 * kernel's. */
__attribute__((warn_unused_result)) int windows_image_open(struct windows_kernel *kernel,
	uint64_t root, uint64_t base, struct windows_image *ret_image);
/* Bytes of it; outside of it there are none (VMSIG_ERR_NOT_MAPPED). */
void windows_image_read(struct windows_kernel *kernel, const struct windows_image *image,
	uint64_t at, void *ret_bytes, size_t len);
/* Those that are resident: the rest is zeros, and *ret_missing. */
void windows_image_some(struct windows_kernel *kernel, const struct windows_image *image,
	uint64_t at, void *ret_bytes, size_t len, bool *ret_missing);
/* Up to a NUL, or size - 1 bytes of it. False: not all of it is resident. */
__attribute__((warn_unused_result)) bool windows_image_text(struct windows_kernel *kernel,
	const struct windows_image *image, uint64_t at, char *ret_text, size_t size);

#endif
