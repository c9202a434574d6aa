/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/infer_cache.h"

#include "clients/os/linux/infer_probe.h"
#include "clients/os/linux/radix.h"

#define PAGE_BYTES 64u /* struct page, of kernels that have nothing beside it */
#define PAGE_MAPPING 24u
#define PAGE_INDEX 32u

void infer_nodes(struct infer *infer)
{
	infer_set(infer, LINUX_NODE_SHIFT, 0, 1);
	infer_set(infer, LINUX_NODE_SLOTS, 40, 512);
}

struct page_visit {
	struct infer *infer;
	uint64_t mapping, base;
	size_t seen;
	bool wrong;
};

/* Its description says of which file it is, and which page of it. One of several pages says it of
 * the first. */
static bool take_page(void *ctx, uint64_t index, uint64_t entry)
{
	struct page_visit *visit = ctx;
	uint64_t words[2];

	visit->wrong = entry < visit->base || (entry - visit->base) % PAGE_BYTES ||
		       !infer_read(visit->infer, entry + PAGE_MAPPING, words, sizeof(words)) ||
		       words[0] != visit->mapping || words[1] > index;
	visit->seen++;
	return !visit->wrong && visit->seen < 64;
}

static bool is_tree_of_pages(struct infer *infer, uint32_t at)
{
	uint32_t offset = infer_offset(infer, LINUX_INODE_MAPPING);
	size_t seen = 0;

	for (size_t i = 0; i < infer->file_count; i++) {
		struct page_visit visit = {.infer = infer,
			.mapping = infer_word(infer, infer->files[i].inode + offset),
			.base = infer_word(infer, infer_symbol(infer, "vmemmap_base"))};

		if (!infer->files[i].mapped)
			continue;
		linux_begin(infer->kernel);
		linux_radix_visit(
			infer->kernel, infer_word(infer, visit.mapping + at), take_page, &visit);
		if (visit.wrong || !visit.base)
			return false;
		seen += visit.seen;
	}
	return seen > 0;
}

void infer_pages(struct infer *infer)
{
	uint32_t at;

	if (!infer_knows(infer, LINUX_INODE_MAPPING) ||
		!infer_find(infer, 8, 0x80, 8, is_tree_of_pages, &at))
		return;
	infer_set(infer, LINUX_MAPPING_PAGES, at, 8);
	infer_set(infer, LINUX_FOLIO_INDEX, PAGE_INDEX, 8);
	infer->kernel->fields.size[LINUX_STRUCT_PAGE] = PAGE_BYTES;
}
