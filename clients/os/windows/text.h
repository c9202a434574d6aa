/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_TEXT_H
#define CLIENTS_OS_WINDOWS_TEXT_H

/* UNICODE_STRING: UTF-16 in the guest, UTF-8 here. What is no UTF-16 becomes U+FFFD. */

#include "clients/os/windows/kernel.h"

#define WINDOWS_TEXT_MAX 32767u /* its length has 16 bits, in bytes */
/* Bytes that are enough for every one, with a NUL. */
#define WINDOWS_TEXT_BYTES (3u * WINDOWS_TEXT_MAX + 1)

/* The one at `gva` under the root, in that half which `gva` is in: up to a NUL, or as much as fits;
 * *ret_text always ends with a NUL. *ret_len is how many bytes there are without it. A fault is the
 * kernel's. */
void windows_text(struct windows_kernel *kernel, uint64_t root, uint64_t gva, char *ret_text,
	size_t size, size_t *ret_len);
/* The same of `n` units in memory. */
size_t windows_text_convert(const uint16_t *units, size_t n, char *ret_text, size_t size);

#endif
