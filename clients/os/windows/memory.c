/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/memory.h"

#include "clients/os/windows/process.h"
#include "clients/os/windows/reader.h"
#include "vmsig/vmsig_error.h"

#define ENTRIES 512u
#define KERNEL_ENTRIES 256u
#define ENTRY_SHIFT 39
#define PRESENT 1u
#define ALIASES 4u /* times that a page is mapped, on the average; caches map some anew */
#define SPENT INT32_MAX

/* Entries of the root that are looked at: Windows uses some 20 of its 256. Of each a hostile guest
 * can make 260,000 tables that lead nowhere. */
#define USED_MAX 48u

struct memory_walk {
	struct windows_kernel *kernel;
	windows_memory_fn visit;
	void *ctx;
	uint64_t pages; /* that may still be looked at */
};

static int look_at_range(void *ctx, const vmsig_range *range)
{
	struct memory_walk *walk = ctx;
	uint8_t page[WINDOWS_PAGE];
	int r = 0;

	if (!(range->prot & VMSIG_PROT_WRITE) || (range->prot & VMSIG_PROT_USER))
		return 0;
	for (uint64_t at = 0; at < range->len && !r; at += WINDOWS_PAGE) {
		if (!walk->pages--)
			return SPENT;
		if (vmsig_gva_read(walk->kernel->mem, walk->kernel->root, range->gva + at, page,
			    sizeof(page)) == 0)
			r = walk->visit(walk->ctx, range->gva + at, page);
	}
	return r;
}

int windows_memory_visit(
	struct windows_kernel *kernel, windows_memory_fn visit, void *ctx, bool *ret_spent)
{
	struct memory_walk walk = {.kernel = kernel,
		.visit = visit,
		.ctx = ctx,
		.pages = vmsig_phys_end(kernel->mem) / WINDOWS_PAGE * ALIASES};
	uint64_t root = kernel->root & WINDOWS_ROOT_MASK, entries[ENTRIES];
	int r = -vmsig_phys_read(kernel->mem, root, entries, sizeof(entries));
	unsigned used = 0;

	for (unsigned i = KERNEL_ENTRIES; i < ENTRIES && !r; i++) {
		uint64_t first = (uint64_t)i << ENTRY_SHIFT | 0xffffull << 48;

		/* Where the tables map themselves they are all there is. */
		if (!(entries[i] & PRESENT) || (entries[i] & WINDOWS_ROOT_MASK) == root)
			continue;
		if (used++ == USED_MAX)
			r = SPENT;
		else
			r = vmsig_pmap(kernel->mem, kernel->root, first,
				first + (1ull << ENTRY_SHIFT) - 1, look_at_range, &walk);
	}
	*ret_spent = r == SPENT || r == -VMSIG_ERR_BAD_PAGE_TABLE;
	return *ret_spent ? 0 : r < 0 ? -r : r;
}
