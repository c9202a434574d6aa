/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/memwrite/memwrite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "broker/memwrite/fault.h"
#include "proto/pgwalk.h"

struct memwrite_target {
	uint8_t *base;
	size_t len;
	struct physmap map;
	uint64_t kcr3;
	unsigned levels;
	vmsig_coherence *page;
};

int memwrite_target_new(struct memwrite_target **ret_target, int fd, const vmsig_memseg *segs,
	size_t nseg, uint64_t low, uint64_t kcr3, unsigned levels, vmsig_coherence *page)
{
	struct memwrite_target *target = calloc(1, sizeof(*target));
	struct stat st;
	int r;

	if (!target)
		return -ENOMEM;
	target->base = MAP_FAILED;
	r = fstat(fd, &st) < 0 ? -errno : 0;
	if (!r)
		r = nseg ? physmap_init(&target->map, segs, nseg, (uint64_t)st.st_size)
			 : physmap_init_low(&target->map, low, (uint64_t)st.st_size);
	if (r)
		goto fail;
	target->len = (size_t)st.st_size;
	target->base = mmap(NULL, target->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (target->base == MAP_FAILED) {
		r = -errno;
		goto fail;
	}
	/* Neither a core dump nor a forked child is any business of guest memory. */
	(void)madvise(target->base, target->len, MADV_DONTDUMP);
	(void)madvise(target->base, target->len, MADV_DONTFORK);
	target->kcr3 = kcr3;
	target->levels = levels;
	target->page = page;
	*ret_target = target;
	return 0;
fail:
	memwrite_target_free(target);
	return r;
}

struct memwrite_target *memwrite_target_free(struct memwrite_target *target)
{
	if (!target)
		return NULL;
	if (target->base != MAP_FAILED)
		munmap(target->base, target->len);
	physmap_deinit(&target->map);
	free(target);
	return NULL;
}

/* ---- addresses ---- */

static int read_gpa(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	const struct memwrite_target *target = ctx;
	uint64_t off, room;
	size_t done;

	/* Page tables do not cross segments: a table is one page. */
	if (!physmap_find(&target->map, gpa, &off, &room) || room < len)
		return VMSIG_ERR_OUT_OF_RANGE;
	return fault_read(buf, target->base + off, len, &done);
}

/* A run of bytes of one operation that is contiguous in the RAM file. */
struct piece {
	uint64_t gpa;
	uint8_t *host;
	size_t len;
};

static int piece_at(struct memwrite_target *target, const struct memwrite_op *op, size_t into,
	struct piece *piece)
{
	uint64_t addr = op->addr + into, off, room;
	size_t len = op->len - into;

	if (addr < op->addr)
		return VMSIG_ERR_OUT_OF_RANGE;
	piece->gpa = addr;
	if (op->is_virtual) {
		const struct pgwalk walk = {.read = read_gpa,
			.ctx = target,
			.root = op->cr3 ? op->cr3 : target->kcr3,
			.levels = target->levels};
		struct pgwalk_leaf leaf;
		int r = pgwalk_translate(&walk, addr, &leaf);

		if (r)
			return r;
		piece->gpa = leaf.gpa + (addr - leaf.gva);
		if (leaf.size - (addr - leaf.gva) < len)
			len = (size_t)(leaf.size - (addr - leaf.gva));
	}
	if (!physmap_find(&target->map, piece->gpa, &off, &room))
		return VMSIG_ERR_OUT_OF_RANGE;
	piece->host = target->base + off;
	piece->len = room < len ? (size_t)room : len;
	return 0;
}

/* Calls `visit` for each piece of an operation; a non-zero return stops. */
typedef int (*piece_fn)(
	void *ctx, const struct memwrite_op *op, size_t into, const struct piece *piece);

static int each_piece(
	struct memwrite_target *target, const struct memwrite_op *op, piece_fn visit, void *ctx)
{
	for (size_t into = 0; into < op->len;) {
		struct piece piece;
		int r = piece_at(target, op, into, &piece);

		if (!r)
			r = visit(ctx, op, into, &piece);
		if (r)
			return r;
		into += piece.len;
	}
	return 0;
}

/* ---- before the first byte ---- */

struct check {
	memwrite_admit_fn admit;
	void *ctx;
	uint8_t *old; /* of this operation */
	struct memwrite_result *result;
};

static uint8_t mask_at(const struct memwrite_op *op, size_t i)
{
	return op->mask ? op->mask[i] : 0xff;
}

static int check_piece(
	void *ctx, const struct memwrite_op *op, size_t into, const struct piece *piece)
{
	struct check *check = ctx;
	struct lease_range range = {.start = piece->gpa, .last = piece->gpa + piece->len - 1};
	size_t done;
	int r = check->admit ? check->admit(check->ctx, &range) : 0;

	if (!r)
		r = fault_read(check->old + into, piece->host, piece->len, &done);
	if (r)
		return r;
	for (size_t i = into; op->expect && i < into + piece->len; i++) {
		if ((check->old[i] ^ op->expect[i]) & mask_at(op, i))
			return VMSIG_ERR_COMPARE_FAILED;
	}
	if (range.start < check->result->range.start)
		check->result->range.start = range.start;
	if (range.last > check->result->range.last)
		check->result->range.last = range.last;
	return 0;
}

static bool bounds_ok(const struct memwrite_op *ops, size_t nops)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < nops; i++) {
		if (!ops[i].len)
			return false;
		sum += ops[i].len;
	}
	return nops && nops <= MEMWRITE_OPS_MAX && sum <= MEMWRITE_BYTES_MAX;
}

