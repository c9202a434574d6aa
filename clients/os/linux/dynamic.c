/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/dynamic.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/names.h"
#include "vmsig/vmsig_error.h"

#define ENTRIES_MAX 4096u           /* of the dynamic section; libraries have some 30 */
#define RELOCATIONS_MAX (1u << 22)  /* the largest programs have some million */
#define BUCKETS_MAX (1u << 20)      /* no more than there may be symbols */
#define NAME_BYTES_MAX 4096u        /* a mangled name of C++ may have thousands */
#define NAMES_BYTES_MAX (64u << 20) /* all of one list */

enum dynamic_word {
	SYMBOLS,
	NAMES,
	HASH,
	GNU_HASH,
	RELOCATIONS,
	RELOCATIONS_SIZE,
	JUMPS,
	JUMPS_SIZE,
	WORDS
};

static const struct {
	int64_t tag;
	bool is_address;
} words[WORDS] = {
	[SYMBOLS] = {DT_SYMTAB, true},
	[NAMES] = {DT_STRTAB, true},
	[HASH] = {DT_HASH, true},
	[GNU_HASH] = {DT_GNU_HASH, true},
	[RELOCATIONS] = {DT_RELA, true},
	[RELOCATIONS_SIZE] = {DT_RELASZ, false},
	[JUMPS] = {DT_JMPREL, true},
	[JUMPS_SIZE] = {DT_PLTRELSZ, false},
};

struct dynamic {
	struct linux_mapped *mapped;
	const struct linux_elf *elf;
	vmsig_name_list *list;
	uint64_t entries, count; /* where its section is */
	uint64_t word[WORDS];    /* addresses in memory; 0: it has none */
	uint32_t symbols;
	uint64_t *leads; /* where imports lead, by their number; NULL: nobody asks */
	size_t bytes;    /* of names that were taken */
};

/* ---- the section ---- */

static bool find_section(struct dynamic *dynamic)
{
	const struct linux_elf *elf = dynamic->elf;

	for (unsigned i = 0; i < elf->header.e_phnum; i++) {
		const Elf64_Phdr *segment = &elf->segments[i];

		if (segment->p_type != PT_DYNAMIC)
			continue;
		dynamic->entries = segment->p_vaddr + elf->bias;
		dynamic->count = segment->p_memsz / sizeof(Elf64_Dyn);
		dynamic->count = dynamic->count < ENTRIES_MAX ? dynamic->count : ENTRIES_MAX;
		return true;
	}
	return false;
}

/* False at the end. */
static bool read_entry(const struct dynamic *dynamic, uint64_t i, Elf64_Dyn *ret_entry)
{
	if (i >= dynamic->count)
		return false;
	linux_mapped_read(dynamic->mapped, dynamic->entries + i * sizeof(*ret_entry), ret_entry,
		sizeof(*ret_entry));
	return !dynamic->mapped->fault && ret_entry->d_tag != DT_NULL;
}

/* glibc turns these addresses into those in memory in place, others and the kernel for its vdso do
 * not. */
static uint64_t relocated(const struct dynamic *dynamic, uint64_t addr)
{
	const struct linux_mapped *mapped = dynamic->mapped;

	return addr >= mapped->base && addr - mapped->base < mapped->size
		       ? addr
		       : addr + dynamic->elf->bias;
}

static void take_entry(struct dynamic *dynamic, const Elf64_Dyn *entry)
{
	for (unsigned i = 0; i < WORDS; i++) {
		if (words[i].tag != entry->d_tag || dynamic->word[i])
			continue;
		dynamic->word[i] = words[i].is_address ? relocated(dynamic, entry->d_un.d_ptr)
						       : entry->d_un.d_val;
	}
}

/* False: it has none. */
static bool load(struct dynamic *dynamic)
{
	Elf64_Dyn entry;

	if (!find_section(dynamic))
		return false;
	for (uint64_t i = 0; read_entry(dynamic, i, &entry); i++)
		take_entry(dynamic, &entry);
	return !dynamic->mapped->fault && dynamic->word[SYMBOLS] && dynamic->word[NAMES];
}

/* ---- how many symbols ---- */

