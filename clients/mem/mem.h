/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_MEM_MEM_H
#define CLIENTS_MEM_MEM_H

/*
 * Inside of a holder's context. Functions here return 0, a positive enum vmsig_error or a
 * negative errno; mem_public() turns that into what the public calls return.
 *
 * Two layers: mem_phys() and mem_locate() read once and know nothing of coherence; the
 * *_coherent() functions put them between begin and end and repeat them.
 *
 *   mem        opening, and the public calls
 *   layout     where guest-physical memory lies in the files
 *   ram        the file and its mapping
 *   read       reads
 *   readonly   writes, refused
 *   coherence  the page
 *   clock      until when it is vouched for
 *   copy       of a page
 *   tcache     translations
 *   pmap       all that is mapped
 *   scan       searches
 *   window     the bytes that a search looks at
 *   pattern    what it looks for
 */

#include <stddef.h>
#include <stdint.h>

#include "clients/mem/coherence.h"
#include "clients/mem/copy.h"
#include "clients/mem/ram.h"
#include "clients/mem/tcache.h"
#include "proto/guest/pgwalk.h"
#include "proto/guest/physmap.h"
#include "vmsig/vmsig_mem.h"

/* How often a read that raced with a write of the broker is done again. */
#define MEM_ATTEMPTS 64u

/* Bound on the tables that one walk over an address space reads: maps of 32 TiB in pages of
 * 4 KiB, and what a kernel's address sanitizer maps again and again. */
#define MEM_MAX_TABLES (1ull << 24)
/* Bound on the ranges that one map tells: a guest whose tables refer to themselves maps its pages
 * without end, honest ones map a page a few times. */
#define MEM_MAX_RANGES(mem) (4 * ((mem)->ram.size >> 12) + 65536)

struct vmsig_mem {
	struct mem_ram ram;
	struct physmap map;
	struct mem_coherence coherence;
	struct tcache cache;
	mem_copy_fn copy;
	unsigned levels;
	enum vmsig_mem_mode mode;
};

/* Negated error number; an errno becomes IO or NO_MEMORY. */
int mem_public(int error);

/* One read of [gpa, gpa + len). VMSIG_ERR_OUT_OF_RANGE, VMSIG_ERR_IO. */
__attribute__((warn_unused_result)) int mem_phys(
	vmsig_mem *mem, uint64_t gpa, void *buf, size_t len);

/* The same, coherent, and as a pgwalk_read_fn: `ctx` is the vmsig_mem. Adds
 * VMSIG_ERR_STALE_EPOCH, VMSIG_ERR_NOT_READY, VMSIG_ERR_GONE, VMSIG_ERR_TORN. */
__attribute__((warn_unused_result)) int mem_phys_coherent(
	void *ctx, uint64_t gpa, void *buf, size_t len);

/* One read of guest-virtual memory; `cr3` is masked. Adds what pgwalk_translate() returns. */
__attribute__((warn_unused_result)) int mem_virt(
	vmsig_mem *mem, uint64_t cr3, uint64_t gva, void *buf, size_t len);

/* A walk under `cr3` that reads tables with `read`. */
struct pgwalk mem_walk(vmsig_mem *mem, uint64_t cr3, pgwalk_read_fn read);

/* VMSIG_PROT_* of PGWALK_*. */
uint32_t mem_prot(uint32_t perm);

/* Whether a read that began at `sequence` and ended with `r` has to be done again; else *ret
 * is its result. Forgets translations that were made from torn tables. */
__attribute__((warn_unused_result)) static inline bool mem_again(
	vmsig_mem *mem, uint64_t sequence, int r, int *ret)
{
	int coherent = mem_coherence_end(&mem->coherence, sequence);

	*ret = coherent ? coherent : r;
	if (coherent != VMSIG_ERR_TORN)
		return false;
	tcache_flush(&mem->cache);
	return true;
}

#endif