/* ---- bytes ---- */

struct write {
	uint8_t *old;
	uint64_t written;
};

static bool is_atomic(const struct memwrite_op *op, const struct piece *piece)
{
	size_t len = op->len;

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

static int store_atomic(const struct memwrite_op *op, const struct piece *piece, uint8_t *old)
{
	struct fault_store store = {.size = op->len,
		.value = number(op->data, op->len, 0),
		.mask = number(op->mask, op->len, UINT64_MAX),
		.has_expect = op->expect != NULL,
		.expect = number(op->expect, op->len, 0)};
	uint64_t before = 0;
	int r;

	store.expect_mask = store.mask;
	r = fault_store(piece->host, &store, &before);
	memcpy(old, &before, op->len);
	return r;
}

/* What lies outside the mask is the guest's: written back as it was a moment ago. Callers
 * who need more than that for wide masked writes ask for quiesce. */
static int store_bytes(
	const struct memwrite_op *op, size_t into, const struct piece *piece, struct write *write)
{
	uint8_t merged[256];
	size_t done;
	int r;

	if (!op->mask) {
		r = fault_write(piece->host, op->data + into, piece->len, &done);
		write->written += done;
		return r;
	}
	for (size_t at = 0; at < piece->len; at += sizeof(merged)) {
		size_t n = piece->len - at < sizeof(merged) ? piece->len - at : sizeof(merged);

		for (size_t i = 0; i < n; i++) {
			uint8_t mask = op->mask[into + at + i];

			merged[i] = (uint8_t)((op->data[into + at + i] & mask) |
					      (write->old[into + at + i] & ~mask));
		}
		r = fault_write(piece->host + at, merged, n, &done);
		write->written += done;
		if (r)
			return r;
	}
	return 0;
}

static int write_piece(
	void *ctx, const struct memwrite_op *op, size_t into, const struct piece *piece)
{
	struct write *write = ctx;
	int r;

	if (!is_atomic(op, piece))
		return store_bytes(op, into, piece, write);
	r = store_atomic(op, piece, write->old);
	if (!r)
		write->written += op->len;
	return r;
}

static void sequence_bump(vmsig_coherence *page)
{
	__atomic_add_fetch(&page->sequence, 1, __ATOMIC_SEQ_CST);
}

static void fail(struct memwrite_result *result, int error, size_t op)
{
	result->error = error > 0 ? (enum vmsig_error)error : VMSIG_ERR_INTERNAL;
	result->failed_op = (uint32_t)op;
}

void memwrite_check(struct memwrite_target *target, const struct memwrite_op *ops, size_t nops,
	memwrite_admit_fn admit, void *ctx, uint8_t *old, struct memwrite_result *ret_result)
{
	struct memwrite_result result = {.range = {.start = UINT64_MAX}};
	int r = bounds_ok(ops, nops) ? 0 : VMSIG_ERR_BAD_REQUEST;
	size_t i;

	for (i = 0; !r && i < nops; old += ops[i].len, i++) {
		struct check check = {.admit = admit, .ctx = ctx, .old = old, .result = &result};

		r = each_piece(target, &ops[i], check_piece, &check);
		if (r)
			break;
	}
	if (r)
		fail(&result, r, i);
	*ret_result = result;
}

void memwrite_apply(struct memwrite_target *target, const struct memwrite_op *ops, size_t nops,
	memwrite_admit_fn admit, void *ctx, uint8_t *old, struct memwrite_result *ret_result)
{
	struct memwrite_result result;
	struct write write = {.old = old};
	int r = 0;
	size_t i;

	memwrite_check(target, ops, nops, admit, ctx, old, &result);
	if (result.error) {
		*ret_result = result;
		return;
	}
	sequence_bump(target->page);
	for (i = 0; i < nops; write.old += ops[i].len, i++) {
		r = each_piece(target, &ops[i], write_piece, &write);
		if (r)
			break;
	}
	sequence_bump(target->page);
	result.written = write.written;
	if (r)
		fail(&result, write.written ? VMSIG_ERR_PARTIAL : r, i);
	*ret_result = result;
}

int memwrite_peek(
	struct memwrite_target *target, const struct memwrite_op *ops, size_t nops, uint8_t *buf)
{
	struct memwrite_result ignored = {0};

	if (!bounds_ok(ops, nops))
		return VMSIG_ERR_BAD_REQUEST;
	for (size_t i = 0; i < nops; buf += ops[i].len, i++) {
		struct memwrite_op op = ops[i];
		struct check check = {.old = buf, .result = &ignored};
		int r;

		op.expect = NULL;
		r = each_piece(target, &op, check_piece, &check);
		if (r)
			return r;
	}
	return 0;
}
