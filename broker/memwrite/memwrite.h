/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_MEMWRITE_MEMWRITE_H
#define BROKER_MEMWRITE_MEMWRITE_H

/*
 * Applies an admitted CMD_MEMWRITE to guest RAM: the only code of the host that stores into
 * a guest. Knows no clients, leases or messages: who may write what is asked through a
 * callback, in the same call that stores.
 *
 * What is checked is what is used. A batch's addresses are translated once, to a plan: a list
 * of pieces of guest-physical memory. Page tables are the guest's and the operator's to
 * change, so nothing is translated a second time: the pieces are admitted, read and compared,
 * they are what the caller records, and the bytes go to exactly these pieces, each of them
 * admitted once more right before its store. A plan belongs to the target that it was made
 * for; on another one (the endpoint has a new session) it is stale.
 *
 * A batch is all or nothing before its first byte: every address is translated and lies in
 * RAM, every piece is admitted, every comparison holds. After that only the end of the
 * admission, the guest's RAM file shrinking, or the guest changing a compared word in between
 * can stop it, and then the result says how far it came.
 *
 * An aligned operation of 1, 2, 4 or 8 bytes is one atomic access.
 *
 * Reading (checks, comparisons, page tables) goes by pread(), which allocates nothing where
 * the RAM file has holes; only what is written to is touched through the mapping. What was there
 * before comes with the store itself, which needs no system call.
 *
 *   target.c    the RAM files, mapped and open
 *   plan.c      addresses to pieces
 *   apply.c     check and apply
 *   fault.c     accesses that survive a file that shrinks
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lease/rangeset.h"
#include "proto/guest/physmap.h"
#include "vmsig/vmsig_coherence.h"
#include "vmsig/vmsig_error.h"

#define MEMWRITE_OPS_MAX 1024u
#define MEMWRITE_BYTES_MAX (1u << 20) /* of one batch; a frame's bound */
/* Of one plan: 64 MiB, the default bound of bulk data, in single pages and two ends. As ranges
 * of a record they take less than half of an AUDIT_PAGE_BYTES. */
#define MEMWRITE_PIECES_MAX 16640u
#define MEMWRITE_SLICE_PIECES 128u

struct memwrite_target; /* an endpoint's RAM, mapped writable */

/* Maps the file behind `fd` (O_RDWR, borrowed) for the layout. `kcr3` and `levels` are what
 * guest-virtual addresses without a root are translated with. `page` has the sequence word.
 * 0, VMSIG_ERR_BAD_REQUEST (layout beyond the file), -errno. */
__attribute__((warn_unused_result)) int memwrite_target_new(struct memwrite_target **ret_target,
	int fd, const vmsig_memseg *segs, size_t nseg, uint64_t low, uint64_t kcr3, unsigned levels,
	vmsig_coherence *page);
/* The same of RAM in several files, in the order in which they lie end to end. */
struct memwrite_files {
	const int *fds;
	const uint64_t *sizes; /* bytes of each that count; 0: all that it has */
	size_t n;
};
__attribute__((warn_unused_result)) int memwrite_target_new_files(
	struct memwrite_target **ret_target, const struct memwrite_files *files,
	const vmsig_memseg *segs, size_t nseg, uint64_t low, uint64_t kcr3, unsigned levels,
	vmsig_coherence *page);
struct memwrite_target *memwrite_target_free(struct memwrite_target *target);

struct memwrite_op {
	uint64_t addr;         /* guest-physical, or guest-virtual */
	uint64_t cr3;          /* guest-virtual: the root; 0: the endpoint's kcr3 */
	const uint8_t *data;   /* len bytes */
	const uint8_t *expect; /* len bytes, or NULL */
	const uint8_t *mask;   /* len bytes, set bits are compared and written; NULL: all */
	uint64_t len;          /* not 0 */
	bool is_virtual;
};

/* ---- plans ---- */

/* A run of one operation's bytes, contiguous in guest-physical space and in the RAM files. */
struct memwrite_piece {
	uint64_t gpa, off, len;
	uint64_t into; /* the operation's bytes before it */
	uint32_t op;
};

