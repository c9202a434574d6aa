/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/fault.h"
#include "clients/os/windows/reader.h"

#include <string.h>

#include "vmsig/vmsig_error.h"

void windows_begin(struct windows_kernel *kernel)
{
	kernel->fault = 0;
	kernel->left = WINDOWS_READS_MAX;
}

void windows_torn(struct windows_kernel *kernel)
{
	if (!kernel->fault)
		kernel->fault = VMSIG_ERR_TORN;
}

void windows_forgive(struct windows_kernel *kernel)
{
	if (fault_again(kernel->fault) && kernel->left)
		kernel->fault = 0;
}

static bool in_one_half(uint64_t gva, size_t len)
{
	uint64_t end = gva + len;

	return end >= gva && (gva >= WINDOWS_KERNEL_FIRST || end <= WINDOWS_USER_END);
}

void windows_read_under(
	struct windows_kernel *kernel, uint64_t root, uint64_t gva, void *ret_bytes, size_t len)
{
	if (!kernel->left)
		windows_torn(kernel);
	if (!kernel->fault && !in_one_half(gva, len))
		kernel->fault = VMSIG_ERR_NOT_MAPPED;
	if (!kernel->fault)
		kernel->fault = -vmsig_gva_read(kernel->mem, root, gva, ret_bytes, len);
	if (kernel->fault)
		memset(ret_bytes, 0, len);
	else
		kernel->left--;
}

void windows_read(struct windows_kernel *kernel, uint64_t gva, void *ret_bytes, size_t len)
{
	if (!kernel->fault && gva < WINDOWS_KERNEL_FIRST)
		kernel->fault = VMSIG_ERR_NOT_MAPPED;
	windows_read_under(kernel, kernel->root, gva, ret_bytes, len);
}

uint64_t windows_word(struct windows_kernel *kernel, uint64_t gva)
{
	uint64_t word;

	windows_read(kernel, gva, &word, sizeof(word));
	return word;
}

uint32_t windows_word32(struct windows_kernel *kernel, uint64_t gva)
{
	uint32_t word;

	windows_read(kernel, gva, &word, sizeof(word));
	return word;
}

void windows_read_user(
	struct windows_kernel *kernel, uint64_t root, uint64_t gva, void *ret_bytes, size_t len)
{
	if (!kernel->fault && gva >= WINDOWS_USER_END)
		kernel->fault = VMSIG_ERR_NOT_MAPPED;
	windows_read_under(kernel, root, gva, ret_bytes, len);
}

uint64_t windows_word_user(struct windows_kernel *kernel, uint64_t root, uint64_t gva)
{
	uint64_t word;

	windows_read_user(kernel, root, gva, &word, sizeof(word));
	return word;
}

void windows_read_some(struct windows_kernel *kernel, uint64_t root, uint64_t gva, void *ret_bytes,
	size_t len, bool *ret_missing)
{
	uint8_t *bytes = ret_bytes;

	*ret_missing = false;
	for (size_t at = 0, n; at < len; at += n) {
		n = WINDOWS_PAGE - (gva + at) % WINDOWS_PAGE;
		n = n < len - at ? n : len - at;
		windows_read_under(kernel, root, gva + at, bytes + at, n);
		if (fault_missing(kernel->fault)) {
			kernel->fault = 0;
			*ret_missing = true;
			/* Else what is not there would be looked for without end. */
			kernel->left -= kernel->left ? 1 : 0;
		}
	}
}

int windows_walk(struct windows_kernel *kernel, windows_walk_fn walk, void *ctx, bool *ret_partial)
{
	int r = VMSIG_ERR_TORN;

	for (unsigned i = 0; i < WINDOWS_ATTEMPTS && fault_again(r); i++) {
		windows_begin(kernel);
		vmsig_mem_flush(kernel->mem);
		r = walk(kernel, ctx);
		r = r ? r : kernel->fault;
	}
	*ret_partial = fault_again(r);
	return *ret_partial ? 0 : r;
}
