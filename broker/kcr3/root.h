/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_KCR3_ROOT_H
#define BROKER_KCR3_ROOT_H

/*
 * Page-table roots: what tells a live kernel's from a dead one's, and how RAM is scanned.
 */

#include "broker/kcr3/kcr3.h"

#define ROOT_KERNEL_FIRST 256u /* entries 256..511 map the kernel's half */
#define ROOT_PRESENT 0x1ull

/* The whole top-level table. 0 or what the read returned. */
__attribute__((warn_unused_result)) int root_read(
	const struct kcr3_memory *memory, uint64_t root, uint64_t entries[static PGWALK_ENTRIES]);

/* Present entries of the kernel's half. */
unsigned root_kernel_entries(const uint64_t entries[static PGWALK_ENTRIES]);

/* Whether the kernel half of `entries` is that of a current vCPU root. True when no vCPU is
 * known: then there is nothing to compare with. CR3 carries a PCID in its low 12 bits, and
 * with page-table isolation bit 12 selects the user's copy of the root, so both the page
 * itself and the even page of its pair are tried. */
bool root_is_live(const struct kcr3_memory *memory, const uint64_t entries[static PGWALK_ENTRIES],
	const uint64_t *vcpu_cr3, size_t nvcpu);

/* Calls `page` for the start of each 4 KiB page of RAM that is not a hole, with up to
 * `PGWALK_PAGE` bytes. A non-zero return stops and is returned; so does *cancel, with
 * VMSIG_ERR_TIMEOUT. Reads in large pieces. */
typedef int (*root_page_fn)(void *ctx, uint64_t gpa, const unsigned char *page);
__attribute__((warn_unused_result)) int root_scan(
	const struct kcr3_memory *memory, const atomic_bool *cancel, root_page_fn page, void *ctx);

/* FNV-1a, 64 bit: tells contents apart; an adversary gains nothing from a collision. */
uint64_t root_digest(const void *data, size_t len);

#endif
