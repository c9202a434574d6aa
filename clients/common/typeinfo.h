/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_TYPEINFO_H
#define CLIENTS_COMMON_TYPEINFO_H

/* BTF: the description that a kernel carries of its own types, as bytes out of the guest, and what
 * it does not say: of which type variables are. */

#include <stdbool.h>
#include <stdint.h>

#include "clients/common/context.h"
#include "vmsig/vmsig_os.h"

struct btf;

/* BTF says of no variable but the per-CPU ones what it is; these are asked for by their type. */
struct typeinfo_variable {
	const char *symbol, *type; /* a struct */
	bool pointer;              /* to one */
};
#define TYPEINFO_VARIABLES 14u
extern const struct typeinfo_variable typeinfo_variables[TYPEINFO_VARIABLES];

/* The caller frees *ret_bytes. Positive enum vmsig_error: UNSUPPORTED, the kernel carries none;
 * what reads return; NO_MEMORY. */
__attribute__((warn_unused_result)) int typeinfo_read(const struct context *context,
	const vmsig_os_handle *os, uint8_t **ret_bytes, uint32_t *ret_len);

/* libbpf's description of those bytes, which it copies; silent about what is wrong with them. NULL
 * with errno. */
struct btf *typeinfo_parse(const uint8_t *bytes, uint32_t len);

#endif
