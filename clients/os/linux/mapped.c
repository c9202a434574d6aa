/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/mapped.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/fault.h"
#include "clients/os/linux/cache.h"
#include "clients/os/linux/space.h"
#include "clients/os/maps.h"
#include "vmsig/vmsig_error.h"

#define KEPT 64u                 /* pages; tables of symbols and their names lie side by side */
#define OF_FILE (1ull << 63)     /* a place in the file, and no address */
#define ADDRESS_MAX (1ull << 56) /* of user space, with five levels */

struct mapped_page {
	uint64_t place; /* address, or OF_FILE and the offset */
	bool there;
	uint8_t bytes[LINUX_PAGE];
};

int linux_mapped_init(
	struct linux_mapped *mapped, struct linux_kernel *kernel, const vmsig_proc *process)
{
	int r;

	*mapped = (struct linux_mapped){
		.kernel = kernel, .root = process->root, .left = LINUX_MAPPED_PAGES};
	mapped->pages = calloc(KEPT, sizeof(*mapped->pages));
	r = mapped->pages ? linux_space_list(kernel, process, &mapped->maps) : VMSIG_ERR_NO_MEMORY;
	if (r)
		linux_mapped_deinit(mapped);
	return r;
}

void linux_mapped_deinit(struct linux_mapped *mapped)
{
	maps_clear(&mapped->maps);
	free(mapped->maps.maps);
	free(mapped->pages);
	mapped->maps.maps = NULL;
	mapped->pages = NULL;
}

void linux_mapped_choose(struct linux_mapped *mapped, uint64_t object, uint64_t base, uint64_t size)
{
	struct linux_kernel *kernel = mapped->kernel;

	mapped->object = object;
	mapped->base = base;
	mapped->size = size < ADDRESS_MAX && base < ADDRESS_MAX ? size : 0;
	mapped->file = (vmsig_file){0};
	mapped->fault = 0;
	for (size_t i = 0; i < KEPT; i++)
		mapped->pages[i].there = false;
	if (!object || !linux_has(kernel, LINUX_FILE_INODE) ||
		!linux_has(kernel, LINUX_FILE_MAPPING))
		return;
	linux_begin(kernel);
	linux_cache_file(kernel, linux_get(kernel, object, LINUX_FILE_INODE),
		linux_get(kernel, object, LINUX_FILE_MAPPING), &mapped->file);
	if (kernel->fault)
		mapped->file = (vmsig_file){0};
}

/* ---- pages ---- */

static int load_from_file(struct linux_mapped *mapped, uint64_t offset, uint8_t *bytes)
{
	if (!mapped->file.object)
		return VMSIG_ERR_NOT_MAPPED;
	return linux_cache_page(mapped->kernel, &mapped->file, offset / LINUX_PAGE, bytes);
}

/* The map that has an address, if it is of the file. */
static const vmsig_map *map_at(const struct linux_mapped *mapped, uint64_t addr)
{
	const vmsig_map *maps = mapped->maps.maps;
	size_t first = 0, end = mapped->maps.count;

	while (first < end) {
		size_t middle = first + (end - first) / 2;

		if (maps[middle].end <= addr)
			first = middle + 1;
		else
			end = middle;
	}
	return first < mapped->maps.count && maps[first].start <= addr && maps[first].object &&
			       maps[first].object == mapped->object
		       ? &maps[first]
		       : NULL;
}

static int load_from_memory(struct linux_mapped *mapped, uint64_t addr, uint8_t *bytes)
{
	int r = -vmsig_gva_read(mapped->kernel->mem, mapped->root, addr, bytes, LINUX_PAGE);
	const vmsig_map *map = fault_again(r) ? map_at(mapped, addr) : NULL;

	return map ? load_from_file(mapped, map->offset + (addr - map->start), bytes) : r;
}

/* NULL: the fault is set. */
static const uint8_t *page_at(struct linux_mapped *mapped, uint64_t place)
{
	struct mapped_page *page = &mapped->pages[place / LINUX_PAGE % KEPT];

	if (mapped->fault)
		return NULL;
	if (page->there && page->place == place)
		return page->bytes;
	page->there = false;
	page->place = place;
	if (!mapped->left)
		mapped->fault = VMSIG_ERR_TORN;
	else if (place & OF_FILE)
		mapped->fault = load_from_file(mapped, place & ~OF_FILE, page->bytes);
	else
		mapped->fault = load_from_memory(mapped, place, page->bytes);
	mapped->left -= mapped->left > 0;
	page->there = !mapped->fault;
	return page->there ? page->bytes : NULL;
}

/* ---- bytes ---- */

static void read_place(struct linux_mapped *mapped, uint64_t place, uint8_t *bytes, size_t len)
{
	while (len) {
		size_t in = place % LINUX_PAGE, n = LINUX_PAGE - in < len ? LINUX_PAGE - in : len;
		const uint8_t *page = page_at(mapped, place - in);

		if (page)
			memcpy(bytes, page + in, n);
		else
			memset(bytes, 0, n);
		bytes += n;
		place += n;
		len -= n;
	}
}

static bool is_inside(struct linux_mapped *mapped, uint64_t addr, size_t len)
{
	uint64_t at = addr - mapped->base;

	if (addr >= mapped->base && at < mapped->size && len <= mapped->size - at)
		return true;
	if (!mapped->fault)
		mapped->fault = VMSIG_ERR_NOT_MAPPED;
	return false;
}

void linux_mapped_read(struct linux_mapped *mapped, uint64_t addr, void *ret_bytes, size_t len)
{
	if (is_inside(mapped, addr, len))
		read_place(mapped, addr, ret_bytes, len);
	else
		memset(ret_bytes, 0, len);
}

void linux_mapped_read_file(
	struct linux_mapped *mapped, uint64_t offset, void *ret_bytes, size_t len)
{
	if (!mapped->object) {
		linux_mapped_read(mapped, mapped->base + offset, ret_bytes, len);
		return;
	}
	/* Behind 2^62 there is no file, and what is added to that stays below the mark. */
	if (offset >> 62 && !mapped->fault)
		mapped->fault = VMSIG_ERR_NOT_MAPPED;
	read_place(mapped, (offset & (OF_FILE - 1)) | OF_FILE, ret_bytes, len);
}

typedef void (*read_fn)(struct linux_mapped *mapped, uint64_t at, void *ret_bytes, size_t len);

/* What follows on the next page may not be there. */
static void text(
	struct linux_mapped *mapped, read_fn read, uint64_t at, char *ret_text, size_t size)
{
	size_t len = 0;

	while (len + 1 < size && !mapped->fault) {
		size_t n = LINUX_PAGE - (at + len) % LINUX_PAGE;

		n = n < size - 1 - len ? n : size - 1 - len;
		read(mapped, at + len, ret_text + len, n);
		if (memchr(ret_text + len, 0, n))
			return;
		len += n;
	}
	ret_text[len] = 0;
}

void linux_mapped_text(struct linux_mapped *mapped, uint64_t addr, char *ret_text, size_t size)
{
	text(mapped, linux_mapped_read, addr, ret_text, size);
}

void linux_mapped_text_file(
	struct linux_mapped *mapped, uint64_t offset, char *ret_text, size_t size)
{
	text(mapped, linux_mapped_read_file, offset, ret_text, size);
}

bool linux_mapped_misses(struct linux_mapped *mapped)
{
	bool misses = fault_again(mapped->fault);

	if (misses && mapped->left)
		mapped->fault = 0;
	return misses;
}