static void see_symbol(struct dynamic *dynamic, uint64_t number)
{
	if (number >= LINUX_ELF_SYMBOLS_MAX)
		dynamic->list->partial = true;
	else if (number >= dynamic->symbols)
		dynamic->symbols = (uint32_t)number + 1;
}

static uint32_t half(struct dynamic *dynamic, uint64_t addr)
{
	uint32_t word;

	linux_mapped_read(dynamic->mapped, addr, &word, sizeof(word));
	return word;
}

static void see_hash(struct dynamic *dynamic)
{
	uint32_t count =
		dynamic->word[HASH] ? half(dynamic, dynamic->word[HASH] + sizeof(count)) : 0;

	if (count)
		see_symbol(dynamic, count - 1);
}

/* The last chain begins where the highest bucket says, and its last word is odd. */
static void see_gnu_hash(struct dynamic *dynamic)
{
	struct linux_mapped *mapped = dynamic->mapped;
	uint64_t at = dynamic->word[GNU_HASH], highest = 0;
	uint32_t head[4]; /* buckets, first symbol, words of the filter, shift */

	if (!at)
		return;
	linux_mapped_read(mapped, at, head, sizeof(head));
	at += sizeof(head) + (uint64_t)head[2] * 8;
	for (uint32_t i = 0; i < head[0] && i < BUCKETS_MAX && !mapped->fault; i++) {
		uint32_t bucket = half(dynamic, at + (uint64_t)i * 4);

		highest = bucket > highest ? bucket : highest;
	}
	if (head[1])
		see_symbol(dynamic, head[1] - 1);
	if (highest < head[1] || mapped->fault)
		return;
	at += (uint64_t)head[0] * 4 - (uint64_t)head[1] * 4;
	while (highest < LINUX_ELF_SYMBOLS_MAX && !mapped->fault &&
		!(half(dynamic, at + highest * 4) & 1))
		highest++;
	see_symbol(dynamic, highest);
}

typedef void (*relocation_fn)(struct dynamic *dynamic, const Elf64_Rela *relocation);

static void see_table(
	struct dynamic *dynamic, enum dynamic_word table, uint64_t size, relocation_fn see)
{
	uint64_t count = dynamic->word[table] ? size / sizeof(Elf64_Rela) : 0;
	Elf64_Rela relocation;

	if (count > RELOCATIONS_MAX)
		dynamic->list->partial = true;
	for (uint64_t i = 0; i < count && i < RELOCATIONS_MAX && !dynamic->mapped->fault; i++) {
		linux_mapped_read(dynamic->mapped, dynamic->word[table] + i * sizeof(relocation),
			&relocation, sizeof(relocation));
		if (!dynamic->mapped->fault && ELF64_R_SYM(relocation.r_info))
			see(dynamic, &relocation);
	}
	/* Symbols are there nevertheless. */
	if (linux_mapped_misses(dynamic->mapped))
		dynamic->list->partial = true;
}

static void see_relocations(struct dynamic *dynamic, relocation_fn see)
{
	see_table(dynamic, RELOCATIONS, dynamic->word[RELOCATIONS_SIZE], see);
	see_table(dynamic, JUMPS, dynamic->word[JUMPS_SIZE], see);
}

static void see_used(struct dynamic *dynamic, const Elf64_Rela *relocation)
{
	see_symbol(dynamic, ELF64_R_SYM(relocation->r_info));
}

static void count_symbols(struct dynamic *dynamic)
{
	see_hash(dynamic);
	see_gnu_hash(dynamic);
	if (linux_mapped_misses(dynamic->mapped))
		dynamic->list->partial = true;
	see_relocations(dynamic, see_used);
}

/* ---- symbols ---- */

/* Where a symbol leads that is another's. A page that was never touched is as the file has it, and
 * leads nowhere. */
static void note_lead(struct dynamic *dynamic, const Elf64_Rela *relocation)
{
	uint64_t number = ELF64_R_SYM(relocation->r_info), type = ELF64_R_TYPE(relocation->r_info);

	if (number >= dynamic->symbols || dynamic->leads[number] ||
		(type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && type != R_X86_64_64))
		return;
	linux_mapped_read(dynamic->mapped, relocation->r_offset + dynamic->elf->bias,
		&dynamic->leads[number], sizeof(dynamic->leads[number]));
	(void)linux_mapped_misses(dynamic->mapped);
}

