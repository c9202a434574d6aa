/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_GUEST_NTIMAGE_H
#define PROTO_GUEST_NTIMAGE_H

/*
 * The Windows kernel's image in a guest's memory: a PE file, x86-64, that calls itself
 * "ntoskrnl.exe" in its export directory and exports NtBuildNumber and PsInitialSystemProcess.
 * Nothing but Windows has that where kernels are mapped. The guest wrote all of it: what is
 * read is bounded, and nothing leads outside of the image. Pure over a read function.
 * Layout: "PE Format" of Microsoft's documentation.
 */

#include <stdbool.h>
#include <stdint.h>

#include "proto/guest/pgwalk.h"
#include "vmsig/vmsig_event.h"

/* Where Windows maps its kernel: the loader's mappings, which lie in one entry of the root.
 * Both ends are included. */
#define NTIMAGE_FIRST 0xfffff80000000000ull
#define NTIMAGE_LAST 0xfffff87fffffffffull

struct ntimage {
	uint64_t base;                   /* of the image */
	uint32_t stamp;                  /* TimeDateStamp: tells builds apart */
	char release[VMSIG_RELEASE_MAX]; /* "10.0.19041" */
	uint64_t root; /* page of the System process's root; 0: it has no such process yet */
};

/* The image whose headers are at `base`. 0; VMSIG_ERR_NOT_READY: it is not there. */
__attribute__((warn_unused_result)) int ntimage_read(
	const struct pgwalk *walk, uint64_t base, struct ntimage *ret_image);

/* A way through the places where it can be; `next` starts at NTIMAGE_FIRST. */
struct ntimage_search {
	uint64_t next;
	uint32_t pages; /* that may still be looked at */
};

/* Goes on until it is found or `is_spent` says so. 0; VMSIG_ERR_WOULD_BLOCK: again;
 * VMSIG_ERR_NOT_READY: it is nowhere, or more is mapped there than any Windows maps. */
__attribute__((warn_unused_result)) int ntimage_find(const struct pgwalk *walk,
	struct ntimage_search *search, bool (*is_spent)(void *ctx), void *ctx,
	struct ntimage *ret_image);

#endif
