/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_IMPORTS_H
#define CLIENTS_OS_WINDOWS_IMPORTS_H

/* What an image uses of others: "NTDLL.dll!NtClose", or "NTDLL.dll!#17", and where that leads as it
 * lies in memory. What is bound when it is called for the first time (delayed) is not among it. */

#include "clients/os/windows/kernel.h"

/* Replaces what the list has. What is not resident is left out, and *ret_missing. */
__attribute__((warn_unused_result)) int windows_imports(struct windows_kernel *kernel,
	const struct windows_image *image, vmsig_name_list *list, bool *ret_missing);
/* The images that it names, with addresses of 0. */
__attribute__((warn_unused_result)) int windows_imports_from(struct windows_kernel *kernel,
	const struct windows_image *image, vmsig_name_list *list, bool *ret_missing);

#endif
