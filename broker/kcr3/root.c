/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/kcr3/root.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

#define CHUNK (1u << 20) /* bytes read at once; the cancel flag is looked at in between */

int root_read(const struct kcr3_memory *memory, uint64_t root, struct root_table *ret_table)
{
	ret_table->root = root & PGWALK_ADDR_MASK;
	return memory->read(
		memory->ctx, ret_table->root, ret_table->entries, sizeof(ret_table->entries));
}

unsigned root_kernel_entries(const struct root_table *table)
{
	unsigned n = 0;

	for (unsigned i = ROOT_KERNEL_FIRST; i < PGWALK_ENTRIES; i++)
		n += table->entries[i] & ROOT_PRESENT;
	return n;
}

bool root_entry_same(uint64_t a, uint64_t b)
{
	const uint64_t accessed_dirty = 0x60;

	return (a | accessed_dirty) == (b | accessed_dirty);
}

bool root_is_live(const struct kcr3_memory *memory, const struct root_table *candidate,
	root_same_fn same, const uint64_t *vcpu_cr3, size_t nvcpu)
{
	struct root_table table;

	if (!nvcpu)
		return true;
	for (size_t i = 0; i < nvcpu; i++) {
		if (root_read(memory, vcpu_cr3[i], &table) == 0 && same(candidate, &table))
			return true;
		if (root_read(memory, vcpu_cr3[i] & ~0x1fffull, &table) == 0 &&
			same(candidate, &table))
			return true;
	}
	return false;
}

struct scan {
	const struct kcr3_memory *memory;
	const atomic_bool *cancel;
	root_page_fn page;
	void *ctx;
	unsigned char *chunk;
};

/* Whole pages of the guest's: a segment may begin and end within one. */
static int scan_extent(struct scan *scan, uint64_t gpa, uint64_t len)
{
	uint64_t skip = -gpa & (PGWALK_PAGE - 1);

	len = len > skip ? (len - skip) & ~(uint64_t)(PGWALK_PAGE - 1) : 0;
	gpa += skip;
	while (len) {
		size_t n = len < CHUNK ? (size_t)len : CHUNK;
		int r;

		if (scan->cancel && atomic_load(scan->cancel))
			return VMSIG_ERR_TIMEOUT;
		r = scan->memory->read(scan->memory->ctx, gpa, scan->chunk, n);
		for (size_t at = 0; !r && at < n; at += PGWALK_PAGE)
			r = scan->page(scan->ctx, gpa + at, scan->chunk + at);
		if (r)
			return r;
		gpa += n;
		len -= n;
	}
	return 0;
}

/* The next run of data at or after *off, below `end`; false when only a hole is left. A file
 * system that knows no holes has data everywhere. */
static bool next_data(int fd, uint64_t *off, uint64_t end, uint64_t *ret_end)
{
	off_t data, hole;

	*ret_end = end;
	if (fd < 0)
		return *off < end;
	data = lseek(fd, (off_t)*off, SEEK_DATA);
	if (data < 0)
		return errno != ENXIO && *off < end;
	hole = lseek(fd, data, SEEK_HOLE);
	*off = (uint64_t)data & ~(uint64_t)(PGWALK_PAGE - 1);
	if (hole >= 0 && (uint64_t)hole < end)
		*ret_end = ((uint64_t)hole + PGWALK_PAGE - 1) & ~(uint64_t)(PGWALK_PAGE - 1);
	if (*ret_end > end)
		*ret_end = end;
	return *off < end;
}

static int scan_segment(struct scan *scan, const vmsig_memseg *seg)
{
	uint64_t off = seg->file_off, end = seg->file_off + seg->len, stop;

	while (next_data(scan->memory->fd, &off, end, &stop)) {
		int r;

		if (off < seg->file_off)
			off = seg->file_off;
		r = scan_extent(scan, seg->gpa + (off - seg->file_off), stop - off);
		if (r)
			return r;
		off = stop;
	}
	return 0;
}

int root_scan(
	const struct kcr3_memory *memory, const atomic_bool *cancel, root_page_fn page, void *ctx)
{
	struct scan scan = {.memory = memory, .cancel = cancel, .page = page, .ctx = ctx};
	int r = 0;

	scan.chunk = malloc(CHUNK);
	if (!scan.chunk)
		return -ENOMEM;
	for (size_t i = 0; !r && i < memory->map->nseg; i++)
		r = scan_segment(&scan, &memory->map->segs[i]);
	free(scan.chunk);
	return r;
}

uint64_t root_digest(const void *data, size_t len)
{
	const unsigned char *bytes = data;
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ull;
	return hash;
}

static uint64_t table_digest(const struct root_table *table, unsigned first)
{
	const uint64_t accessed_dirty = 0x60;
	uint64_t entries[PGWALK_ENTRIES] = {0};
	unsigned n = 0;

	for (unsigned i = first; i < PGWALK_ENTRIES; i++)
		entries[n++] = table->entries[i] & ~accessed_dirty;
	return root_digest(entries, n * sizeof(entries[0]));
}

/* The first entry that leads to a table; its index, or PGWALK_ENTRIES. */
static unsigned first_table(const struct root_table *table, unsigned first)
{
	const uint64_t large = 0x80;

	for (unsigned i = first; i < PGWALK_ENTRIES; i++) {
		if ((table->entries[i] & ROOT_PRESENT) && !(table->entries[i] & large))
			return i;
	}
	return PGWALK_ENTRIES;
}

uint64_t root_placement(const struct kcr3_memory *memory, const struct root_table *table)
{
	uint64_t digest = table_digest(table, ROOT_KERNEL_FIRST);
	unsigned first = ROOT_KERNEL_FIRST;
	struct root_table next = *table;

	for (int depth = 0; depth < 2; depth++) {
		unsigned index = first_table(&next, first);

		if (index == PGWALK_ENTRIES || root_read(memory, next.entries[index], &next))
			break;
		first = 0;
		digest = digest * 31 + table_digest(&next, first) + index;
	}
	return digest ? digest : 1;
}
