/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMSIG_MEMCTX_H
#define VMSIG_MEMCTX_H

/*
 * The handoff contract of the read plane. Names and layouts are frozen.
 *
 * A MEMCTX pairs the root of the guest kernel's address space with a locator of guest RAM,
 * a descriptor that is already open O_RDONLY, and is valid inside one epoch. The holder
 * opens its own read-only context from the descriptor and does its own looking; what the
 * bytes mean is never the broker's business.
 *
 * Holder's duties: close the context and its descriptor on MEMCTX_INVALIDATED and wait for
 * the MEMCTX of the new epoch; never use kcr3 outside its epoch. Writing is only possible
 * with CMD_MEMWRITE under a MEMWRITE lease, on another plane.
 */

#include <stddef.h>
#include <stdint.h>

#include "vmsig_event.h"

#ifdef __cplusplus
extern "C" {
#endif

/* vmsig_memctx.flags */
#define VMSIG_MEMCTX_RDONLY 0x1u /* always set by the broker */
#define VMSIG_MEMCTX_LA57 0x2u   /* kcr3 is the root of a five-level table */
#define VMSIG_MEMCTX_SPARSE                                                                        \
	0x4u /* the RAM file may have holes: touching one through a shared                         \
	      * mapping allocates it, pread(2) does not */

/* Locator, in vmsig_event.inln of VMSIG_EV_MEMCTX. */
typedef struct {
	uint64_t kcr3;  /* guest-physical address of the kernel's page-table root */
	uint64_t low;   /* bytes of RAM below 4 GiB, the split at the PCI hole */
	uint32_t epoch; /* VM session; kcr3 is valid only within it */
	uint32_t nseg;  /* segments in the owned payload; 0: `low` alone describes the layout,
			 * GPA [0, low) at file offset 0, and what follows in the file at 4 GiB */
	uint32_t flags; /* VMSIG_MEMCTX_* */
	uint32_t _pad;
} vmsig_memctx;

/* One window of guest-physical space in the RAM file, all in bytes. */
typedef struct {
	uint64_t gpa;
	uint64_t len;
	uint64_t file_off;
} vmsig_memseg;

/* In vmsig_event.inln of VMSIG_EV_MEMCTX_INVALIDATED. */
typedef struct {
	uint32_t endpoint;
	uint32_t epoch; /* the NEW epoch; contexts of earlier ones are void */
} vmsig_memctx_inv;

/* The segments of a MEMCTX event. Pure; nothing is allocated or transferred: the result
 * points into the event's payload and lives as long as it. NULL and a count of 0 when the
 * layout is single-low or the payload is missing or too short for nseg entries.
 * out_nseg may be NULL. */
static inline const vmsig_memseg *vmsig_memctx_segs(const vmsig_event *ev, uint32_t *out_nseg)
{
	const vmsig_memctx *pod = (const vmsig_memctx *)(const void *)ev->inln;
	const vmsig_memseg *segs = NULL;
	uint32_t nseg = 0;

	if (pod->nseg && ev->payload.data && ev->payload.len / sizeof(vmsig_memseg) >= pod->nseg) {
		segs = (const vmsig_memseg *)ev->payload.data;
		nseg = pod->nseg;
	}
	if (out_nseg)
		*out_nseg = nseg;
	return segs;
}

/*
 * Registration of an adapter's endpoint in the core, through vmsig_emit.register_memctx.
 * The core keeps the registration, never a copy of the locator: each delivery asks
 * describe() and share_fd() anew. All callbacks run on the loop thread and must not block.
 */
typedef struct vmsig_memctx_reg {
	uint32_t endpoint;
	uint32_t source; /* VMSIG_SRC_MEMCTX */
	void *ctx;       /* the adapter's own */

	/* Current locator. *out_segs is borrowed from the adapter and valid until the loop
	 * turns. The core overwrites out_pod->epoch. */
	void (*describe)(void *ctx, vmsig_memctx *out_pod, const vmsig_memseg **out_segs,
		uint32_t *out_nseg);

	/* A fresh O_RDONLY open file description of the RAM, which the caller closes, or a
	 * negative errno. */
	int (*share_fd)(void *ctx);

	/* The epoch is over: drop what was found and bootstrap for `epoch`, then emit MEMCTX. */
	void (*invalidate)(void *ctx, uint32_t epoch);
} vmsig_memctx_reg;

VMSIG_STATIC_ASSERT(sizeof(vmsig_memctx) == 32, "vmsig_memctx is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx, kcr3) == 0, "vmsig_memctx is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx, low) == 8, "vmsig_memctx is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx, epoch) == 16, "vmsig_memctx is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx, nseg) == 20, "vmsig_memctx is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx, flags) == 24, "vmsig_memctx is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx, _pad) == 28, "vmsig_memctx is frozen");
VMSIG_STATIC_ASSERT(sizeof(vmsig_memseg) == 24, "vmsig_memseg is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memseg, gpa) == 0, "vmsig_memseg is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memseg, len) == 8, "vmsig_memseg is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memseg, file_off) == 16, "vmsig_memseg is frozen");
VMSIG_STATIC_ASSERT(sizeof(vmsig_memctx_inv) == 8, "vmsig_memctx_inv is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx_inv, endpoint) == 0, "vmsig_memctx_inv is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx_inv, epoch) == 4, "vmsig_memctx_inv is frozen");
VMSIG_STATIC_ASSERT(sizeof(vmsig_memctx) <= VMSIG_EVENT_INLN_SIZE, "a locator fits inline");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx_reg, endpoint) == 0, "vmsig_memctx_reg is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx_reg, source) == 4, "vmsig_memctx_reg is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx_reg, ctx) == 8, "vmsig_memctx_reg is frozen");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx_reg, describe) == 8 + sizeof(void *), "frozen order");
VMSIG_STATIC_ASSERT(offsetof(vmsig_memctx_reg, share_fd) == 8 + 2 * sizeof(void *), "frozen order");
VMSIG_STATIC_ASSERT(
	offsetof(vmsig_memctx_reg, invalidate) == 8 + 3 * sizeof(void *), "frozen order");

#ifdef __cplusplus
}
#endif

#endif
