/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/module.h"

#include <string.h>

#include "clients/os/grow.h"
#include "clients/os/windows/image.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/ring.h"
#include "clients/os/windows/sections.h"
#include "clients/os/windows/symbols.h"
#include "clients/os/windows/text.h"
#include "vmsig/vmsig_error.h"

/* ---- one ---- */

void windows_module_read(
	struct windows_kernel *kernel, uint64_t root, uint64_t object, vmsig_module *ret_module)
{
	struct {
		uint64_t base, entry, size;
	} place;
	size_t len;

	*ret_module = (vmsig_module){.object = object};
	windows_read_under(kernel, root, object + WINDOWS_ENTRY_BASE, &place, sizeof(place));
	ret_module->base = place.base;
	ret_module->size = (uint32_t)place.size;
	if (kernel->fault)
		return;
	windows_text(kernel, root, object + WINDOWS_ENTRY_NAME, ret_module->name,
		sizeof(ret_module->name), &len);
	/* The entry is there, its name may be paged out. */
	windows_forgive(kernel);
}

int windows_module_walk(
	struct windows_kernel *kernel, uint64_t root, uint64_t head, vmsig_module_list *list)
{
	struct windows_ring ring = windows_ring_user(kernel, root, head, 0);
	vmsig_module module, *modules;
	uint64_t object;

	while (windows_ring_next(&ring, &object)) {
		windows_module_read(kernel, root, object, &module);
		if (kernel->fault)
			break;
		modules = grow_array(list->modules, list->count, sizeof(*modules));
		if (!modules)
			return VMSIG_ERR_NO_MEMORY;
		list->modules = modules;
		modules[list->count++] = module;
	}
	return kernel->fault;
}

/* ---- where they are ---- */

/* Whether the ring at `head` begins with the kernel. */
static bool is_head(struct windows_kernel *kernel, uint64_t head)
{
	struct windows_ring ring = windows_ring(kernel, head, 0);
	vmsig_module module = {0};
	uint64_t object;

	windows_begin(kernel);
	if (windows_ring_next(&ring, &object))
		windows_module_read(kernel, kernel->root, object, &module);
	return !kernel->fault && module.base == kernel->image.base &&
	       module.size == kernel->image.size;
}

/* In a page of the kernel's data. */
static uint64_t head_in_page(struct windows_kernel *kernel, uint64_t at)
{
	uint64_t words[WINDOWS_PAGE / 8];
	bool missing;

	windows_begin(kernel);
	windows_read_some(kernel, kernel->root, at, words, sizeof(words), &missing);
	for (size_t i = 0; i < WINDOWS_PAGE / 8; i++) {
		/* The entries are no part of the image. */
		if (windows_is_object(words[i]) &&
			words[i] - kernel->image.base >= kernel->image.size &&
			is_head(kernel, at + 8 * i))
			return at + 8 * i;
	}
	return 0;
}

static uint64_t head_in_data(struct windows_kernel *kernel)
{
	struct windows_section section;
	uint64_t head = 0;

	for (unsigned i = 0; i < kernel->image.sections && !head; i++) {
		windows_begin(kernel);
		if (!windows_section(kernel, &kernel->image, i, &section) ||
			!(section.flags & WINDOWS_SECTION_WRITE))
			continue;
		for (uint32_t at = 0; at < section.size && !head; at += WINDOWS_PAGE)
			head = head_in_page(kernel, kernel->image.base + section.at + at);
	}
	return head;
}

void windows_module_find(struct windows_kernel *kernel)
{
	uint64_t head = windows_symbols_addr(&kernel->symbols, "PsLoadedModuleList");

	kernel->modules = head && is_head(kernel, head) ? head : head_in_data(kernel);
	windows_begin(kernel);
}

/* ---- lists ---- */

static int walk(struct windows_kernel *kernel, void *ctx)
{
	vmsig_module_list *list = ctx;

	list->count = 0;
	return windows_module_walk(kernel, kernel->root, kernel->modules, list);
}

int windows_module_list(struct windows_kernel *kernel, vmsig_module_list *ret_list)
{
	if (!kernel->modules)
		return VMSIG_ERR_UNSUPPORTED;
	return windows_walk(kernel, walk, ret_list, &ret_list->partial);
}
