/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_PROBE_H
#define CLIENTS_OS_LINUX_INFER_PROBE_H

/*
 * The objects that are looked at, and reading words that may be pointers and may be nothing: what
 * cannot be read is false or 0, and after too many reads everything is.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "clients/os/linux/kernel.h"

#define INFER_TASK_BYTES 0x2000u /* 7.3 has the last one that is needed at 0xdc0; lockdep adds */
#define INFER_MM_BYTES 0x600u
#define INFER_AREA_BYTES 0x100u
#define INFER_FILE_BYTES 0x200u
#define INFER_TASKS_MAX 128u
#define INFER_SPACES_MAX 16u
#define INFER_AREAS_MAX 256u
#define INFER_FILES_MAX 64u
/* Reads of one attempt: a second or two. An honest guest takes some ten thousand. */
#define INFER_READS_MAX 1000000u

struct infer_task {
	uint64_t at;
	uint8_t bytes[INFER_TASK_BYTES];
};

struct infer_space {
	uint64_t at;   /* of the mm_struct */
	uint64_t task; /* one that has it */
	uint32_t areas;
	uint8_t bytes[INFER_MM_BYTES];
};

struct infer_area {
	uint64_t at, mm;
	uint64_t start, end;
	uint8_t bytes[INFER_AREA_BYTES];
};

struct infer_file {
	uint64_t at;
	uint64_t mnt, dentry, inode; /* 0: not known yet */
	bool mapped;                 /* an area is of it: it is regular */
	uint8_t bytes[INFER_FILE_BYTES];
};

/* Objects that are looked at; the first task is init_task, then 1 and 2. */
struct infer {
	struct linux_kernel *kernel;
	uint64_t init;
	struct infer_task *tasks;
	size_t task_count;
	struct infer_space *spaces;
	size_t space_count;
	struct infer_area *areas;
	size_t area_count;
	struct infer_file *files;
	size_t file_count;
	uint32_t left; /* reads */
	int error;     /* a read that failed for another reason than the address */
};

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
