/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/images.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clients/ctl/rows.h"

static int list_images(const struct ctl_guest *guest, const char *pid, vmsig_proc *ret_process,
	vmsig_image_list **ret_list)
{
	int code = ctl_guest_process(guest, pid, ret_process), r;

	if (code)
		return code;
	r = vmsig_os_images(guest->os, ret_process, ret_list);
	return r ? ctl_guest_fail(guest, r, "programs and libraries") : EXIT_OK;
}

/* ---- one ---- */

static bool is_called(const vmsig_image *image, const char *name)
{
	const char *slash = strrchr(image->path, '/'), *last = strrchr(image->path, '\\');

	last = slash ? slash : last;
	if (!name)
		return image->flags & VMSIG_IMAGE_PROGRAM;
	return strcmp(image->path, name) == 0 || (last && strcmp(last + 1, name) == 0);
}

int ctl_image_find(const struct ctl_guest *guest, const char *pid, const char *name,
	struct ctl_image *ret_image)
{
	int code = list_images(guest, pid, &ret_image->process, &ret_image->list);

	if (code)
		return code;
	for (size_t i = 0; i < ret_image->list->count; i++) {
		ret_image->image = &ret_image->list->images[i];
		if (is_called(ret_image->image, name))
			return EXIT_OK;
	}
	ctl_image_close(ret_image);
	ctl_fail_with(VMSIG_ERR_NOT_MAPPED, "see `vmsigctl modules --pid`",
		"process %s of %s has mapped no %s%s%s", pid, guest->endpoint,
		name ? "module '" : "program", name ? name : "", name ? "'" : "");
	return EXIT_NOT_FOUND;
}

void ctl_image_close(struct ctl_image *image)
{
	vmsig_image_list_free(image->list);
}

int ctl_image_whole(
	const struct ctl_guest *guest, const vmsig_image *image, bool partial, const char *what)
{
	if (!partial)
		return EXIT_OK;
	ctl_fail_with(VMSIG_ERR_NOT_MAPPED, "they are on its disk, or in swap",
		"these are not all %s of %s: not all of its pages are in the memory of %s", what,
		image->path, guest->endpoint);
	return EXIT_PARTIAL;
}

/* ---- all ---- */

/* With what it needs; NULL: nobody wants to know. */
struct shown {
	const vmsig_image *image;
	vmsig_name_list *needed;
};

static json_t *shown_json(const void *item)
{
	const struct shown *shown = item;
	const vmsig_image *image = shown->image;
	json_t *needed = json_array();

	for (size_t i = 0; shown->needed && i < shown->needed->count; i++)
		json_array_append_new(needed, value_text(shown->needed->names[i].name));
	return json_pack("{s:o, s:o, s:I, s:o, s:b, s:b, s:b, s:o, s:o}", "path",
		value_text(image->path), "base", value_hex(image->base), "size",
		(json_int_t)image->size, "bias", value_hex(image->bias), "program",
		image->flags & VMSIG_IMAGE_PROGRAM, "resident",
		!(image->flags & VMSIG_IMAGE_ABSENT), "listed",
		!(image->flags & VMSIG_IMAGE_UNLISTED), "needed", needed, "object",
		value_hex(image->object));
}

static void add_shown(struct table *table, const void *item)
{
	const vmsig_image *image = ((const struct shown *)item)->image;

	table_add(table, "0x%016" PRIx64, image->base);
	table_add(table, "%" PRIu64, image->size);
	table_add(table, "%s%s", image->path,
		image->flags & VMSIG_IMAGE_UNLISTED ? " (the loader does not list it)" : "");
}

static int print(const struct ctl *ctl, const struct shown *shown, size_t count)
{
	static const struct table_column columns[] = {
		{"BASE", 0, false}, {"SIZE", 0, true}, {"PATH", 0, false}};
	static const struct ctl_rows rows = {.columns = columns,
		.ncolumns = sizeof(columns) / sizeof(columns[0]),
		.json = shown_json,
		.add = add_shown};

	return ctl_rows_print(ctl, &rows, shown, count, sizeof(*shown));
}

static int ask_needed(const struct ctl_guest *guest, const vmsig_proc *process,
	const vmsig_image_list *list, struct shown *shown)
{
	vmsig_name_list **needed = calloc(list->count + 1, sizeof(*needed));
	int r = needed ? vmsig_os_images_needed(guest->os, process, list, needed)
		       : -VMSIG_ERR_NO_MEMORY;

	for (size_t i = 0; i < list->count && !r; i++)
		shown[i].needed = needed[i];
	free(needed);
	return r;
}

int ctl_images_print(const struct ctl *ctl, const struct ctl_guest *guest, const char *pid)
{
	vmsig_image_list *list;
	struct shown *shown;
	vmsig_proc process;
	int code = list_images(guest, pid, &process, &list), r = 0;

	if (code)
		return code;
	shown = calloc(list->count + 1, sizeof(*shown));
	for (size_t i = 0; shown && i < list->count; i++)
		shown[i].image = &list->images[i];
	if (shown && ctl->json)
		r = ask_needed(guest, &process, list, shown);
	code = !shown ? ctl_fail(VMSIG_ERR_NO_MEMORY, "out of memory")
	       : r    ? ctl_guest_fail(guest, r, "programs and libraries")
		      : print(ctl, shown, list->count);
	code = code ? code : ctl_guest_whole(guest, list->partial, "programs and libraries");
	for (size_t i = 0; shown && i < list->count; i++)
		vmsig_name_list_free(shown[i].needed);
	free(shown);
	vmsig_image_list_free(list);
	return code;
}
