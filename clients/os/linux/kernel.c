/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/fault.h"
#include "clients/os/linux/kernel.h"

#include <string.h>

#include "vmsig/vmsig_error.h"

#define HALF                                                                                       \
	0xff00000000000000ull /* of the kernel's, with five levels; with four it is smaller        \
			       */
#define PAGE 4096u

void linux_begin(struct linux_kernel *kernel)
{
	kernel->fault = 0;
	kernel->left = LINUX_READS_MAX;
	kernel->room = LINUX_ROOM_MAX;
}

bool linux_attempt(struct linux_kernel *kernel, unsigned attempt, int r)
{
	if (!attempt)
		linux_begin(kernel);
	else if (attempt == LINUX_ATTEMPTS || !fault_again(r) || !kernel->left || !kernel->room)
		return false;
	kernel->fault = 0;
	kernel->room = LINUX_ROOM_MAX;
	vmsig_mem_flush(kernel->mem);
	return true;
}

bool linux_room(struct linux_kernel *kernel, size_t len)
{
	if (len >= kernel->room) {
		kernel->room = 0;
		linux_torn(kernel);
		return false;
	}
	kernel->room -= (uint32_t)len;
	return true;
}

void linux_torn(struct linux_kernel *kernel)
{
	if (!kernel->fault)
		kernel->fault = VMSIG_ERR_TORN;
}

void linux_read(struct linux_kernel *kernel, uint64_t gva, void *ret_bytes, size_t len)
{
	if (!kernel->left)
		linux_torn(kernel);
	if (!kernel->fault && (gva < HALF || gva + len < gva))
		kernel->fault = VMSIG_ERR_NOT_MAPPED;
	if (!kernel->fault)
		kernel->fault = -vmsig_gva_read(kernel->mem, kernel->root, gva, ret_bytes, len);
	if (kernel->fault)
		memset(ret_bytes, 0, len);
	else
		kernel->left--;
	kernel->spent++;
}

uint64_t linux_word(struct linux_kernel *kernel, uint64_t gva)
{
	uint64_t word;

	linux_read(kernel, gva, &word, sizeof(word));
	return word;
}

uint64_t linux_get(struct linux_kernel *kernel, uint64_t object, enum linux_field field)
{
	uint32_t size = kernel->fields.field[field].size;
	uint64_t value = 0;

	if (!kernel->fields.field[field].known || !size || size > sizeof(value))
		linux_need(kernel, &field, 1);
	/* Little-endian, as the guest is. */
	linux_read(kernel, linux_at(kernel, object, field), &value, size < 8 ? size : 8);
	return value;
}

void linux_text(struct linux_kernel *kernel, uint64_t gva, char *ret_text, size_t size)
{
	size_t len = 0;

	while (len + 1 < size && !kernel->fault) {
		/* What follows on the next page may not be there. */
		size_t n = PAGE - (gva + len) % PAGE;

		n = n < size - 1 - len ? n : size - 1 - len;
		linux_read(kernel, gva + len, ret_text + len, n);
		if (memchr(ret_text + len, 0, n))
			return;
		len += n;
	}
	ret_text[len] = 0;
}

int linux_lacks(struct linux_kernel *kernel, const char *what)
{
	if (!kernel->fault) {
		kernel->fault = VMSIG_ERR_UNSUPPORTED;
		kernel->missing = what;
	}
	return kernel->fault;
}

void linux_need(struct linux_kernel *kernel, const enum linux_field *fields, size_t n)
{
	for (size_t i = 0; i < n && !kernel->fault; i++) {
		if (!linux_has(kernel, fields[i]))
			(void)linux_lacks(kernel, linux_field_path(fields[i]));
	}
}

uint64_t linux_symbol(struct linux_kernel *kernel, const char *name)
{
	uint64_t addr = linux_symbols_addr(&kernel->symbols, name);

	if (!addr)
		(void)linux_lacks(kernel, name);
	return addr;
}

int linux_walk(struct linux_kernel *kernel, linux_walk_fn walk, void *ctx, bool *ret_partial)
{
	int r = VMSIG_ERR_TORN;

	for (unsigned i = 0; linux_attempt(kernel, i, r); i++) {
		r = walk(kernel, ctx);
		r = r ? r : kernel->fault;
	}
	*ret_partial = fault_again(r);
	return *ret_partial ? 0 : r;
}
