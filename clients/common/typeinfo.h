/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_TYPEINFO_H
#define CLIENTS_COMMON_TYPEINFO_H

/* BTF: the description that a kernel carries of its own types, as bytes out of the guest. */

#include <stdint.h>

#include "clients/common/context.h"
#include "vmsig/vmsig_os.h"

/* The caller frees *ret_bytes. Positive enum vmsig_error: UNSUPPORTED, the kernel carries none;
 * what reads return; NO_MEMORY. */
__attribute__((warn_unused_result)) int typeinfo_read(const struct context *context,
	const vmsig_os_handle *os, uint8_t **ret_bytes, uint32_t *ret_len);

#endif
