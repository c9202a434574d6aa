/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_CONTEXT_H
#define CLIENTS_COMMON_CONTEXT_H

/*
 * What the read plane says about one endpoint: its epoch and state, and while there is one a
 * context to read its guest by, opened. It follows the endpoint as deliveries are given to it.
 *
 *   context  what is known of one endpoint, opened
 *   hold     a lease, kept
 *   corefile  guest memory as a file of others
 *   coreinfo  what its kernel tells such files of itself
 *   symfile   the kernel's symbols and types as an ELF file
 *   isf       the same as Volatility takes them
 *   dwarf     its types as debuggers take them that know no BTF
 *   typeinfo  the bytes that describe its types
 *   failure  errors, for people and programs
 *   exits    exit statuses
 *   folder   where tools keep what outlives them
 *   moment   moments in time
 *   page     help in 80 columns
 *   rsp      frames of gdb's protocol
 *   table    tables that people read
 *   text     numbers and durations that people type
 *   tree     what is below what
 *   value    JSON values
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig.h"
#include "vmsig/vmsig_mem.h"
#include "vmsig/vmsig_write.h"

struct context {
	vmsig *connection;                 /* its own, ended with it; NULL: it is somebody else's */
	uint32_t epoch;                    /* the newest that was heard of; 0: none */
	uint32_t state;                    /* enum vmsig_endpoint_state */
	uint32_t guard;                    /* enum vmsig_guard */
	char reason[VMSIG_DETAIL_MAX + 1]; /* why there is none, or "" */

	vmsig_mem *mem;          /* NULL: there is no context now. Coherent, in PREAD mode */
	vmsig_delivery delivery; /* the MEMCTX that it was opened from */
	vmsig_memctx pod;
	uint64_t root; /* what virtual addresses are under: the kernel's, unless somebody sets it */
	const vmsig_memseg *segs;
	uint32_t nseg;
};

#define CONTEXT_INIT ((struct context){.delivery = VMSIG_DELIVERY_INIT})

/* Everything of it; CONTEXT_INIT then. */
void context_close(struct context *context);
/* Takes a delivery about the endpoint over, which is cleared. A context of a MEMCTX that cannot
 * be opened is a negated enum vmsig_error, and a reason. */
__attribute__((warn_unused_result)) int context_take(
	struct context *context, vmsig_delivery *delivery);
/* enum vmsig_endpoint_state of a context that is there, as it is now: a MEMCTX says READY, and what
 * is the matter with the guest beside comes after it. */
uint32_t context_state(const struct context *context);
/* Why there is no context yet. */
const char *context_why(const struct context *context);

/* With mem there; virtual addresses are under `root`. As vmsig_phys_read() and
 * vmsig_scan_phys(). */
__attribute__((warn_unused_result)) int context_read(
	struct context *context, bool physical, uint64_t addr, void *buf, size_t len);
__attribute__((warn_unused_result)) int context_scan(const struct context *context, bool physical,
	const vmsig_lease_range *range, const unsigned char *pattern, size_t len,
	vmsig_match_fn match, void *ctx);

#endif
