/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_MEM_TCACHE_H
#define CLIENTS_MEM_TCACHE_H

/*
 * Translations that were walked before: (cr3, page of 4 KiB) to an offset in the RAM file.
 * Direct-mapped and of fixed size. Only pages that are 4 KiB of contiguous RAM get in.
 */

#include <stdbool.h>
#include <stdint.h>

#include "proto/guest/pgwalk.h"

#define TCACHE_ENTRIES 4096u /* 96 KiB; covers 16 MiB of guest-virtual space */

struct tcache_entry {
	uint64_t tag; /* start of the page, with TCACHE_VALID, and TCACHE_READY or not */
	uint64_t cr3;
	uint64_t off; /* of the page in the file, bytes */
};

struct tcache {
	struct tcache_entry entries[TCACHE_ENTRIES];
};

#define TCACHE_VALID 0x1u
#define TCACHE_READY 0x2u /* its bytes may be read through the mapping; see read.c */
#define TCACHE_PAGE_MASK (~(uint64_t)(PGWALK_PAGE - 1))

static inline uint32_t tcache_slot(uint64_t cr3, uint64_t gva)
{
	/* Roots are whole pages: a multiplication spreads their few changing bits, while
	 * neighbouring pages keep neighbouring slots. */
	return (uint32_t)((gva / PGWALK_PAGE) + ((cr3 * 0x9e3779b97f4a7c15ull) >> 52)) &
	       (TCACHE_ENTRIES - 1);
}

/* `cr3` is masked with PGWALK_ADDR_MASK; `gva` may be inside the page. */
static inline bool tcache_find(
	const struct tcache *cache, uint64_t cr3, uint64_t gva, uint64_t *ret_off)
{
	const struct tcache_entry *entry = &cache->entries[tcache_slot(cr3, gva)];

	if ((entry->tag & ~(uint64_t)TCACHE_READY) != ((gva & TCACHE_PAGE_MASK) | TCACHE_VALID) ||
		entry->cr3 != cr3)
		return false;
	*ret_off = entry->off;
	return true;
}

/* The same of what is ready. */
static inline bool tcache_find_ready(
	const struct tcache *cache, uint64_t cr3, uint64_t gva, uint64_t *ret_off)
{
	const struct tcache_entry *entry = &cache->entries[tcache_slot(cr3, gva)];

	*ret_off = entry->off;
	return entry->tag == ((gva & TCACHE_PAGE_MASK) | TCACHE_VALID | TCACHE_READY) &&
	       entry->cr3 == cr3;
}

/* What tcache_find() found just now is ready. */
static inline void tcache_make_ready(struct tcache *cache, uint64_t cr3, uint64_t gva)
{
	cache->entries[tcache_slot(cr3, gva)].tag |= TCACHE_READY;
}

static inline void tcache_put(struct tcache *cache, uint64_t cr3, uint64_t gva, uint64_t off)
{
	cache->entries[tcache_slot(cr3, gva)] = (struct tcache_entry){
		.tag = (gva & TCACHE_PAGE_MASK) | TCACHE_VALID, .cr3 = cr3, .off = off};
}

void tcache_flush(struct tcache *cache);

#endif
