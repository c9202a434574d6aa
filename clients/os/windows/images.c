/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/images.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/grow.h"
#include "clients/os/windows/area.h"
#include "clients/os/windows/image.h"
#include "clients/os/windows/module.h"
#include "clients/os/windows/process.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/ring.h"
#include "clients/os/windows/text.h"
#include "clients/os/windows/vad.h"
#include "vmsig/vmsig_error.h"

/* PEB and PEB_LDR_DATA of 64 bits, unchanged from 7 to 11. */
#define PEB_LOADER 0x18u
#define LOADER_MODULES 0x10u

#define PATH_BYTES 1024u

struct images_walk {
	struct windows_kernel *kernel;
	const vmsig_proc *process;
	vmsig_image_list *list;
	uint64_t program;
	size_t listed; /* those of the loader, which come first while they are gathered */
	int error;     /* NO_MEMORY */
};

static void forget(vmsig_image_list *list, size_t kept)
{
	while (list->count > kept)
		free((char *)(uintptr_t)list->images[--list->count].path);
}

void windows_images_clear(vmsig_image_list *list)
{
	forget(list, 0);
}

static int append(struct images_walk *walk, const vmsig_image *image, const char *path)
{
	vmsig_image_list *list = walk->list;
	vmsig_image *images = grow_array(list->images, list->count, sizeof(*images));
	char *copy = strdup(path);

	list->images = images ? images : list->images;
	if (!images || !copy) {
		free(copy);
		return VMSIG_ERR_NO_MEMORY;
	}
	images[list->count] = *image;
	images[list->count].path = copy;
	if (image->base == walk->program)
		images[list->count].flags |= VMSIG_IMAGE_PROGRAM;
	list->count++;
	return 0;
}

static int by_base(const void *a, const void *b)
{
	const vmsig_image *one = a, *two = b;

	return one->base < two->base ? -1 : one->base > two->base;
}

static void sort(vmsig_image_list *list)
{
	if (list->count)
		qsort(list->images, list->count, sizeof(*list->images), by_base);
}

/* ---- what the loader lists ---- */

static int take_entry(struct images_walk *walk, uint64_t entry)
{
	struct windows_kernel *kernel = walk->kernel;
	char path[PATH_BYTES];
	vmsig_module module;
	size_t len;

	windows_module_read(kernel, walk->process->root, entry, &module);
	if (kernel->fault)
		return 0;
	windows_text(
		kernel, walk->process->root, entry + WINDOWS_ENTRY_PATH, path, sizeof(path), &len);
	windows_forgive(kernel);
	return append(walk, &(vmsig_image){.base = module.base, .size = module.size},
		path[0] ? path : module.name);
}

static int walk_loader(struct windows_kernel *kernel, void *ctx)
{
	struct images_walk *walk = ctx;
	const vmsig_proc *process = walk->process;
	uint64_t peb = windows_word(kernel, process->object + kernel->offset.peb), loader, entry;
	struct windows_ring ring;
	int r = 0;

	forget(walk->list, 0);
	walk->program =
		kernel->offset.section_base
			? windows_word(kernel, process->object + kernel->offset.section_base)
			: 0;
	loader = peb ? windows_word_user(kernel, process->root, peb + PEB_LOADER) : 0;
	/* A process that was just made has none yet. */
	if (kernel->fault || !loader)
		return kernel->fault;
	ring = windows_ring_user(kernel, process->root, loader + LOADER_MODULES, 0);
	while (!r && windows_ring_next(&ring, &entry))
		r = take_entry(walk, entry);
	return r;
}

/* ---- what else is mapped ---- */

static bool is_listed(const struct images_walk *walk, uint64_t base)
{
	const vmsig_image image = {.base = base};

	return walk->listed &&
	       bsearch(&image, walk->list->images, walk->listed, sizeof(image), by_base);
}

static bool take_area(void *ctx, const struct windows_vad *vad)
{
	struct images_walk *walk = ctx;
	struct windows_area area;
	char path[PATH_BYTES];

	windows_area_read(walk->kernel, vad->node, &area);
	if (walk->kernel->fault || area.type != WINDOWS_AREA_IMAGE || area.is_private ||
		is_listed(walk, vad->start))
		return !walk->kernel->fault;
	windows_area_path(walk->kernel, vad->node, path, sizeof(path));
	walk->error = append(walk,
		&(vmsig_image){.base = vad->start,
			.size = vad->end - vad->start,
			.flags = VMSIG_IMAGE_UNLISTED},
		path);
	return !walk->error && !walk->kernel->fault;
}

static int walk_areas(struct windows_kernel *kernel, void *ctx)
{
	struct images_walk *walk = ctx;

	forget(walk->list, walk->listed);
	windows_vad_visit(kernel, &kernel->area, walk->process->object, take_area, walk);
	return walk->error;
}

/* ---- all ---- */

/* Those of which not even the headers are resident. */
static void mark_absent(struct windows_kernel *kernel, uint64_t root, vmsig_image_list *list)
{
	struct windows_image image;

	for (size_t i = 0; i < list->count; i++) {
		windows_begin(kernel);
		if (windows_image_open(kernel, root, list->images[i].base, &image))
			list->images[i].flags |= VMSIG_IMAGE_ABSENT;
	}
}

static int gather(struct images_walk *walk)
{
	struct windows_kernel *kernel = walk->kernel;
	bool partial = false;
	int r = windows_walk(kernel, walk_loader, walk, &walk->list->partial);

	sort(walk->list);
	walk->listed = walk->list->count;
	if (!r)
		r = windows_area_learn(kernel);
	if (!r)
		r = windows_walk(kernel, walk_areas, walk, &partial);
	if (r == VMSIG_ERR_UNSUPPORTED || (!r && !kernel->area.flags)) {
		partial = true; /* of the loader's list alone */
		r = 0;
	}
	walk->list->partial |= partial;
	return r;
}

int windows_images_list(
	struct windows_kernel *kernel, const vmsig_proc *process, vmsig_image_list *ret_list)
{
	struct images_walk walk = {.kernel = kernel, .process = process, .list = ret_list};
	int r = windows_process_is(kernel, process);

	if (r || !kernel->offset.peb)
		return r ? r : VMSIG_ERR_UNSUPPORTED;
	r = gather(&walk);
	if (r)
		return r;
	sort(ret_list);
	mark_absent(kernel, process->root, ret_list);
	return windows_process_is(kernel, process);
}
