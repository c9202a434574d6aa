/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_SECTIONS_H
#define CLIENTS_OS_WINDOWS_SECTIONS_H

/* What an image is made of. */

#include "clients/os/windows/kernel.h"

#define WINDOWS_SECTION_NAME 8u

struct windows_section {
	uint32_t at, size; /* as it is mapped */
	uint32_t flags;    /* WINDOWS_SECTION_* */
	char name[WINDOWS_SECTION_NAME + 1];
};

#define WINDOWS_SECTION_DISCARDED 0x02000000u /* after the start */
#define WINDOWS_SECTION_EXEC 0x20000000u
#define WINDOWS_SECTION_WRITE 0x80000000u

/* Section i of image->sections; false: it is not resident, or not inside of the image. */
__attribute__((warn_unused_result)) bool windows_section(struct windows_kernel *kernel,
	const struct windows_image *image, unsigned i, struct windows_section *ret_section);
/* All of them, by their names; *ret_missing: some are not resident. */
__attribute__((warn_unused_result)) int windows_sections(struct windows_kernel *kernel,
	const struct windows_image *image, vmsig_name_list *list, bool *ret_missing);

#endif
