/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_GUEST_SPAN_H
#define PROTO_GUEST_SPAN_H

/*
 * The files of a guest's RAM laid end to end, as vmsig_memfile.h says: one range of bytes, of
 * which each file has a part. Broker and holders use the same rules, so what one accepts the
 * other does too, and both map all of it into one range of addresses, so that an offset in the
 * span is an offset in the mapping.
 *
 * A span borrows its descriptors; it has no state beside them, but asking for data moves their
 * offsets.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_memfile.h"

#define SPAN_PAGE 4096u /* what a file's part begins at a multiple of */

struct span_file {
	int fd;               /* -1: it can be neither read nor asked where its data is */
	uint64_t start, size; /* bytes, in the span */
};

struct span {
	struct span_file *files;
	size_t n;
	uint64_t size;
};

#define SPAN_INIT ((struct span){0})

/* Of files whose first `sizes` bytes count. 0; VMSIG_ERR_BAD_REQUEST: none, more than
 * VMSIG_MEMFILES_MAX, an empty one, one before the last whose size is no multiple of SPAN_PAGE,
 * or too much together; -ENOMEM. */
__attribute__((warn_unused_result)) int span_init(
	struct span *span, const int *fds, const uint64_t *sizes, size_t n);
/* Closes nothing. */
void span_deinit(struct span *span);
/* The same for whose descriptors the span has. */
void span_close(struct span *span);

/* Which file has the byte `off`, which must be below span->size. */
size_t span_index(const struct span *span, uint64_t off);

/* pread(2) of exactly `len` bytes; allocates no holes, never faults. 0, VMSIG_ERR_OUT_OF_RANGE
 * (beyond the span, or of a file that has shrunk), VMSIG_ERR_IO. */
__attribute__((warn_unused_result)) int span_pread(
	const struct span *span, uint64_t off, void *buf, size_t len);

/* The next data at or after *off, below `end`; false when only a hole is left. A file that does
 * not tell has data everywhere. Where the data ends is not asked: SEEK_HOLE takes time in
 * proportion to all the data that follows. */
bool span_next_data(const struct span *span, uint64_t *off, uint64_t end);

/* Maps all of it shared, in one range; it is unmapped with munmap(2) of span->size bytes. 0;
 * -EINVAL: the part of a file on hugetlbfs does not begin and end at multiples of its pages;
 * -errno. */
__attribute__((warn_unused_result)) int span_map(
	const struct span *span, int prot, void **ret_base);
/* Bytes of the pages that map the file: a multiple of them is where its part has to begin. */
uint64_t span_page_size(int fd);

#endif
