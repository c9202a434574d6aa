/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/symfile.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/btf.h>

#include "clients/common/dwarf.h"
#include "clients/common/typeinfo.h"
#include "vmsig/vmsig_error.h"

#define IMAGE_FIRST 0xffffffff80000000ull /* symbols below are offsets into per-CPU memory */
#define PERCPU_MAX (4u << 20)             /* bytes of that; Debian's kernels have some 200 KiB */
#define ALIGN 8u
#define BANNER_MAX 512u /* Linux' have some 200 bytes */

enum section {
	NONE,
	TEXT,
	PERCPU,
	BANNER,
	DATA,
	MODULES,
	SYMTAB,
	STRTAB,
	BTF,
	DEBUG_INFO,
	DEBUG_ABBREV,
	DEBUG_STR,
	SHSTRTAB,
	SECTIONS
};

/* crash takes a ".text" or ".data" without bytes for a file that somebody has stripped of them. */
static const char *const names[SECTIONS] = {
	[NONE] = "",
	[TEXT] = ".text.kernel",
	[PERCPU] = ".data..percpu",
	[BANNER] = ".rodata.banner",
	[DATA] = ".data.kernel",
	[MODULES] = ".modules",
	[SYMTAB] = ".symtab",
	[STRTAB] = ".strtab",
	[BTF] = ".BTF",
	[DEBUG_INFO] = ".debug_info",
	[DEBUG_ABBREV] = ".debug_abbrev",
	[DEBUG_STR] = ".debug_str",
	[SHSTRTAB] = ".shstrtab",
};

struct parts {
	vmsig_os_handle *os;
	vmsig_name_list **modules; /* symbols of each, or NULL */
	size_t nmodules;
	uint64_t first, end; /* of what those lie in */
	uint8_t *btf;
	uint32_t btf_len;
	struct dwarf dwarf;     /* of the same types */
	const uint8_t *strings; /* of both */
	uint32_t strings_len;
	char banner[BANNER_MAX]; /* with its NUL; "": there is none */
	uint64_t banner_addr;
	size_t percpu_len;      /* to 6.14: where per-CPU symbols end that begin at 0 */
	size_t symbols, locals; /* in the file; the empty one among both */
	size_t text_len;        /* of all names */
	size_t names_len;       /* of sections */
	size_t next_local, text_at;
	size_t at[SECTIONS], len[SECTIONS];
};

/* The last one says where they end. */
static bool is_percpu(const struct parts *parts, const vmsig_symbol *symbol)
{
	return parts->percpu_len && symbol->addr <= parts->percpu_len;
}

static bool is_shown(const struct parts *parts, const vmsig_symbol *symbol)
{
	return symbol->addr >= IMAGE_FIRST || is_percpu(parts, symbol);
}

/* nm(1)'s letters: small ones are local. */
static bool is_local(const vmsig_symbol *symbol)
{
	return islower((unsigned char)symbol->type) && symbol->type != 'w' && symbol->type != 'v';
}

/* What modules say is their own, and none of it has to be there. */
static int load_modules(struct parts *parts)
{
	vmsig_module_list *list;
	int r = vmsig_os_modules(parts->os, &list);

	if (r == -VMSIG_ERR_UNSUPPORTED)
		return 0;
	if (r)
		return -r;
	parts->modules = calloc(list->count + 1, sizeof(vmsig_name_list *));
	for (size_t i = 0; parts->modules && i < list->count && !r; i++) {
		r = vmsig_os_module_symbols(parts->os, &list->modules[i], &parts->modules[i]);
		/* One that was unloaded meanwhile has none, as a kernel without kallsyms. */
		if (r != -VMSIG_ERR_NO_MEMORY && r != -VMSIG_ERR_STALE_EPOCH)
			r = 0;
		parts->nmodules++;
	}
	vmsig_module_list_free(list);
	return parts->modules ? -r : VMSIG_ERR_NO_MEMORY;
}

