/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_GUEST_SWEEP_H
#define PROTO_GUEST_SWEEP_H

/*
 * A way through all of guest RAM, page by page, that can be left and gone on with. Holes of
 * the file are passed over, so they cost neither time nor memory.
 */

#include "proto/guest/strategy.h"

struct sweep {
	size_t seg;   /* the segment that it is in; they ascend */
	uint64_t gpa; /* what lies below is done */
};

/* Gets each whole 4 KiB page of the guest's. */
typedef void (*sweep_page_fn)(void *ctx, uint64_t gpa, const unsigned char *page);

/* Goes on until the search's share is spent. 0: all of RAM is done; VMSIG_ERR_WOULD_BLOCK: there
 * is more; what a read returned; -ENOMEM. */
__attribute__((warn_unused_result)) int sweep_step(
	struct sweep *sweep, const struct kcr3_search *search, sweep_page_fn page, void *ctx);

#endif
