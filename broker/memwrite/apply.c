/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/memwrite/memwrite.h"

#include <assert.h>
#include <string.h>

#include "broker/memwrite/fault.h"
#include "broker/memwrite/target.h"

/* ---- before the first byte ---- */

struct memwrite_batch {
	const struct memwrite_target *target;
	const struct memwrite_op *ops;
	const struct memwrite_plan *plan;
	memwrite_admit_fn admit;
	void *ctx;
	bool looks; /* everything is read before the first byte is stored */
};

static struct lease_range range_of(const struct memwrite_piece *piece)
{
	return (struct lease_range){.start = piece->gpa, .last = piece->gpa + (piece->len - 1)};
}

static bool is_atomic(const struct memwrite_op *op, const struct memwrite_piece *piece)
{
	uint64_t len = op->len;

	return (len == 1 || len == 2 || len == 4 || len == 8) && piece->len == len &&
	       piece->gpa % len == 0;
}

static bool is_expected(
	const struct memwrite_op *op, const struct memwrite_piece *piece, const uint8_t *old)
{
	for (uint64_t i = 0; i < piece->len; i++) {
		uint8_t mask = op->mask ? op->mask[piece->into + i] : 0xff;

		if ((old[i] ^ op->expect[piece->into + i]) & mask)
			return false;
	}
	return true;
}

/* Whether the piece is read before the first byte is stored. A comparison by itself is made by
 * the store, which is one access. */
static bool is_read_before(const struct memwrite_batch *batch, const struct memwrite_piece *piece)
{
	const struct memwrite_op *op = &batch->ops[piece->op];

	return batch->looks || (op->expect && !(batch->plan->n == 1 && is_atomic(op, piece)));
}

static int check_piece(
	const struct memwrite_batch *batch, const struct memwrite_piece *piece, uint8_t *old)
{
	const struct memwrite_op *op = &batch->ops[piece->op];
	const struct lease_range range = range_of(piece);
	int r = batch->admit(batch->ctx, &range);

	if (r || !is_read_before(batch, piece))
		return r;
	r = target_read(batch->target, piece->off, old, (size_t)piece->len);
	return !r && op->expect && !is_expected(op, piece, old) ? VMSIG_ERR_COMPARE_FAILED : r;
}

static void fail(struct memwrite_result *result, int error, uint32_t op)
{
	result->error = error > 0 ? (enum vmsig_error)error : VMSIG_ERR_INTERNAL;
	result->cause = result->error;
	result->failed_op = op;
	if (result->written)
		result->error = VMSIG_ERR_PARTIAL;
}

/* For a batch that has failed. */
static void look(const struct memwrite_batch *batch, const struct memwrite_piece *piece,
	uint64_t from, uint8_t *old)
{
	if (from < piece->len && target_read(batch->target, piece->off + from, old + from,
					 (size_t)(piece->len - from)))
		memset(old + from, 0, (size_t)(piece->len - from));
}

/* What the comparisons up to the piece that failed have seen stays. */
static void look_at_all(const struct memwrite_batch *batch, size_t failed, uint8_t *old)
{
	for (size_t i = 0; i < batch->plan->n; i++) {
		const struct memwrite_piece *piece = &batch->plan->pieces[i];

		if (i > failed || !is_read_before(batch, piece))
			look(batch, piece, 0, old);
		old += piece->len;
	}
}

static void check(const struct memwrite_batch *batch, uint8_t *old, struct memwrite_result *result)
{
	uint8_t *at = old;

	if (!memwrite_plan_fits(batch->plan, batch->target)) {
		fail(result, VMSIG_ERR_STALE_EPOCH, 0);
		return;
	}
	for (size_t i = 0; i < batch->plan->n; i++) {
		const struct memwrite_piece *piece = &batch->plan->pieces[i];
		int r = check_piece(batch, piece, at);

		if (r) {
			fail(result, r, piece->op);
			look_at_all(batch, i, old);
			return;
		}
		at += piece->len;
	}
}

static void admit_all(const struct memwrite_batch *batch, struct memwrite_result *result)
{
	if (!memwrite_plan_fits(batch->plan, batch->target))
		fail(result, VMSIG_ERR_STALE_EPOCH, 0);
	for (size_t i = 0; !result->error && i < batch->plan->n; i++) {
		const struct lease_range range = range_of(&batch->plan->pieces[i]);
		int r = batch->admit(batch->ctx, &range);

		if (r)
			fail(result, r, batch->plan->pieces[i].op);
	}
}