static void free_modules(struct parts *parts)
{
	for (size_t i = 0; i < parts->nmodules; i++)
		vmsig_name_list_free(parts->modules[i]);
	free(parts->modules);
}

typedef void (*module_symbol_fn)(uint8_t *bytes, struct parts *parts, const vmsig_name *symbol);

/* What would be an offset into per-CPU memory is left out. */
static void each_of_modules(struct parts *parts, uint8_t *bytes, module_symbol_fn take)
{
	for (size_t i = 0; i < parts->nmodules; i++) {
		const vmsig_name_list *list = parts->modules[i];

		for (size_t j = 0; list && j < list->count; j++) {
			if (list->names[j].addr >= IMAGE_FIRST)
				take(bytes, parts, &list->names[j]);
		}
	}
}

static void count_of_module(uint8_t *bytes, struct parts *parts, const vmsig_name *symbol)
{
	(void)bytes;
	parts->symbols++;
	parts->locals++;
	parts->text_len += strlen(symbol->name) + 1;
	if (!parts->end || symbol->addr < parts->first)
		parts->first = symbol->addr;
	if (symbol->addr >= parts->end)
		parts->end = symbol->addr + 1;
}

static void count(struct parts *parts)
{
	size_t n = vmsig_os_symbol_count(parts->os);

	parts->symbols = parts->locals = parts->text_len = 1;
	for (size_t i = 0; i < n; i++) {
		vmsig_symbol symbol = vmsig_os_symbol(parts->os, i);

		if (!is_shown(parts, &symbol))
			continue;
		parts->symbols++;
		parts->locals += is_local(&symbol);
		parts->text_len += strlen(symbol.name) + 1;
	}
	each_of_modules(parts, NULL, count_of_module);
	for (enum section i = NONE; i < SECTIONS; i++)
		parts->names_len += strlen(names[i]) + 1;
}

