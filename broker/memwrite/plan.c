/* SPDX-License-Identifier: Apache-2.0 */
/* Operations resolved to places in the RAM file, once: what is admitted, recorded and stored is
 * this plan. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/memwrite/target.h"
#include "proto/guest/pgwalk.h"

/* ---- translation ---- */

#define TABLES 8u /* pages kept: the ones on the way down, of two neighbouring branches */

/* The page tables that one resolution has seen: 64 MiB in small pages are 16,384 walks over
 * some forty tables. */
struct tables {
	const struct memwrite_target *target;
	unsigned n, next;
	uint64_t gpas[TABLES];
	uint8_t pages[TABLES][PGWALK_PAGE];
};

static int read_ram(const struct memwrite_target *target, uint64_t gpa, void *buf, size_t len)
{
	uint64_t off, room;

	if (!physmap_find(&target->map, gpa, &off, &room) || room < len)
		return VMSIG_ERR_OUT_OF_RANGE;
	return target_read(target, off, buf, len);
}

static const uint8_t *tables_find(const struct tables *tables, uint64_t gpa)
{
	for (unsigned i = 0; i < tables->n; i++) {
		if (tables->gpas[i] == gpa)
			return tables->pages[i];
	}
	return NULL;
}

static const uint8_t *tables_load(struct tables *tables, uint64_t gpa)
{
	unsigned slot = tables->next;

	if (read_ram(tables->target, gpa, tables->pages[slot], PGWALK_PAGE))
		return NULL;
	tables->gpas[slot] = gpa;
	tables->next = (slot + 1) % TABLES;
	if (tables->n < TABLES)
		tables->n++;
	return tables->pages[slot];
}

/* pgwalk_read_fn */
static int read_entry(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	struct tables *tables = ctx;
	uint64_t page = gpa & ~(uint64_t)(PGWALK_PAGE - 1);
	const uint8_t *table = tables_find(tables, page);

	if (!table)
		table = tables_load(tables, page);
	/* RAM may end within the page. */
	if (!table)
		return read_ram(tables->target, gpa, buf, len);
	memcpy(buf, table + (gpa - page), len);
	return 0;
}

static int translate(struct tables *tables, const struct memwrite_op *op, uint64_t addr,
	uint64_t *gpa, uint64_t *len)
{
	const struct memwrite_target *target = tables->target;
	const struct pgwalk walk = {.read = read_entry,
		.ctx = tables,
		.root = op->cr3 ? op->cr3 : target->kcr3,
		.levels = target->levels};
	struct pgwalk_leaf leaf;
	int r = pgwalk_translate(&walk, addr, &leaf);

	if (r)
		return r;
	*gpa = leaf.gpa + (addr - leaf.gva);
	if (leaf.size - (addr - leaf.gva) < *len)
		*len = leaf.size - (addr - leaf.gva);
	return 0;
}

/* What lies behind the operation's byte `into` and those after it. */
static int piece_at(struct tables *tables, const struct memwrite_op *op, uint64_t into,
	struct memwrite_piece *piece)
{
	uint64_t addr = op->addr + into, room;
	int r;

	if (addr < op->addr)
		return VMSIG_ERR_OUT_OF_RANGE;
	*piece = (struct memwrite_piece){.gpa = addr, .len = op->len - into, .into = into};
	if (op->is_virtual) {
		r = translate(tables, op, addr, &piece->gpa, &piece->len);
		if (r)
			return r;
	}
	if (!physmap_find(&tables->target->map, piece->gpa, &piece->off, &room))
		return VMSIG_ERR_OUT_OF_RANGE;
	if (room < piece->len)
		piece->len = room;
	return 0;
}

/* ---- the list ---- */

static bool continues(const struct memwrite_piece *last, const struct memwrite_piece *piece)
{
	return last->op == piece->op && last->gpa + last->len == piece->gpa &&
	       last->off + last->len == piece->off;
}

static int plan_grow(struct memwrite_plan *plan)
{
	size_t size = plan->size ? plan->size * 2 : 4;
	struct memwrite_piece *grown;

	if (plan->n < plan->size)
		return 0;
	grown = realloc(plan->pieces, size * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	plan->pieces = grown;
	plan->size = size;
	return 0;
}

static int plan_add(struct memwrite_plan *plan, const struct memwrite_piece *piece)
{
	int r;

	if (plan->n && continues(&plan->pieces[plan->n - 1], piece)) {
		plan->pieces[plan->n - 1].len += piece->len;
		plan->bytes += piece->len;
		return 0;
	}
	if (plan->n >= MEMWRITE_PIECES_MAX)
		return VMSIG_ERR_QUOTA;
	r = plan_grow(plan);
	if (r)
		return r;
	plan->pieces[plan->n++] = *piece;
	plan->bytes += piece->len;
	return 0;
}

static int plan_op(struct memwrite_plan *plan, struct tables *tables, const struct memwrite_op *op,
	uint32_t index, uint64_t from, uint64_t to)
{
	for (uint64_t into = from; into < to;) {
		struct memwrite_piece piece;
		int r = piece_at(tables, op, into, &piece);

		if (r)
			return r;
		piece.op = index;
		if (piece.len > to - into)
			piece.len = to - into;
		r = plan_add(plan, &piece);
		if (r)
			return r;
		into += piece.len;
	}
	return 0;
}

static bool bounds_ok(const struct memwrite_op *ops, size_t nops)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < nops; i++) {
		if (!ops[i].len || ops[i].len > MEMWRITE_BYTES_MAX)
			return false;
		sum += ops[i].len;
	}
	return nops && nops <= MEMWRITE_OPS_MAX && sum <= MEMWRITE_BYTES_MAX;
}

