/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_SYMFILE_H
#define CLIENTS_COMMON_SYMFILE_H

/*
 * A kernel's symbols and types, and its modules' symbols, made of the guest's own tables, as an ELF
 * file that debuggers load beside its memory: .symtab with addresses as they are in the running
 * guest (no KASLR offset is to be added) and, when the kernel carries them, its types in .BTF and
 * in DWARF. It has no code: sections of text and data only say where these are, but for the banner,
 * by which crash finds that file and memory are of one kernel.
 */

#include <stddef.h>
#include <stdint.h>

#include "clients/common/context.h"
#include "vmsig/vmsig_os.h"

struct symfile {
	uint8_t *bytes;
	size_t len;
};

/* Positive enum vmsig_error; nothing to free then. */
__attribute__((warn_unused_result)) int symfile_init(
	struct symfile *file, const struct context *context, vmsig_os_handle *os);
void symfile_deinit(struct symfile *file);

#endif