static void lay_out(struct parts *parts)
{
	size_t at = sizeof(Elf64_Ehdr) + SECTIONS * sizeof(Elf64_Shdr);

	parts->len[PERCPU] = parts->percpu_len;
	parts->len[BANNER] = parts->banner[0] ? strlen(parts->banner) + 1 : 0;
	parts->len[SYMTAB] = parts->symbols * sizeof(Elf64_Sym);
	parts->len[STRTAB] = parts->text_len;
	parts->len[BTF] = parts->btf_len;
	parts->len[DEBUG_INFO] = parts->dwarf.info_len;
	parts->len[DEBUG_ABBREV] = parts->dwarf.abbrev_len;
	parts->len[DEBUG_STR] = parts->strings_len;
	parts->len[SHSTRTAB] = parts->names_len;
	for (enum section i = NONE; i < SECTIONS; i++) {
		parts->at[i] = at;
		at = (at + parts->len[i] + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	}
}

static unsigned char info_of(const vmsig_symbol *symbol)
{
	bool function = strchr("tTwW", symbol->type) != NULL;

	return ELF64_ST_INFO(
		is_local(symbol) ? STB_LOCAL : STB_GLOBAL, function ? STT_FUNC : STT_OBJECT);
}

static Elf64_Section section_of(const struct parts *parts, const vmsig_symbol *symbol)
{
	if (parts->banner[0] && symbol->addr == parts->banner_addr)
		return BANNER;
	if (is_percpu(parts, symbol))
		return PERCPU;
	return ELF64_ST_TYPE(info_of(symbol)) == STT_FUNC ? TEXT : DATA;
}

/* Local symbols come first, as linkers have it; both keep the kernel's own order. */
static void put_symbol(
	uint8_t *bytes, struct parts *parts, size_t number, Elf64_Sym *symbol, const char *name)
{
	size_t len = strlen(name) + 1;

	symbol->st_name = (Elf64_Word)parts->text_at;
	memcpy(bytes + parts->at[SYMTAB] + number * sizeof(*symbol), symbol, sizeof(*symbol));
	memcpy(bytes + parts->at[STRTAB] + parts->text_at, name, len);
	parts->text_at += len;
}

/* All of a module's are local: several may have one name. */
static void put_of_module(uint8_t *bytes, struct parts *parts, const vmsig_name *symbol)
{
	Elf64_Sym out = {.st_value = symbol->addr,
		.st_info = ELF64_ST_INFO(STB_LOCAL, STT_NOTYPE),
		.st_shndx = MODULES};

	put_symbol(bytes, parts, parts->next_local++, &out, symbol->name);
}

static void put_symbols(uint8_t *bytes, struct parts *parts)
{
	size_t n = vmsig_os_symbol_count(parts->os), next = parts->locals;

	parts->next_local = parts->text_at = 1;

	for (size_t i = 0; i < n; i++) {
		vmsig_symbol symbol = vmsig_os_symbol(parts->os, i);
		Elf64_Sym out = {.st_value = symbol.addr};

		if (!is_shown(parts, &symbol))
			continue;
		out.st_info = info_of(&symbol);
		out.st_shndx = section_of(parts, &symbol);
		put_symbol(bytes, parts, is_local(&symbol) ? parts->next_local++ : next++, &out,
			symbol.name);
	}
	each_of_modules(parts, bytes, put_of_module);
}

static uint64_t addr_of(const struct parts *parts, const char *name)
{
	vmsig_symbol symbol;

	return vmsig_os_symbol_find(parts->os, name, &symbol) ? symbol.addr : 0;
}

static Elf64_Shdr memory(
	const struct parts *parts, const char *first, const char *end, Elf64_Xword flags)
{
	uint64_t from = addr_of(parts, first), to = addr_of(parts, end);

	return (Elf64_Shdr){.sh_type = SHT_NOBITS,
		.sh_flags = SHF_ALLOC | flags,
		.sh_addr = from,
		.sh_size = to > from ? to - from : 0,
		.sh_addralign = 16};
}

static void put_sections(uint8_t *bytes, const struct parts *parts)
{
	Elf64_Shdr sections[SECTIONS] = {
		[TEXT] = memory(parts, "_text", "_etext", SHF_EXECINSTR),
		/* Its bytes, each CPU's at the start, are not there any more. */
		[PERCPU] = {.sh_type = SHT_PROGBITS,
			.sh_flags = SHF_ALLOC | SHF_WRITE,
			.sh_size = parts->percpu_len,
			.sh_addralign = 1},
		[BANNER] = {.sh_type = SHT_PROGBITS,
			.sh_flags = SHF_ALLOC,
			.sh_addr = parts->banner_addr,
			.sh_size = parts->len[BANNER],
			.sh_addralign = 1},
		[DATA] = memory(parts, "_sdata", "_end", SHF_WRITE),
		[MODULES] = {.sh_type = SHT_NOBITS,
			.sh_flags = SHF_ALLOC | SHF_EXECINSTR | SHF_WRITE,
			.sh_addr = parts->first,
			.sh_size = parts->end - parts->first,
			.sh_addralign = 1},
		[SYMTAB] = {.sh_type = SHT_SYMTAB,
			.sh_link = STRTAB,
			.sh_info = (Elf64_Word)parts->locals,
			.sh_entsize = sizeof(Elf64_Sym)},
		[STRTAB] = {.sh_type = SHT_STRTAB},
		[BTF] = {.sh_type = SHT_PROGBITS},
		[DEBUG_INFO] = {.sh_type = SHT_PROGBITS},
		[DEBUG_ABBREV] = {.sh_type = SHT_PROGBITS},
		[DEBUG_STR] = {.sh_type = SHT_PROGBITS},
		[SHSTRTAB] = {.sh_type = SHT_STRTAB},
	};
	size_t name = 0;

	for (enum section i = NONE; i < SECTIONS; i++) {
		sections[i].sh_name = (Elf64_Word)name;
		memcpy(bytes + parts->at[SHSTRTAB] + name, names[i], strlen(names[i]) + 1);
		name += strlen(names[i]) + 1;
		sections[i].sh_offset = i ? parts->at[i] : 0;
		if (i < SYMTAB)
			continue;
		sections[i].sh_size = parts->len[i];
		sections[i].sh_addralign = ALIGN;
	}
	memcpy(bytes + sizeof(Elf64_Ehdr), sections, sizeof(sections));
}

static void put_header(uint8_t *bytes, const struct parts *parts)
{
	const Elf64_Ehdr header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
					   ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = addr_of(parts, "_text"),
		.e_shoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = SECTIONS,
		.e_shstrndx = SHSTRTAB};

	memcpy(bytes, &header, sizeof(header));
}

