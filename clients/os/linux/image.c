/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/image.h"

#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

#define PARTS_MAX 4096u
#define PAGE 4096u
#define PIECE (1u << 20)

/* Notes where parts are; they are filled afterwards. */
static int note_range(void *ctx, const vmsig_range *range)
{
	struct linux_image *image = ctx;
	struct linux_part *last = image->count ? &image->parts[image->count - 1] : NULL, *parts;
	uint64_t len = range->len;

	if (image->size + len > LINUX_IMAGE_MAX)
		len = LINUX_IMAGE_MAX - image->size;
	if (!len || image->count == PARTS_MAX)
		return 0;
	image->size += len;
	if (last && last->gva + last->len == range->gva) {
		last->len += len;
		return 0;
	}
	parts = reallocarray(image->parts, image->count + 1, sizeof(*parts));
	if (!parts)
		return VMSIG_ERR_NO_MEMORY;
	image->parts = parts;
	parts[image->count++] = (struct linux_part){.gva = range->gva, .len = len};
	return 0;
}

static bool is_missing(int error)
{
	return error == VMSIG_ERR_NOT_MAPPED || error == VMSIG_ERR_OUT_OF_RANGE ||
	       error == VMSIG_ERR_BAD_PAGE_TABLE;
}

static int fill_pages(vmsig_mem *mem, uint64_t root, struct linux_part *part, size_t at, size_t len)
{
	for (size_t end = at + len; at < end; at += PAGE) {
		size_t n = end - at < PAGE ? end - at : PAGE;
		int r = -vmsig_gva_read(mem, root, part->gva + at, part->bytes + at, n);

		if (is_missing(r))
			memset(part->bytes + at, 0, n);
		else if (r)
			return r;
	}
	return 0;
}

static int fill(vmsig_mem *mem, uint64_t root, struct linux_part *part)
{
	part->bytes = malloc(part->len);
	if (!part->bytes)
		return VMSIG_ERR_NO_MEMORY;
	for (size_t at = 0; at < part->len; at += PIECE) {
		size_t n = part->len - at < PIECE ? part->len - at : PIECE;
		int r = -vmsig_gva_read(mem, root, part->gva + at, part->bytes + at, n);

		if (is_missing(r))
			r = fill_pages(mem, root, part, at, n);
		if (r)
			return r;
	}
	return 0;
}

int linux_image_read(struct linux_image *image, vmsig_mem *mem, uint64_t root)
{
	int r;

	*image = (struct linux_image){0};
	r = vmsig_pmap(mem, root, LINUX_IMAGE_FIRST, LINUX_IMAGE_LAST, note_range, image);
	r = r < 0 ? -r : r;
	for (size_t i = 0; !r && i < image->count; i++)
		r = fill(mem, root, &image->parts[i]);
	if (!r && !image->count)
		r = VMSIG_ERR_UNSUPPORTED;
	if (r)
		linux_image_deinit(image);
	return r;
}

void linux_image_deinit(struct linux_image *image)
{
	for (size_t i = 0; i < image->count; i++)
		free(image->parts[i].bytes);
	free(image->parts);
	*image = (struct linux_image){0};
}

const uint8_t *linux_image_at(const struct linux_image *image, uint64_t gva, size_t len)
{
	for (size_t i = 0; i < image->count; i++) {
		const struct linux_part *part = &image->parts[i];

		if (gva >= part->gva && gva - part->gva < part->len)
			return len <= part->len - (gva - part->gva)
				       ? part->bytes + (gva - part->gva)
				       : NULL;
	}
	return NULL;
}
