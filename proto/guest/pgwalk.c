/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/guest/pgwalk.h"

#include "vmsig/vmsig_error.h"

/* Bits of an entry, Intel SDM vol. 3A, tables 4-15 to 4-20. */
#define ENTRY_PRESENT (1ull << 0)
#define ENTRY_WRITE (1ull << 1)
#define ENTRY_USER (1ull << 2)
#define ENTRY_LARGE (1ull << 7) /* levels 2 and 3; reserved above, PAT in level 1 */
#define ENTRY_GLOBAL (1ull << 8)
#define ENTRY_NX (1ull << 63)

#define INDEX_BITS 9u
#define PAGE_SHIFT 12u

static unsigned level_shift(unsigned level)
{
	return PAGE_SHIFT + INDEX_BITS * (level - 1);
}

static unsigned entry_index(unsigned level, uint64_t gva)
{
	return (unsigned)(gva >> level_shift(level)) & (PGWALK_ENTRIES - 1);
}

bool pgwalk_canonical(unsigned levels, uint64_t gva)
{
	unsigned spare = 64 - (PAGE_SHIFT + INDEX_BITS * levels);

	return (uint64_t)((int64_t)(gva << spare) >> spare) == gva;
}

static bool entry_is_leaf(unsigned level, uint64_t entry)
{
	return level == 1 || ((level == 2 || level == 3) && (entry & ENTRY_LARGE));
}

/* Whether reserved bits are set that would fault on real hardware. */
static bool entry_is_malformed(unsigned level, uint64_t entry)
{
	uint64_t size = 1ull << level_shift(level);

	if (level > 3 && (entry & ENTRY_LARGE))
		return true;
	/* Below a large page's base are the PAT bit (12) and reserved ones. */
	return level > 1 && entry_is_leaf(level, entry) &&
	       (entry & PGWALK_ADDR_MASK & (size - 1) & ~(1ull << PAGE_SHIFT));
}

/* Rights that `entry` leaves of `perm`. */
static uint32_t entry_narrow(uint32_t perm, uint64_t entry)
{
	if (!(entry & ENTRY_WRITE))
		perm &= ~PGWALK_WRITE;
	if (!(entry & ENTRY_USER))
		perm &= ~PGWALK_USER;
	if (entry & ENTRY_NX)
		perm &= ~PGWALK_EXEC;
	return perm;
}

static void leaf_fill(
	struct pgwalk_leaf *leaf, unsigned level, uint64_t gva, uint64_t entry, uint32_t perm)
{
	uint64_t size = 1ull << level_shift(level);

	leaf->gva = gva & ~(size - 1);
	leaf->gpa = entry & PGWALK_ADDR_MASK & ~(size - 1);
	leaf->size = size;
	leaf->perm = perm | (entry & ENTRY_GLOBAL ? PGWALK_GLOBAL : 0);
}

static bool levels_valid(unsigned levels)
{
	return levels == 4 || levels == 5;
}

int pgwalk_translate(const struct pgwalk *walk, uint64_t gva, struct pgwalk_leaf *ret_leaf)
{
	uint32_t perm = PGWALK_WRITE | PGWALK_USER | PGWALK_EXEC;
	uint64_t table = walk->root & PGWALK_ADDR_MASK;

	if (!levels_valid(walk->levels))
		return VMSIG_ERR_BAD_REQUEST;
	if (!pgwalk_canonical(walk->levels, gva))
		return VMSIG_ERR_NOT_MAPPED;
	for (unsigned level = walk->levels; level; level--) {
		uint64_t entry;
		int r = walk->read(walk->ctx, table + entry_index(level, gva) * sizeof(entry),
			&entry, sizeof(entry));

		if (r)
			return r == VMSIG_ERR_OUT_OF_RANGE ? VMSIG_ERR_BAD_PAGE_TABLE : r;
		if (!(entry & ENTRY_PRESENT))
			return VMSIG_ERR_NOT_MAPPED;
		if (entry_is_malformed(level, entry))
			return VMSIG_ERR_BAD_PAGE_TABLE;
		perm = entry_narrow(perm, entry);
		if (entry_is_leaf(level, entry)) {
			leaf_fill(ret_leaf, level, gva, entry, perm);
			return 0;
		}
		table = entry & PGWALK_ADDR_MASK;
	}
	return VMSIG_ERR_BAD_PAGE_TABLE;
}

struct pgwalk_visit {
	const struct pgwalk *walk;
	uint64_t start, end;
	uint64_t tables_left;
	pgwalk_visit_fn fn;
	void *ctx;
};

/* Sign-extends an address that was put together from indices. */
static uint64_t canonical(unsigned levels, uint64_t gva)
{
	unsigned spare = 64 - (PAGE_SHIFT + INDEX_BITS * levels);

	return (uint64_t)((int64_t)(gva << spare) >> spare);
}

/* Depth is bounded by the number of levels, breadth by visit->tables_left. */
static int visit_table(
	struct pgwalk_visit *visit, unsigned level, uint64_t table, uint64_t base, uint32_t perm)
{
	uint64_t entries[PGWALK_ENTRIES], span = 1ull << level_shift(level);
	int r;

	if (!visit->tables_left--)
		return VMSIG_ERR_BAD_PAGE_TABLE;
	r = visit->walk->read(visit->walk->ctx, table, entries, sizeof(entries));
	if (r)
		return r == VMSIG_ERR_OUT_OF_RANGE ? 0 : r;
	for (unsigned i = 0; i < PGWALK_ENTRIES; i++) {
		uint64_t gva = canonical(visit->walk->levels, base + i * span);
		uint32_t narrowed = entry_narrow(perm, entries[i]);

		if (!(entries[i] & ENTRY_PRESENT) || entry_is_malformed(level, entries[i]) ||
			gva + (span - 1) < visit->start || gva > visit->end)
			continue;
		if (entry_is_leaf(level, entries[i])) {
			struct pgwalk_leaf leaf;

			leaf_fill(&leaf, level, gva, entries[i], narrowed);
			r = visit->fn(visit->ctx, &leaf);
		} else {
			r = visit_table(
				visit, level - 1, entries[i] & PGWALK_ADDR_MASK, gva, narrowed);
		}
		if (r)
			return r;
	}
	return 0;
}

int pgwalk_visit(const struct pgwalk *walk, uint64_t start, uint64_t end, uint64_t max_tables,
	pgwalk_visit_fn fn, void *ctx)
{
	struct pgwalk_visit visit = {.walk = walk,
		.start = start,
		.end = end,
		.tables_left = max_tables,
		.fn = fn,
		.ctx = ctx};

	if (!levels_valid(walk->levels) || start > end)
		return VMSIG_ERR_BAD_REQUEST;
	return visit_table(&visit, walk->levels, walk->root & PGWALK_ADDR_MASK, 0,
		PGWALK_WRITE | PGWALK_USER | PGWALK_EXEC);
}