static bool is_offered(const Elf64_Sym *symbol)
{
	unsigned bind = ELF64_ST_BIND(symbol->st_info);
	unsigned visibility = ELF64_ST_VISIBILITY(symbol->st_other);

	return symbol->st_shndx != SHN_UNDEF &&
	       (bind == STB_GLOBAL || bind == STB_WEAK || bind == STB_GNU_UNIQUE) &&
	       (visibility == STV_DEFAULT || visibility == STV_PROTECTED);
}

static int take_name(struct dynamic *dynamic, uint32_t name, uint64_t addr)
{
	char text[NAME_BYTES_MAX];

	linux_mapped_text(dynamic->mapped, dynamic->word[NAMES] + name, text, sizeof(text));
	if (linux_mapped_misses(dynamic->mapped) || dynamic->bytes > NAMES_BYTES_MAX) {
		dynamic->list->partial = true;
		return 0;
	}
	if (dynamic->mapped->fault || !text[0])
		return 0;
	dynamic->bytes += strlen(text);
	return names_append(dynamic->list, addr, text);
}

static int take_symbol(struct dynamic *dynamic, uint32_t number)
{
	Elf64_Sym symbol;
	uint64_t bias = dynamic->elf->bias;

	linux_mapped_read(dynamic->mapped, dynamic->word[SYMBOLS] + number * sizeof(symbol),
		&symbol, sizeof(symbol));
	if (linux_mapped_misses(dynamic->mapped)) {
		dynamic->list->partial = true;
		return 0;
	}
	if (dynamic->leads)
		return symbol.st_shndx == SHN_UNDEF
			       ? take_name(dynamic, symbol.st_name, dynamic->leads[number])
			       : 0;
	/* What is each thread's own is counted from there; what is absolute is no address. */
	if (ELF64_ST_TYPE(symbol.st_info) == STT_TLS || symbol.st_shndx == SHN_ABS)
		bias = 0;
	return is_offered(&symbol) ? take_name(dynamic, symbol.st_name, symbol.st_value + bias) : 0;
}

static int take_symbols(struct dynamic *dynamic)
{
	int r = 0;

	/* Number 0 is none. */
	for (uint32_t i = 1; i < dynamic->symbols && !r && !dynamic->mapped->fault; i++)
		r = take_symbol(dynamic, i);
	return r;
}

int linux_dynamic_exports(
	struct linux_mapped *mapped, const struct linux_elf *elf, vmsig_name_list *list)
{
	struct dynamic dynamic = {.mapped = mapped, .elf = elf, .list = list};

	if (!load(&dynamic))
		return 0;
	count_symbols(&dynamic);
	return take_symbols(&dynamic);
}

int linux_dynamic_imports(
	struct linux_mapped *mapped, const struct linux_elf *elf, vmsig_name_list *list)
{
	struct dynamic dynamic = {.mapped = mapped, .elf = elf, .list = list};
	int r;

	if (!load(&dynamic))
		return 0;
	count_symbols(&dynamic);
	dynamic.leads = calloc((size_t)dynamic.symbols + 1, sizeof(*dynamic.leads));
	if (!dynamic.leads)
		return VMSIG_ERR_NO_MEMORY;
	see_relocations(&dynamic, note_lead);
	r = take_symbols(&dynamic);
	free(dynamic.leads);
	return r;
}

int linux_dynamic_needed(
	struct linux_mapped *mapped, const struct linux_elf *elf, vmsig_name_list *list)
{
	struct dynamic dynamic = {.mapped = mapped, .elf = elf, .list = list};
	Elf64_Dyn entry;
	int r = 0;

	if (!load(&dynamic))
		return 0;
	for (uint64_t i = 0; !r && read_entry(&dynamic, i, &entry); i++) {
		if (entry.d_tag == DT_NEEDED && entry.d_un.d_val < UINT32_MAX)
			r = take_name(&dynamic, (uint32_t)entry.d_un.d_val, 0);
	}
	return r;
}
