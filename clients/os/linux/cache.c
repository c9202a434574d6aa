/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/cache.h"

#include "clients/os/linux/radix.h"
#include "vmsig/vmsig_error.h"

#define FOLIO_PAGES_MAX (1u << 18) /* of 1 GiB */

struct cache_visit {
	vmsig_page_fn visit;
	void *ctx;
	int error;
};

static void need(struct linux_kernel *kernel)
{
	static const enum linux_field needed[] = {LINUX_MAPPING_PAGES, LINUX_NODE_SHIFT,
		LINUX_NODE_SLOTS, LINUX_FOLIO_INDEX, LINUX_INODE_SIZE, LINUX_INODE_MODE};

	linux_need(kernel, needed, sizeof(needed) / sizeof(needed[0]));
}

void linux_cache_file(
	struct linux_kernel *kernel, uint64_t inode, uint64_t mapping, vmsig_file *ret_file)
{
	need(kernel);
	*ret_file = (vmsig_file){.object = inode,
		.mapping = mapping,
		.size = linux_get(kernel, inode, LINUX_INODE_SIZE),
		.mode = (uint32_t)linux_get(kernel, inode, LINUX_INODE_MODE)};
}

/* Where a page is: its description is in an array that has one for each page of memory, and one of
 * several pages is described by the first. */
static uint64_t address_of(struct linux_kernel *kernel, uint64_t folio, uint64_t index)
{
	uint64_t base = linux_word(kernel, linux_symbols_addr(&kernel->symbols, "vmemmap_base"));
	uint64_t first = linux_get(kernel, folio, LINUX_FOLIO_INDEX);
	uint32_t size = kernel->fields.size[LINUX_STRUCT_PAGE];

	if (!size || folio < base || (folio - base) % size || index < first ||
		index - first >= FOLIO_PAGES_MAX) {
		linux_torn(kernel);
		return 0;
	}
	return kernel->fault ? 0 : ((folio - base) / size + index - first) * LINUX_PAGE;
}

static int read_page(struct linux_kernel *kernel, const vmsig_file *file, uint64_t index,
	uint8_t ret_bytes[static LINUX_PAGE])
{
	uint64_t folio = linux_radix_get(
		kernel, linux_get(kernel, file->mapping, LINUX_MAPPING_PAGES), index);
	uint64_t address = folio ? address_of(kernel, folio, index) : 0;
	int r;

	if (kernel->fault || !folio)
		return kernel->fault ? kernel->fault : VMSIG_ERR_NOT_MAPPED;
	r = -vmsig_phys_read(kernel->mem, address, ret_bytes, LINUX_PAGE);
	/* It may have become another file's meanwhile. */
	if (!r && linux_radix_get(kernel, linux_get(kernel, file->mapping, LINUX_MAPPING_PAGES),
			  index) != folio)
		linux_torn(kernel);
	return r ? r : kernel->fault;
}

int linux_cache_page(struct linux_kernel *kernel, const vmsig_file *file, uint64_t index,
	uint8_t ret_bytes[static LINUX_PAGE])
{
	int r = VMSIG_ERR_TORN;

	linux_begin(kernel);
	if (!linux_symbol(kernel, "vmemmap_base"))
		return kernel->fault;
	for (unsigned i = 0; i < LINUX_ATTEMPTS && r == VMSIG_ERR_TORN; i++) {
		linux_begin(kernel);
		need(kernel);
		r = read_page(kernel, file, index, ret_bytes);
	}
	return r;
}

static bool visit_page(void *ctx, uint64_t index, uint64_t entry)
{
	struct cache_visit *visit = ctx;

	visit->error = visit->visit(visit->ctx, index);
	return !visit->error;
}

int linux_cache_visit(
	struct linux_kernel *kernel, const vmsig_file *file, vmsig_page_fn visit, void *ctx)
{
	struct cache_visit pages = {.visit = visit, .ctx = ctx};

	linux_begin(kernel);
	vmsig_mem_flush(kernel->mem);
	need(kernel);
	linux_radix_visit(
		kernel, linux_get(kernel, file->mapping, LINUX_MAPPING_PAGES), visit_page, &pages);
	return pages.error ? pages.error : -kernel->fault;
}
