/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_DWARF_H
#define CLIENTS_COMMON_DWARF_H

/*
 * A kernel's types (BTF) as debuggers that know no BTF take them: DWARF 4, in which each type has
 * an entry, and so have the variables of which it is known what they are. Names are not copied:
 * they are offsets into BTF's own table of strings, which has to become .debug_str. Made of
 * whatever a guest says: chains of types that never end are no type.
 */

#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_os.h"

struct btf;

struct dwarf {
	uint8_t *info; /* .debug_info */
	size_t info_len;
	uint8_t *abbrev; /* .debug_abbrev */
	size_t abbrev_len;
};

/* VMSIG_ERR_NO_MEMORY: nothing to free then. */
__attribute__((warn_unused_result)) int dwarf_init(
	struct dwarf *dwarf, const struct btf *btf, const vmsig_os_handle *os);
void dwarf_deinit(struct dwarf *dwarf);

#endif
