/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/sections.h"

#include <string.h>

#include "clients/os/names.h"
#include "clients/os/windows/image.h"
#include "clients/os/windows/reader.h"
#include "vmsig/vmsig_error.h"

/* IMAGE_SECTION_HEADER. */
struct sections_header {
	char name[WINDOWS_SECTION_NAME];
	uint32_t size, at;
	uint32_t file_size, file_at, relocations, lines, counts;
	uint32_t flags;
};

bool windows_section(struct windows_kernel *kernel, const struct windows_image *image, unsigned i,
	struct windows_section *ret_section)
{
	struct sections_header header;
	bool missing;

	*ret_section = (struct windows_section){0};
	windows_image_some(kernel, image, image->sections_at + (uint64_t)i * sizeof(header),
		&header, sizeof(header), &missing);
	if (missing || kernel->fault || header.at >= image->size)
		return false;
	ret_section->at = header.at;
	ret_section->size =
		header.size < image->size - header.at ? header.size : image->size - header.at;
	ret_section->flags = header.flags;
	memcpy(ret_section->name, header.name, sizeof(header.name));
	return true;
}

int windows_sections(struct windows_kernel *kernel, const struct windows_image *image,
	vmsig_name_list *list, bool *ret_missing)
{
	struct windows_section section;
	int r = 0;

	names_clear(list);
	*ret_missing = false;
	for (unsigned i = 0; i < image->sections && !r && !kernel->fault; i++) {
		if (windows_section(kernel, image, i, &section))
			r = names_append(list, image->base + section.at, section.name);
		else
			*ret_missing = true;
	}
	return r ? r : kernel->fault;
}
