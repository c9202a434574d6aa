/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_GUEST_ROOT_H
#define PROTO_GUEST_ROOT_H

/*
 * Page-table roots: what tells a live kernel's from a dead one's.
 */

#include "proto/guest/kcr3.h"

#define ROOT_KERNEL_FIRST 256u /* entries 256..511 map the kernel's half */
#define ROOT_PRESENT 0x1ull

/* One top-level table and where it lies. */
struct root_table {
	uint64_t root;
	uint64_t entries[PGWALK_ENTRIES];
};

/* The whole table at the page of `root`, whose flag bits are ignored. 0 or what the read
 * returned. */
__attribute__((warn_unused_result)) int root_read(
	const struct kcr3_memory *memory, uint64_t root, struct root_table *ret_table);

/* Present entries of the kernel's half. */
unsigned root_kernel_entries(const struct root_table *table);

/* Of the kernel's half, and of the two tables that its first entry leads to, which on Linux is
 * the direct map: KASLR moves all of them. Never 0; what cannot be read is left out. */
uint64_t root_placement(const struct kcr3_memory *memory, const struct root_table *table);

/* Whether two entries map the same. Accessed and dirty bits come and go while a CPU walks. */
bool root_entry_same(uint64_t a, uint64_t b);

/* Whether two tables of one guest belong to the same kernel: operating systems differ in what
 * of the kernel's half is a process's own. */
typedef bool (*root_same_fn)(const struct root_table *candidate, const struct root_table *vcpu);

/* Whether `candidate` is of the kernel of a current vCPU root. True when no vCPU is known:
 * then there is nothing to compare with. CR3 carries a PCID in its low 12 bits, and
 * with page-table isolation bit 12 selects the user's copy of the root, so both the page
 * itself and the even page of its pair are tried. */
bool root_is_live(const struct kcr3_memory *memory, const struct root_table *candidate,
	root_same_fn same, const uint64_t *vcpu_cr3, size_t nvcpu);

/* FNV-1a, 64 bit: tells contents apart; an adversary gains nothing from a collision. */
uint64_t root_digest(const void *data, size_t len);

#endif
