/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_READER_H
#define CLIENTS_OS_WINDOWS_READER_H

/*
 * Reading objects of a Windows guest. Objects are read word by word; after the first read that
 * fails all are 0, and windows_begin() starts over. More than WINDOWS_READS_MAX are VMSIG_ERR_TORN.
 * An address that the guest wants to be read is any number: what does not lie in one half of the
 * canonical addresses, or in that one which it must, is VMSIG_ERR_NOT_MAPPED.
 */

#include "clients/os/windows/kernel.h"

void windows_begin(struct windows_kernel *kernel);
/* Sets the fault, if there was none: what was read makes no sense. */
void windows_torn(struct windows_kernel *kernel);
/* Forgets a fault of what an object is the better for, but does not need; not that there were too
 * many reads. */
void windows_forgive(struct windows_kernel *kernel);

/* Under any root, where all bytes lie in one half. */
void windows_read_under(
	struct windows_kernel *kernel, uint64_t root, uint64_t gva, void *ret_bytes, size_t len);
/* The kernel's half, under its root. */
void windows_read(struct windows_kernel *kernel, uint64_t gva, void *ret_bytes, size_t len);
uint64_t windows_word(struct windows_kernel *kernel, uint64_t gva);
uint32_t windows_word32(struct windows_kernel *kernel, uint64_t gva);
/* The user's half, under a process' root. */
void windows_read_user(
	struct windows_kernel *kernel, uint64_t root, uint64_t gva, void *ret_bytes, size_t len);
uint64_t windows_word_user(struct windows_kernel *kernel, uint64_t root, uint64_t gva);

/* Page by page; what cannot be read is zeros, no fault, and *ret_missing. */
void windows_read_some(struct windows_kernel *kernel, uint64_t root, uint64_t gva, void *ret_bytes,
	size_t len, bool *ret_missing);

/* An aligned address of the kernel's half. */
static inline bool windows_is_object(uint64_t gva)
{
	return gva >= WINDOWS_KERNEL_FIRST && gva % 8 == 0;
}

/* One walk, begun by windows_begin(); 0 or an error of its own, while what it read may have become
 * the kernel's fault. */
typedef int (*windows_walk_fn)(struct windows_kernel *kernel, void *ctx);
/* Walks until it holds together, WINDOWS_ATTEMPTS times at most: what the last one has found is
 * then all there is, and *ret_partial. */
__attribute__((warn_unused_result)) int windows_walk(
	struct windows_kernel *kernel, windows_walk_fn walk, void *ctx, bool *ret_partial);

#endif