void memwrite_check(const struct memwrite_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, memwrite_admit_fn admit, void *ctx, uint8_t *old,
	struct memwrite_result *ret_result)
{
	const struct memwrite_batch batch = {target, ops, plan, admit, ctx, .looks = true};

	*ret_result = (struct memwrite_result){0};
	if (old)
		check(&batch, old, ret_result);
	else
		admit_all(&batch, ret_result);
}

/* ---- bytes ---- */

static uint64_t number(const uint8_t *bytes, size_t len, uint64_t absent)
{
	uint64_t value = 0;

	if (!bytes)
		return absent;
	memcpy(&value, bytes, len);
	return value;
}

/* The bytes that were there come with the store, unless an earlier piece of the batch may have put
 * them there: pieces of one page under two addresses are not in ascending order. */
static bool comes_with_store(const struct memwrite_plan *plan)
{
	for (size_t i = 1; i < plan->n; i++)
		if (plan->pieces[i].off < plan->pieces[i - 1].off + plan->pieces[i - 1].len)
			return false;
	return true;
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
	if (old)
		memcpy(old, &before, len);
	if (!r)
		*written += len;
	return r;
}

static int store_plain(
	uint8_t *guest, const uint8_t *data, uint8_t *old, size_t len, uint64_t *written)
{
	uint8_t unwanted[256];
	int r = 0;

	for (size_t at = 0, n, done; !r && at < len; at += n) {
		n = old || len - at < sizeof(unwanted) ? len - at : sizeof(unwanted);
		/* cppcheck-suppress legacyUninitvar ; it is written to */
		r = fault_exchange(guest + at, data + at, old ? old + at : unwanted, n, &done);
		*written += done;
	}
	return r;
}

/* What lies outside the mask is the guest's: written back as it was a moment ago. Callers
 * who need more than that for wide masked writes ask for quiesce. */
static int store_masked(uint8_t *guest, const struct memwrite_op *op,
	const struct memwrite_piece *piece, uint8_t *old, uint64_t *written)
{
	const uint8_t *data = op->data + piece->into, *mask = op->mask + piece->into;
	uint8_t merged[256];

	for (size_t at = 0; at < piece->len; at += sizeof(merged)) {
		size_t n = piece->len - at < sizeof(merged) ? piece->len - at : sizeof(merged);
		int r = fault_read(merged, guest + at, n);

		for (size_t i = 0; !r && i < n; i++)
			merged[i] = (uint8_t)((data[at + i] & mask[at + i]) |
					      (merged[i] & ~mask[at + i]));
		if (!r)
			r = store_plain(guest + at, merged, old ? old + at : NULL, n, written);
		if (r)
			return r;
	}
	return 0;
}

/* The admission is asked for again with the clock of this moment: a batch takes its time. */
static int store_piece(const struct memwrite_batch *batch, const struct memwrite_piece *piece,
	uint8_t *old, uint64_t *written)
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
	return store_plain(guest, op->data + piece->into, old, (size_t)piece->len, written);
}

/* What was there where the batch has ended, and after that. A comparison that is one access with
 * its store has seen it. */
static void look_on(const struct memwrite_batch *batch, size_t failed, uint64_t written, int error,
	uint8_t *old)
{
	const struct memwrite_piece *pieces = batch->plan->pieces;

	if (error != VMSIG_ERR_COMPARE_FAILED ||
		!is_atomic(&batch->ops[pieces[failed].op], &pieces[failed]))
		look(batch, &pieces[failed], written, old);
	for (size_t i = failed + 1; i < batch->plan->n; i++) {
		old += pieces[i - 1].len;
		look(batch, &pieces[i], 0, old);
	}
}

static void store(const struct memwrite_batch *batch, uint8_t *old, struct memwrite_result *result)
{
	for (size_t i = 0; i < batch->plan->n; i++) {
		const struct memwrite_piece *piece = &batch->plan->pieces[i];
		uint64_t written = 0;
		int r = store_piece(batch, piece, batch->looks ? NULL : old, &written);

		result->written += written;
		if (r) {
			fail(result, r, piece->op);
			if (!batch->looks)
				look_on(batch, i, written, r, old);
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
	const struct memwrite_batch batch = {
		target, ops, plan, admit, ctx, !comes_with_store(plan)};

	assert(old);
	*ret_result = (struct memwrite_result){0};
	check(&batch, old, ret_result);
	if (ret_result->error)
		return;
	sequence_bump(target->page);
	store(&batch, old, ret_result);
	sequence_bump(target->page);
}
