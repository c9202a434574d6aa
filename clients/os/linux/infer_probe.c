/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/fault.h"
#include "clients/os/linux/infer_probe.h"

#define PAGE 4096u

bool infer_read(struct infer *infer, uint64_t gva, void *ret_bytes, size_t len)
{
	struct linux_kernel *kernel = infer->kernel;

	if (infer->error || !infer->left) {
		memset(ret_bytes, 0, len);
		return false;
	}
	infer->left--;
	linux_begin(kernel);
	linux_read(kernel, gva, ret_bytes, len);
	if (kernel->fault && !fault_again(kernel->fault))
		infer->error = kernel->fault;
	return !kernel->fault;
}

bool infer_read_some(struct infer *infer, uint64_t gva, void *ret_bytes, size_t len)
{
	uint8_t *bytes = ret_bytes;
	size_t got = 0;

	while (got < len) {
		size_t n = PAGE - (gva + got) % PAGE;

		n = n < len - got ? n : len - got;
		if (!infer_read(infer, gva + got, bytes + got, n))
			break;
		got += n;
	}
	memset(bytes + got, 0, len - got);
	return got > 0;
}

uint64_t infer_word(struct infer *infer, uint64_t gva)
{
	uint64_t word;

	return infer_is_pointer(gva) && infer_read(infer, gva, &word, sizeof(word)) ? word : 0;
}

bool infer_is_text(const uint8_t *bytes, size_t size)
{
	size_t len = strnlen((const char *)bytes, size);

	for (size_t i = 0; i < len; i++) {
		if (bytes[i] < 0x20 || bytes[i] >= 0x7f)
			return false;
	}
	return len > 0 && len < size;
}

bool infer_text(struct infer *infer, uint64_t gva, char *ret_text, size_t size)
{
	ret_text[0] = 0;
	if (gva < INFER_HALF || !infer_read_some(infer, gva, ret_text, size) ||
		!infer_is_text((const uint8_t *)ret_text, size)) {
		ret_text[0] = 0;
		return false;
	}
	return true;
}

void infer_set(struct infer *infer, enum linux_field field, uint32_t offset, uint32_t size)
{
	infer->kernel->fields.field[field].known = true;
	infer->kernel->fields.field[field].offset = offset;
	infer->kernel->fields.field[field].size = size;
}

uint64_t infer_symbol(const struct infer *infer, const char *name)
{
	return linux_symbols_addr(&infer->kernel->symbols, name);
}

bool infer_find(struct infer *infer, uint32_t from, uint32_t to, uint32_t step,
	infer_holds_fn holds, uint32_t *ret_offset)
{
	for (uint32_t at = from; at < to; at += step) {
		if (holds(infer, at)) {
			*ret_offset = at;
			return true;
		}
	}
	return false;
}
