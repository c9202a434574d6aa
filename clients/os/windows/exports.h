/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_EXPORTS_H
#define CLIENTS_OS_WINDOWS_EXPORTS_H

/* What an image offers to others: by names, and by numbers alone ("#17"). What another image
 * offers in its place ("A -> NTDLL.RtlA") has no address. */

#include "clients/os/windows/kernel.h"

#define WINDOWS_EXPORT_NAME_MAX 1024u /* bytes of a name, with what stands for it and its NUL */

/* Replaces what the list has. Pages that are not resident are left out, and *ret_missing. */
__attribute__((warn_unused_result)) int windows_exports(struct windows_kernel *kernel,
	const struct windows_image *image, vmsig_name_list *list, bool *ret_missing);
/* What the image calls itself; false: it does not say. */
__attribute__((warn_unused_result)) bool windows_exports_self(struct windows_kernel *kernel,
	const struct windows_image *image, char *ret_name, size_t size);

#endif
