/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/elf.h"

#include <string.h>

#include "clients/os/linux/cache.h"
#include "clients/os/names.h"
#include "vmsig/vmsig_error.h"

#define SECTIONS_MAX 4096u
#define SECTION_NAME_MAX 256u
#define SIZE_MAX_MAPPED (1ull << 40) /* of one file */

/* ---- headers ---- */

static bool is_elf(const Elf64_Ehdr *header)
{
	return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
	       header->e_ident[EI_CLASS] == ELFCLASS64 && header->e_ident[EI_DATA] == ELFDATA2LSB &&
	       header->e_machine == EM_X86_64 && header->e_phentsize == sizeof(Elf64_Phdr) &&
	       header->e_phnum && header->e_phnum <= LINUX_ELF_SEGMENTS_MAX &&
	       header->e_phoff < SIZE_MAX_MAPPED;
}

/* From the first page of what is loaded to the last. */
static bool measure(struct linux_elf *elf, uint64_t base)
{
	uint64_t first = UINT64_MAX, end = 0;

	for (unsigned i = 0; i < elf->header.e_phnum; i++) {
		const Elf64_Phdr *segment = &elf->segments[i];

		if (segment->p_type != PT_LOAD)
			continue;
		if (segment->p_memsz > SIZE_MAX_MAPPED || segment->p_vaddr >> 56)
			return false;
		first = segment->p_vaddr < first ? segment->p_vaddr : first;
		end = segment->p_vaddr + segment->p_memsz > end
			      ? segment->p_vaddr + segment->p_memsz
			      : end;
	}
	first &= ~(uint64_t)(LINUX_PAGE - 1);
	if (first >= end || end - first > SIZE_MAX_MAPPED)
		return false;
	elf->bias = base - first;
	elf->size = (end - first + LINUX_PAGE - 1) & ~(uint64_t)(LINUX_PAGE - 1);
	return true;
}

bool linux_elf_load(struct linux_elf *elf, struct linux_mapped *mapped)
{
	*elf = (struct linux_elf){0};
	linux_mapped_read(mapped, mapped->base, &elf->header, sizeof(elf->header));
	if (mapped->fault || !is_elf(&elf->header))
		return false;
	linux_mapped_read(mapped, mapped->base + elf->header.e_phoff, elf->segments,
		elf->header.e_phnum * sizeof(elf->segments[0]));
	return !mapped->fault && measure(elf, mapped->base);
}

/* ---- sections ---- */

/* The headers of sections are mapped nowhere, as a rule: they lie at the file's end. */
int linux_elf_sections(
	struct linux_mapped *mapped, const struct linux_elf *elf, vmsig_name_list *list)
{
	const Elf64_Ehdr *header = &elf->header;
	char name[SECTION_NAME_MAX];
	Elf64_Shdr names, section;
	int r = 0;

	if (!header->e_shoff || header->e_shentsize != sizeof(section) ||
		header->e_shnum > SECTIONS_MAX || header->e_shstrndx >= header->e_shnum) {
		list->partial = header->e_shoff != 0;
		return 0;
	}
	linux_mapped_read_file(mapped, header->e_shoff + header->e_shstrndx * sizeof(names), &names,
		sizeof(names));
	for (unsigned i = 1; i < header->e_shnum && !r && !mapped->fault; i++) {
		linux_mapped_read_file(
			mapped, header->e_shoff + i * sizeof(section), &section, sizeof(section));
		if (!(section.sh_flags & SHF_ALLOC))
			continue;
		linux_mapped_text_file(
			mapped, names.sh_offset + section.sh_name, name, sizeof(name));
		if (!mapped->fault)
			r = names_append(list, section.sh_addr + elf->bias, name);
	}
	return r;
}
