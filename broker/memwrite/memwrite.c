/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/memwrite/memwrite.h"

#include <string.h>

#include "broker/memwrite/fault.h"
#include "broker/memwrite/target.h"

/* ---- before the first byte ---- */

struct batch {
	const struct memwrite_target *target;
	const struct memwrite_op *ops;
	const struct memwrite_plan *plan;
	memwrite_admit_fn admit;
	void *ctx;
};

static struct lease_range range_of(const struct memwrite_piece *piece)
{
	return (struct lease_range){.start = piece->gpa, .last = piece->gpa + (piece->len - 1)};
}

static bool is_expected(
	const struct memwrite_op *op, const struct memwrite_piece *piece, const uint8_t *old)
{
	for (uint64_t i = 0; op->expect && i < piece->len; i++) {
		uint8_t mask = op->mask ? op->mask[piece->into + i] : 0xff;

		if ((old[i] ^ op->expect[piece->into + i]) & mask)
			return false;
	}
	return true;
}

static int check_piece(const struct batch *batch, const struct memwrite_piece *piece, uint8_t *old)
{
	const struct lease_range range = range_of(piece);
	int r = batch->admit(batch->ctx, &range);

	if (!r)
		r = target_read(batch->target, piece->off, old, (size_t)piece->len);
	if (!r && !is_expected(&batch->ops[piece->op], piece, old))
		r = VMSIG_ERR_COMPARE_FAILED;
	return r;
}

static void fail(struct memwrite_result *result, int error, uint32_t op)
{
	result->error = error > 0 ? (enum vmsig_error)error : VMSIG_ERR_INTERNAL;
	result->cause = result->error;
	result->failed_op = op;
	if (result->written)
		result->error = VMSIG_ERR_PARTIAL;
}

static void check(const struct batch *batch, uint8_t *old, struct memwrite_result *result)
{
	if (!memwrite_plan_fits(batch->plan, batch->target)) {
		fail(result, VMSIG_ERR_STALE_EPOCH, 0);
		return;
	}
	for (size_t i = 0; i < batch->plan->n; i++) {
		const struct memwrite_piece *piece = &batch->plan->pieces[i];
		int r = check_piece(batch, piece, old);

		if (r) {
			fail(result, r, piece->op);
			return;
		}
		old += piece->len;
	}
}

void memwrite_check(const struct memwrite_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, memwrite_admit_fn admit, void *ctx, uint8_t *old,
	struct memwrite_result *ret_result)
{
	const struct batch batch = {target, ops, plan, admit, ctx};

	*ret_result = (struct memwrite_result){0};
	check(&batch, old, ret_result);
}

/* ---- bytes ---- */

static bool is_atomic(const struct memwrite_op *op, const struct memwrite_piece *piece)
{
	uint64_t len = op->len;

	return (len == 1 || len == 2 || len == 4 || len == 8) && piece->len == len &&
	       piece->gpa % len == 0;
}

static uint64_t number(const uint8_t *bytes, size_t len, uint64_t absent)
{
	uint64_t value = 0;

	if (!bytes)
		return absent;
	memcpy(&value, bytes, len);
	return value;
}

static int store_atomic(
	uint8_t *guest, const struct memwrite_op *op, uint8_t *old, uint64_t *written)
{
	size_t len = (size_t)op->len;
	struct fault_store store = {.size = len,
		.value = number(op->data, len, 0),
		.mask = number(op->mask, len, UINT64_MAX),
		.has_expect = op->expect != NULL,
		.expect = number(op->expect, len, 0)};
	uint64_t before = 0;
	int r;

	store.expect_mask = store.mask;
	r = fault_store(guest, &store, &before);
	memcpy(old, &before, len);
	if (!r)
		*written += len;
	return r;
}

static int store_plain(uint8_t *guest, const uint8_t *data, size_t len, uint64_t *written)
{
	size_t done;
	int r = fault_write(guest, data, len, &done);

	*written += done;
	return r;
}

/* What lies outside the mask is the guest's: written back as it was a moment ago. Callers
 * who need more than that for wide masked writes ask for quiesce. */
static int store_masked(uint8_t *guest, const struct memwrite_op *op,
	const struct memwrite_piece *piece, const uint8_t *old, uint64_t *written)
{
	const uint8_t *data = op->data + piece->into, *mask = op->mask + piece->into;
	uint8_t merged[256];

	for (size_t at = 0; at < piece->len; at += sizeof(merged)) {
		size_t n = piece->len - at < sizeof(merged) ? piece->len - at : sizeof(merged);
		int r;

		for (size_t i = 0; i < n; i++)
			merged[i] = (uint8_t)((data[at + i] & mask[at + i]) |
					      (old[at + i] & ~mask[at + i]));
		r = store_plain(guest + at, merged, n, written);
		if (r)
			return r;
	}
	return 0;
}

/* The admission is asked for again with the clock of this moment: a batch takes its time. */
static int store_piece(const struct batch *batch, const struct memwrite_piece *piece, uint8_t *old,
	uint64_t *written)
{
	const struct memwrite_op *op = &batch->ops[piece->op];
	uint8_t *guest = batch->target->base + piece->off;
	const struct lease_range range = range_of(piece);
	int r = batch->admit(batch->ctx, &range);

	if (r)
		return r;
	if (is_atomic(op, piece))
		return store_atomic(guest, op, old, written);
	if (op->mask)
		return store_masked(guest, op, piece, old, written);
	return store_plain(guest, op->data + piece->into, (size_t)piece->len, written);
}

static void store(const struct batch *batch, uint8_t *old, struct memwrite_result *result)
{
	for (size_t i = 0; i < batch->plan->n; i++) {
		const struct memwrite_piece *piece = &batch->plan->pieces[i];
		int r = store_piece(batch, piece, old, &result->written);

		if (r) {
			fail(result, r, piece->op);
			return;
		}
		old += piece->len;
	}
}

static void sequence_bump(vmsig_coherence *page)
{
	__atomic_add_fetch(&page->sequence, 1, __ATOMIC_SEQ_CST);
}

void memwrite_apply(struct memwrite_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, memwrite_admit_fn admit, void *ctx, uint8_t *old,
	struct memwrite_result *ret_result)
{
	const struct batch batch = {target, ops, plan, admit, ctx};

	*ret_result = (struct memwrite_result){0};
	check(&batch, old, ret_result);
	if (ret_result->error)
		return;
	sequence_bump(target->page);
	store(&batch, old, ret_result);
	sequence_bump(target->page);
}