/* In the order of the operations' bytes. Zeroed it is an empty one. */
struct memwrite_plan {
	struct memwrite_piece *pieces;
	size_t n, size;
	uint64_t bytes;  /* of all pieces */
	uint64_t serial; /* of its target */
};

void memwrite_plan_deinit(struct memwrite_plan *plan);

/* Makes the plan of a batch, whatever it was before. VMSIG_ERR_BAD_REQUEST (beyond the bounds
 * above), VMSIG_ERR_QUOTA (more than MEMWRITE_PIECES_MAX), VMSIG_ERR_OUT_OF_RANGE, errors of
 * translation, -ENOMEM; at *ret_failed_op. */
__attribute__((warn_unused_result)) int memwrite_resolve(const struct memwrite_target *target,
	const struct memwrite_op *ops, size_t nops, struct memwrite_plan *plan,
	uint32_t *ret_failed_op);
/* Plans the next `len` bytes of a single operation of any length, and no more than it has
 * left: plan->bytes says how far it is. As above, and VMSIG_ERR_STALE_EPOCH: it was begun on
 * another target. */
__attribute__((warn_unused_result)) int memwrite_resolve_part(const struct memwrite_target *target,
	const struct memwrite_op *op, uint64_t len, struct memwrite_plan *plan);

/* Whether the batch's addresses still mean the memory of its plan: for a guest that went on
 * after it was made, and stands still now. Only a look; what is stored to stays the plan.
 * VMSIG_ERR_BUSY: the guest has moved it. */
__attribute__((warn_unused_result)) int memwrite_plan_holds(const struct memwrite_target *target,
	const struct memwrite_op *ops, size_t nops, const struct memwrite_plan *plan);
/* Whether both go to the same memory. */
bool memwrite_plan_is_same(const struct memwrite_plan *a, const struct memwrite_plan *b);
/* Whether it was made for this target. */
bool memwrite_plan_fits(const struct memwrite_plan *plan, const struct memwrite_target *target);

/* Part of a single operation's plan; its pieces count from the part's first byte. */
struct memwrite_slice {
	struct memwrite_plan plan;
	struct memwrite_piece pieces[MEMWRITE_SLICE_PIECES];
};
/* At most `len` bytes from byte `from` on; less when they are in too many pieces. The slice
 * is not to be moved, and owns nothing. */
void memwrite_plan_cut(const struct memwrite_plan *plan, uint64_t from, uint64_t len,
	struct memwrite_slice *ret_slice);

/* The guest-physical memory that the first `bytes` bytes go to: exactly that, ascending, what
 * touches merged. `ranges` has room for plan->n. How many there are. */
__attribute__((warn_unused_result)) size_t memwrite_plan_ranges(
	const struct memwrite_plan *plan, uint64_t bytes, struct lease_range *ranges);

/* ---- bytes ---- */

struct memwrite_result {
	enum vmsig_error error; /* OK, PARTIAL, or why nothing was written */
	enum vmsig_error cause; /* of PARTIAL, otherwise as `error` */
	uint32_t failed_op;     /* the operation it happened at */
	uint64_t written;       /* bytes that were stored: the first ones of the plan */
};

/* Whether these guest-physical bytes may be written now. 0 or the error of the refusal. */
typedef int (*memwrite_admit_fn)(void *ctx, const struct lease_range *range);

/* `plan` is that of the operations. `old` receives what was there before, the operations'
 * bytes one after the other, also of what was not stored to; bytes that are not there any more
 * are zero. It is never NULL. */
void memwrite_apply(struct memwrite_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, memwrite_admit_fn admit, void *ctx, uint8_t *old,
	struct memwrite_result *ret_result);

/* The half of apply that comes before the first byte: what memwrite_apply() would answer now,
 * with `written` 0, and in `old` the bytes that are there. NULL: no operation has a comparison, and
 * nothing is read. */
void memwrite_check(const struct memwrite_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, memwrite_admit_fn admit, void *ctx, uint8_t *old,
	struct memwrite_result *ret_result);

#endif
