/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_MEM_RAM_H
#define CLIENTS_MEM_RAM_H

/*
 * Guest RAM as a holder sees it: read-only descriptors of its own and a read-only mapping of its
 * file, or of its files laid end to end, in one range.
 *
 * Reading a hole of a tmpfs file through a shared mapping allocates the page. So no page is
 * touched through the mapping before it is known to hold data; which ones are known is kept
 * in a bitmap. A page is known forever: one that the guest gives back later (balloon) is
 * allocated again by the next read of it. Unknown pages are looked at with SEEK_DATA, or,
 * where that has no meaning, fetched with pread(2), which never allocates: a byte that is
 * not zero proves that the page holds data.
 *
 * Bytes are shared with a running guest, so every copy is a data race by the letter of C.
 * It is a benign one: the copy goes through memcpy(3) on memory that the compiler knows
 * nothing about, and the caller's sequence check says whether it may be used.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proto/guest/span.h"

#define RAM_PAGE_SHIFT 12u
#define RAM_PAGE (1u << RAM_PAGE_SHIFT)

struct mem_ram {
	struct span files;
	/* Of each file, a bit: the descriptor's offset is ours alone and the file system tells
	 * holes from data. */
	uint64_t seekable;
	uint64_t size;       /* bytes of all, when they were opened */
	const uint8_t *base; /* [0, size), PROT_READ */
	uint64_t *known;     /* a bit for each page */
	size_t known_size;   /* bytes */
};

#define RAM_INIT ((struct mem_ram){0})

/* Opens each file anew, or duplicates its descriptor where the file's mode forbids that; a size of
 * 0 is the file's own. -EINVAL: not a regular file, smaller than its size, neither read-only nor
 * possible to open so, or files that cannot lie end to end; else -errno. */
__attribute__((warn_unused_result)) int mem_ram_init(
	struct mem_ram *ram, const int *fds, const uint64_t *sizes, size_t n);
void mem_ram_deinit(struct mem_ram *ram);

/* Reads through pread(2). 0, VMSIG_ERR_OUT_OF_RANGE (the file is shorter now), VMSIG_ERR_IO. */
__attribute__((warn_unused_result)) int mem_ram_pread(
	const struct mem_ram *ram, uint64_t off, void *buf, size_t len);

/* mem_ram_read() for a range in which not all pages are known. */
__attribute__((warn_unused_result)) int mem_ram_read_unknown(
	struct mem_ram *ram, uint64_t off, void *buf, size_t len);

/* The first data in [off, end), or in what of that is in the same file: *ret_start is its offset,
 * or the end when there is only a hole; *ret_end where it ends. Everything is data where holes
 * cannot be told. */
__attribute__((warn_unused_result)) int mem_ram_data(
	struct mem_ram *ram, uint64_t off, uint64_t end, uint64_t *ret_start, uint64_t *ret_end);

static inline bool mem_ram_known(const struct mem_ram *ram, uint64_t page)
{
	return ram->known[page / 64] >> (page % 64) & 1;
}

/* Reads [off, off + len), inside [0, size), through the mapping. Holes read as zeros.
 * Errors as mem_ram_pread(). */
__attribute__((warn_unused_result)) static inline int mem_ram_read(
	struct mem_ram *ram, uint64_t off, void *buf, size_t len)
{
	uint64_t page = off >> RAM_PAGE_SHIFT;

	if (page == (off + len - 1) >> RAM_PAGE_SHIFT && mem_ram_known(ram, page)) {
		memcpy(buf, ram->base + off, len);
		return 0;
	}
	return mem_ram_read_unknown(ram, off, buf, len);
}

#endif
