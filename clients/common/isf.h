/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_ISF_H
#define CLIENTS_COMMON_ISF_H

/*
 * A kernel's symbols and types as the symbol table that Volatility 3 takes (Intermediate Symbol
 * Format, schema 6.2.0), made of the guest's own tables. Addresses are those that the kernel was
 * linked for, so that a table serves every boot of that kernel.
 */

#include <stddef.h>
#include <stdio.h>

#include "clients/common/context.h"
#include "vmsig/vmsig_os.h"

/* Writes it to `file` as it is made; whether that went well is ferror()'s to say. Positive enum
 * vmsig_error; `error` says what is missing (UNSUPPORTED). */
__attribute__((warn_unused_result)) int isf_write(FILE *file, const struct context *context,
	const vmsig_os_handle *os, char *error, size_t error_size);

#endif
