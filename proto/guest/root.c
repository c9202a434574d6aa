/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/guest/root.h"

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
