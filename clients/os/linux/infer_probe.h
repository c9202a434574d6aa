/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_PROBE_H
#define CLIENTS_OS_LINUX_INFER_PROBE_H

/* Reading words that may be pointers, and may be nothing. */

#include <string.h>

#include "clients/os/linux/infer.h"

#define INFER_HALF 0xff00000000000000ull /* where addresses of the kernel begin */

/* False: it is not there, or there have been reads enough. */
bool infer_read(struct infer *infer, uint64_t gva, void *ret_bytes, size_t len);
/* As much as there is from `gva` on, page by page; what is missing is zeros. */
bool infer_read_some(struct infer *infer, uint64_t gva, void *ret_bytes, size_t len);
/* 0: it is not there, or is 0. */
uint64_t infer_word(struct infer *infer, uint64_t gva);
/* A text of 1 to size - 1 printable characters, and then NUL. */
bool infer_text(struct infer *infer, uint64_t gva, char *ret_text, size_t size);
/* Whether `bytes` begin with such a text. */
bool infer_is_text(const uint8_t *bytes, size_t size);

static inline bool infer_is_pointer(uint64_t word)
{
	return word >= INFER_HALF && word % 8 == 0;
}

static inline uint64_t infer_load(const uint8_t *bytes, uint32_t offset)
{
	uint64_t word;

	memcpy(&word, bytes + offset, sizeof(word));
	return word;
}

static inline uint32_t infer_load32(const uint8_t *bytes, uint32_t offset)
{
	uint32_t word;

	memcpy(&word, bytes + offset, sizeof(word));
	return word;
}

void infer_set(struct infer *infer, enum linux_field field, uint32_t offset, uint32_t size);
static inline bool infer_knows(const struct infer *infer, enum linux_field field)
{
	return linux_has(infer->kernel, field);
}
static inline uint32_t infer_offset(const struct infer *infer, enum linux_field field)
{
	return infer->kernel->fields.field[field].offset;
}
/* Address of a symbol; 0: there is none. */
uint64_t infer_symbol(const struct infer *infer, const char *name);

/* Whether something holds at an offset, of all that is looked at. */
typedef bool (*infer_holds_fn)(struct infer *infer, uint32_t offset);
/* The first one of [from, to) that it holds at; false: nowhere. */
bool infer_find(struct infer *infer, uint32_t from, uint32_t to, uint32_t step,
	infer_holds_fn holds, uint32_t *ret_offset);

#endif
