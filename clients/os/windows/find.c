/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/find.h"

#include <string.h>

#include "clients/os/fault.h"
#include "clients/os/windows/exports.h"
#include "clients/os/windows/image.h"
#include "clients/os/windows/reader.h"
#include "vmsig/vmsig_error.h"

/* 1 GiB of mappings looked at in all; a kernel is in the first hundreds of MiB. */
#define PAGES_MAX (256u << 10)
#define FOUND 1
#define SPENT 2

struct find_walk {
	struct windows_kernel *kernel;
	uint32_t pages;
};

static bool is_kernel(struct windows_kernel *kernel, uint64_t base)
{
	char self[16];

	windows_begin(kernel);
	if (windows_image_open(kernel, kernel->root, base, &kernel->image))
		return false;
	return kernel->image.wide &&
	       windows_exports_self(kernel, &kernel->image, self, sizeof(self)) &&
	       strcmp(self, "ntoskrnl.exe") == 0;
}

/* An image may begin at any page, also within a large one. */
static int look_at_range(void *ctx, const vmsig_range *range)
{
	struct find_walk *walk = ctx;
	uint8_t magic[2];

	if (range->prot & VMSIG_PROT_USER)
		return 0;
	for (uint64_t at = 0; at < range->len; at += WINDOWS_PAGE) {
		if (!walk->pages--)
			return SPENT;
		if (vmsig_gva_read(walk->kernel->mem, walk->kernel->root, range->gva + at, magic,
			    sizeof(magic)) ||
			memcmp(magic, "MZ", sizeof(magic)) != 0)
			continue;
		if (is_kernel(walk->kernel, range->gva + at))
			return FOUND;
	}
	return 0;
}

int windows_find(struct windows_kernel *kernel)
{
	struct find_walk walk = {.kernel = kernel, .pages = PAGES_MAX};
	int r = vmsig_pmap(kernel->mem, kernel->root, WINDOWS_IMAGES_FIRST, WINDOWS_IMAGES_LAST,
		look_at_range, &walk);

	windows_begin(kernel);
	if (r == FOUND)
		return 0;
	return r < 0 && !fault_again(-r) ? -r : VMSIG_ERR_UNSUPPORTED;
}
