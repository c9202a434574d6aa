/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_DYNAMIC_H
#define CLIENTS_OS_LINUX_DYNAMIC_H

/*
 * What a program or a library tells the dynamic linker: symbols that it offers, symbols that it
 * takes from others, and from which files. One that is linked statically tells nothing. How many
 * symbols there are is told by the tables that find them, and by what refers to them.
 */

#include "clients/os/linux/elf.h"

/* 0 or VMSIG_ERR_NO_MEMORY; what could not be read is the fault of `mapped`, or makes the list
 * partial. */
__attribute__((warn_unused_result)) int linux_dynamic_exports(
	struct linux_mapped *mapped, const struct linux_elf *elf, vmsig_name_list *list);
/* Each with where it leads now, as the linker has noted it; 0: that is not known, or not yet. */
__attribute__((warn_unused_result)) int linux_dynamic_imports(
	struct linux_mapped *mapped, const struct linux_elf *elf, vmsig_name_list *list);
/* Names of libraries. */
__attribute__((warn_unused_result)) int linux_dynamic_needed(
	struct linux_mapped *mapped, const struct linux_elf *elf, vmsig_name_list *list);

#endif