static void plan_begin(struct memwrite_plan *plan, const struct memwrite_target *target)
{
	plan->n = 0;
	plan->bytes = 0;
	plan->serial = target->serial;
}

int memwrite_resolve(const struct memwrite_target *target, const struct memwrite_op *ops,
	size_t nops, struct memwrite_plan *plan, uint32_t *ret_failed_op)
{
	struct tables tables;
	uint32_t i = 0;
	int r = bounds_ok(ops, nops) ? 0 : VMSIG_ERR_BAD_REQUEST;

	tables.target = target;
	tables.n = tables.next = 0;
	plan_begin(plan, target);
	while (!r && i < nops) {
		r = plan_op(plan, &tables, &ops[i], i, 0, ops[i].len);
		if (r)
			break;
		i++;
	}
	*ret_failed_op = i;
	return r;
}

int memwrite_resolve_part(const struct memwrite_target *target, const struct memwrite_op *op,
	uint64_t len, struct memwrite_plan *plan)
{
	struct tables tables;
	uint64_t left = op->len - plan->bytes;

	tables.target = target;
	tables.n = tables.next = 0;
	if (!plan->bytes)
		plan_begin(plan, target);
	if (plan->serial != target->serial)
		return VMSIG_ERR_STALE_EPOCH;
	if (len > left)
		len = left;
	return plan_op(plan, &tables, op, 0, plan->bytes, plan->bytes + len);
}

void memwrite_plan_deinit(struct memwrite_plan *plan)
{
	free(plan->pieces);
	*plan = (struct memwrite_plan){0};
}

bool memwrite_plan_is_same(const struct memwrite_plan *a, const struct memwrite_plan *b)
{
	for (size_t i = 0; a->n == b->n && i < a->n; i++) {
		if (a->pieces[i].gpa != b->pieces[i].gpa || a->pieces[i].len != b->pieces[i].len)
			return false;
	}
	return a->n == b->n;
}

int memwrite_plan_holds(const struct memwrite_target *target, const struct memwrite_op *ops,
	size_t nops, const struct memwrite_plan *plan)
{
	struct memwrite_plan now = {0};
	uint32_t failed_op;
	int r = memwrite_resolve(target, ops, nops, &now, &failed_op);

	/* What is not mapped any more has been moved too. */
	if (r >= 0)
		r = r || !memwrite_plan_is_same(plan, &now) ? VMSIG_ERR_BUSY : 0;
	memwrite_plan_deinit(&now);
	return r;
}

bool memwrite_plan_fits(const struct memwrite_plan *plan, const struct memwrite_target *target)
{
	return plan->serial == target->serial;
}

/* ---- parts of it ---- */

/* The piece that has the only operation's byte `into`. */
static size_t plan_find(const struct memwrite_plan *plan, uint64_t into)
{
	size_t low = 0, high = plan->n;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (plan->pieces[middle].into <= into)
			low = middle;
		else
			high = middle;
	}
	return low;
}

void memwrite_plan_cut(const struct memwrite_plan *plan, uint64_t from, uint64_t len,
	struct memwrite_slice *ret_slice)
{
	struct memwrite_plan *cut = &ret_slice->plan;

	*cut = (struct memwrite_plan){.pieces = ret_slice->pieces, .serial = plan->serial};
	for (size_t i = plan_find(plan, from); i < plan->n && cut->bytes < len; i++) {
		struct memwrite_piece piece = plan->pieces[i];
		uint64_t skip = from + cut->bytes - piece.into;

		if (cut->n == MEMWRITE_SLICE_PIECES)
			break;
		piece.gpa += skip;
		piece.off += skip;
		piece.len -= skip;
		if (piece.len > len - cut->bytes)
			piece.len = len - cut->bytes;
		piece.into = cut->bytes;
		cut->bytes += piece.len;
		cut->pieces[cut->n++] = piece;
	}
}

/* ---- what it touches ---- */

static int by_start(const void *a, const void *b)
{
	const struct lease_range *first = a, *second = b;

	return (first->start > second->start) - (first->start < second->start);
}

static size_t ranges_list(const struct memwrite_plan *plan, uint64_t bytes,
	struct lease_range *ranges, bool *ret_sorted)
{
	size_t n = 0;

	*ret_sorted = true;
	for (size_t i = 0; i < plan->n && bytes; i++) {
		const struct memwrite_piece *piece = &plan->pieces[i];
		uint64_t len = piece->len < bytes ? piece->len : bytes;

		ranges[n] = (struct lease_range){piece->gpa, piece->gpa + (len - 1)};
		if (n && ranges[n].start < ranges[n - 1].start)
			*ret_sorted = false;
		n++;
		bytes -= len;
	}
	return n;
}

size_t memwrite_plan_ranges(
	const struct memwrite_plan *plan, uint64_t bytes, struct lease_range *ranges)
{
	bool sorted;
	size_t n = ranges_list(plan, bytes, ranges, &sorted), kept = 0;

	if (!sorted)
		qsort(ranges, n, sizeof(*ranges), by_start);
	for (size_t i = 1; i < n; i++) {
		if (ranges[i].start > ranges[kept].last + 1)
			ranges[++kept] = ranges[i];
		else if (ranges[i].last > ranges[kept].last)
			ranges[kept].last = ranges[i].last;
	}
	return n ? kept + 1 : 0;
}
