/* SPDX-License-Identifier: Apache-2.0 */
/* PE images as they lie in a guest's memory. */
#include "clients/os/names.h"
#include "clients/os/windows/exports.h"
#include "clients/os/windows/image.h"
#include "clients/os/windows/imports.h"
#include "clients/os/windows/sections.h"
#include "tests/fuzz/windows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct windows_kernel kernel = windows_fuzz_kernel(data, size);
	struct windows_image image;
	vmsig_name_list list = {0};
	char name[64];
	bool missing;

	if (!windows_image_open(&kernel, kernel.root, WINDOWS_FUZZ_KERNEL, &image)) {
		(void)!windows_sections(&kernel, &image, &list, &missing);
		windows_begin(&kernel);
		(void)!windows_exports(&kernel, &image, &list, &missing);
		windows_begin(&kernel);
		(void)!windows_exports_self(&kernel, &image, name, sizeof(name));
		(void)!windows_imports(&kernel, &image, &list, &missing);
	}
	names_clear(&list);
	free(list.names);
	return 0;
}