static void put_bytes(
	uint8_t *bytes, const struct parts *parts, enum section section, const uint8_t *from)
{
	if (parts->len[section])
		memcpy(bytes + parts->at[section], from, parts->len[section]);
}

static int make(struct symfile *file, struct parts *parts)
{
	count(parts);
	lay_out(parts);
	file->len = parts->at[SHSTRTAB] + parts->len[SHSTRTAB];
	file->bytes = calloc(1, file->len);
	if (!file->bytes)
		return VMSIG_ERR_NO_MEMORY;
	put_header(file->bytes, parts);
	put_sections(file->bytes, parts);
	put_symbols(file->bytes, parts);
	put_bytes(file->bytes, parts, BANNER, (const uint8_t *)parts->banner);
	put_bytes(file->bytes, parts, BTF, parts->btf);
	put_bytes(file->bytes, parts, DEBUG_INFO, parts->dwarf.info);
	put_bytes(file->bytes, parts, DEBUG_ABBREV, parts->dwarf.abbrev);
	put_bytes(file->bytes, parts, DEBUG_STR, parts->strings);
	return 0;
}

/* What cannot be understood is given as it is, and not once more. */
static int load_types(struct parts *parts, const struct context *context)
{
	struct btf_header header;
	struct btf *btf;
	int r = typeinfo_read(context, parts->os, &parts->btf, &parts->btf_len);

	if (r)
		return r == VMSIG_ERR_UNSUPPORTED ? 0 : r;
	btf = typeinfo_parse(parts->btf, parts->btf_len);
	if (!btf)
		return errno == ENOMEM ? VMSIG_ERR_NO_MEMORY : 0;
	memcpy(&header, parts->btf, sizeof(header));
	/* libbpf takes those of other machines, too. */
	if (header.magic == BTF_MAGIC &&
		(uint64_t)header.hdr_len + header.str_off + header.str_len <= parts->btf_len) {
		parts->strings = parts->btf + header.hdr_len + header.str_off;
		parts->strings_len = header.str_len;
		r = dwarf_init(&parts->dwarf, btf, parts->os);
	}
	btf__free(btf);
	return r;
}

/* By which debuggers tell that file and memory are of one kernel. */
static void load_banner(struct parts *parts, const struct context *context)
{
	uint64_t addr = addr_of(parts, "linux_banner");

	if (!addr || vmsig_gva_read(context->mem, context->pod.kcr3, addr, parts->banner,
			     sizeof(parts->banner) - 1))
		parts->banner[0] = '\0';
	parts->banner_addr = parts->banner[0] ? addr : 0;
}

static void find_percpu(struct parts *parts)
{
	vmsig_symbol start;
	uint64_t end = addr_of(parts, "__per_cpu_end");

	if (vmsig_os_symbol_find(parts->os, "__per_cpu_start", &start) && start.addr == 0 &&
		end < PERCPU_MAX)
		parts->percpu_len = end;
}

int symfile_init(struct symfile *file, const struct context *context, vmsig_os_handle *os)
{
	struct parts parts = {.os = os};
	int r = load_types(&parts, context);

	*file = (struct symfile){0};
	load_banner(&parts, context);
	find_percpu(&parts);
	if (!r)
		r = load_modules(&parts);
	if (!r)
		r = make(file, &parts);
	free_modules(&parts);
	dwarf_deinit(&parts.dwarf);
	free(parts.btf);
	return r;
}

void symfile_deinit(struct symfile *file)
{
	free(file->bytes);
	*file = (struct symfile){0};
}
