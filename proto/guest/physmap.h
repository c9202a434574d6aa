/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_GUEST_PHYSMAP_H
#define PROTO_GUEST_PHYSMAP_H

/*
 * Guest-physical layout: which window of guest-physical space lies where in the RAM file, or
 * in the files laid end to end (span.h). Pure. Broker and holders use the same rules, so a
 * segment table that one accepts the other does too.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_memctx.h"

#define PHYSMAP_MAX_SEGS 4096 /* bound on a table, well above any real memory map */

struct physmap {
	vmsig_memseg *segs; /* owned, sorted by gpa, not overlapping in gpa */
	size_t nseg;
};

#define PHYSMAP_INIT ((struct physmap){0})

/* Copies and sorts `segs`. Every segment must be non-empty, must not wrap, must lie inside
 * file_size (bytes; UINT64_MAX when unknown), and no two may overlap in guest-physical
 * space. Touching segments that continue each other in the file are merged.
 * Returns 0, VMSIG_ERR_BAD_REQUEST or -ENOMEM. */
__attribute__((warn_unused_result)) int physmap_init(
	struct physmap *map, const vmsig_memseg *segs, size_t nseg, uint64_t file_size);

/* The single-low layout: [0, low) at 0; what follows in the file at 4 GiB. `low` of 0 or
 * above file_size is VMSIG_ERR_BAD_REQUEST; so is a low above 4 GiB. */
__attribute__((warn_unused_result)) int physmap_init_low(
	struct physmap *map, uint64_t low, uint64_t file_size);

void physmap_deinit(struct physmap *map);

/* File offset of `gpa` and the bytes that are contiguous from there (both in space and in
 * file). False when gpa is not RAM. */
bool physmap_find(const struct physmap *map, uint64_t gpa, uint64_t *ret_off, uint64_t *ret_len);

/* Reads exactly `len` bytes at file offset `off`, which lie in the file. */
typedef int (*physmap_read_fn)(void *ctx, uint64_t off, void *buf, size_t len);
/* Exactly `len` bytes from `gpa` on, piece by piece where they lie. 0, VMSIG_ERR_OUT_OF_RANGE when
 * one of them is not RAM, or what `read` has returned. */
__attribute__((warn_unused_result)) int physmap_read(const struct physmap *map, uint64_t gpa,
	void *buf, size_t len, physmap_read_fn read, void *ctx);

/* The first RAM address at or above `gpa`; false when there is none. */
bool physmap_next(const struct physmap *map, uint64_t gpa, uint64_t *ret_gpa);

/* Sum of the segments' lengths in bytes. */
uint64_t physmap_bytes(const struct physmap *map);

#endif
