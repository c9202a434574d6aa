/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_ELF_H
#define CLIENTS_OS_LINUX_ELF_H

/*
 * Programs and libraries of processes (ELF, x86-64): where they are, and what they say of
 * themselves. All of that is the process' own to change, and bounded here.
 */

#include <elf.h>
#include <stdint.h>

#include "clients/os/linux/mapped.h"
#include "vmsig/vmsig_os.h"

#define LINUX_ELF_SEGMENTS_MAX 128u      /* program headers; a library has some ten */
#define LINUX_ELF_SYMBOLS_MAX (1u << 20) /* of one; the largest libraries have some 100,000 */

struct linux_elf {
	Elf64_Ehdr header;
	Elf64_Phdr segments[LINUX_ELF_SEGMENTS_MAX];
	uint64_t bias; /* of an address in memory against the headers' */
	uint64_t size; /* bytes from the first segment to the last one's end, in pages */
};

/* Headers, from where they are mapped. False: there is nothing of the kind; with a fault, they
 * are not resident. */
__attribute__((warn_unused_result)) bool linux_elf_load(
	struct linux_elf *elf, struct linux_mapped *mapped);

/* The sections that are loaded, and where. 0 or VMSIG_ERR_NO_MEMORY; what could not be read is the
 * fault of `mapped`. */
__attribute__((warn_unused_result)) int linux_elf_sections(
	struct linux_mapped *mapped, const struct linux_elf *elf, vmsig_name_list *list);

#endif
