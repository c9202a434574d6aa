/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_TYPES_H
#define CLIENTS_OS_LINUX_TYPES_H

/* BTF: where the members of the kernel's structs are, as the kernel itself says. */

#include <stddef.h>

#include "clients/os/linux/field.h"
#include "clients/os/linux/image.h"
#include "clients/os/linux/symbols.h"

/* VMSIG_ERR_UNSUPPORTED: there is none in the image, or it lacks what is needed; `error` says
 * which. */
__attribute__((warn_unused_result)) int linux_types_find(struct linux_fields *fields,
	const struct linux_symbols *symbols, const struct linux_image *image, char *error,
	size_t error_size);

#endif
