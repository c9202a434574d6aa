/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_GUEST_PGWALK_H
#define PROTO_GUEST_PGWALK_H

/*
 * x86-64 page-table walk over foreign memory. Every table is hostile input: an entry may
 * point outside RAM, at its own table or at garbage; each ends with a typed error and the
 * work is bounded. Layout: Intel SDM vol. 3A, 4.5 (4-level and 5-level paging).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PGWALK_PAGE 4096u
#define PGWALK_ENTRIES 512u
#define PGWALK_ADDR_MASK 0x000ffffffffff000ull /* bits 51:12 of CR3 and of an entry */

/* Reads `len` bytes of guest-physical memory. 0, VMSIG_ERR_OUT_OF_RANGE when not all of it
 * is RAM, VMSIG_ERR_IO, or a negative errno. */
typedef int (*pgwalk_read_fn)(void *ctx, uint64_t gpa, void *buf, size_t len);

struct pgwalk {
	pgwalk_read_fn read;
	void *ctx;
	uint64_t root;   /* CR3; flag and PCID bits are ignored */
	unsigned levels; /* 4 or 5 */
};

#define PGWALK_WRITE 0x1u /* writable at every level */
#define PGWALK_USER 0x2u  /* user-accessible at every level */
#define PGWALK_EXEC 0x4u  /* not marked no-execute at any level */
#define PGWALK_GLOBAL 0x8u

struct pgwalk_leaf {
	uint64_t gva;  /* start of the page */
	uint64_t gpa;  /* guest-physical start of the page */
	uint64_t size; /* 4096, 2 MiB or 1 GiB */
	uint32_t perm; /* PGWALK_* */
};

/* Whether gva is canonical for the number of levels. */
bool pgwalk_canonical(unsigned levels, uint64_t gva);

/* The page that maps gva. 0, VMSIG_ERR_NOT_MAPPED (not present, or not canonical),
 * VMSIG_ERR_BAD_PAGE_TABLE (reserved bits set, or a table outside RAM), or what read
 * returned. */
__attribute__((warn_unused_result)) int pgwalk_translate(
	const struct pgwalk *walk, uint64_t gva, struct pgwalk_leaf *ret_leaf);

/* Visits present leaves of [start, end] (inclusive, canonical order: low half, high half) in
 * ascending order. The visitor returns 0 to go on; anything else stops and is returned.
 * Sub-trees that point outside RAM are skipped. At most `max_tables` tables are read
 * (VMSIG_ERR_BAD_PAGE_TABLE beyond, which also bounds cycles). */
typedef int (*pgwalk_visit_fn)(void *ctx, const struct pgwalk_leaf *leaf);
__attribute__((warn_unused_result)) int pgwalk_visit(const struct pgwalk *walk, uint64_t start,
	uint64_t end, uint64_t max_tables, pgwalk_visit_fn visit, void *ctx);

#endif
