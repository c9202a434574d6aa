/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_MEMWRITE_MEMWRITE_H
#define BROKER_MEMWRITE_MEMWRITE_H

/*
 * Applies an admitted CMD_MEMWRITE to guest RAM: the only code of the host that stores into
 * a guest. Knows no clients, leases or messages: who may write what is asked through a
 * callback, in the same call that stores.
 *
 * A batch is all or nothing before its first byte: every address is translated and lies in
 * RAM, every range is admitted, every comparison holds. After that only the guest's RAM file
 * shrinking, or the guest changing a compared word in between, can stop it, and then the
 * result says how far it came.
 *
 * An aligned operation of 1, 2, 4 or 8 bytes is one atomic access.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lease/rangeset.h"
#include "proto/physmap.h"
#include "vmsig/vmsig_coherence.h"
#include "vmsig/vmsig_error.h"

#define MEMWRITE_OPS_MAX 1024u
#define MEMWRITE_BYTES_MAX (1u << 20) /* of one batch; a frame's bound */

struct memwrite_target; /* an endpoint's RAM, mapped writable */

/* Maps the file behind `fd` (O_RDWR, borrowed) for the layout. `kcr3` and `levels` are what
 * guest-virtual addresses without a root are translated with. `page` has the sequence word.
 * 0, VMSIG_ERR_BAD_REQUEST (layout beyond the file), -errno. */
__attribute__((warn_unused_result)) int memwrite_target_new(struct memwrite_target **ret_target,
	int fd, const vmsig_memseg *segs, size_t nseg, uint64_t low, uint64_t kcr3, unsigned levels,
	vmsig_coherence *page);
struct memwrite_target *memwrite_target_free(struct memwrite_target *target);

struct memwrite_op {
	uint64_t addr;         /* guest-physical, or guest-virtual */
	uint64_t cr3;          /* guest-virtual: the root; 0: the endpoint's kcr3 */
	const uint8_t *data;   /* len bytes */
	const uint8_t *expect; /* len bytes, or NULL */
	const uint8_t *mask;   /* len bytes, set bits are compared and written; NULL: all */
	uint32_t len;          /* not 0 */
	bool is_virtual;
};

struct memwrite_result {
	enum vmsig_error error;   /* OK, PARTIAL, or why nothing was written */
	uint32_t failed_op;       /* the operation it happened at */
	uint64_t written;         /* bytes that were stored */
	struct lease_range range; /* guest-physical span that the batch touches */
};

/* Whether these guest-physical bytes may be written now. 0 or the error of the refusal. */
typedef int (*memwrite_admit_fn)(void *ctx, const struct lease_range *range);

/* `old` receives what was there before, the operations' bytes one after the other (the sum
 * of their len); it is filled as far as operations came, and never NULL. */
void memwrite_apply(struct memwrite_target *target, const struct memwrite_op *ops, size_t nops,
	memwrite_admit_fn admit, void *ctx, uint8_t *old, struct memwrite_result *ret_result);

/* The half of apply that comes before the first byte: what memwrite_apply() would answer now,
 * with `written` 0, and in `old` the bytes that are there. */
void memwrite_check(struct memwrite_target *target, const struct memwrite_op *ops, size_t nops,
	memwrite_admit_fn admit, void *ctx, uint8_t *old, struct memwrite_result *ret_result);

/* The bytes that are there now, for telling after a crash whether a batch was applied.
 * `buf` as `old` above. 0 or an error of translation. */
__attribute__((warn_unused_result)) int memwrite_peek(
	struct memwrite_target *target, const struct memwrite_op *ops, size_t nops, uint8_t *buf);

#endif
