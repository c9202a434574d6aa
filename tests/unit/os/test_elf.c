/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries of a process in memory that is made here: what they say is found, and whatever they
 * say, looking ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/linux/contents.h"
#include "clients/os/names.h"
#include "tests/unit/os/memory.h"
#include "vmsig/vmsig_error.h"

#define KERNEL_HALF 0xffff888000000000ull
#define SIZE (4u << 20)
#define PRESENT 7u
#define LARGE 0x80u

/* Where things are: in bytes of memory, and in the library. */
enum { TASK = 0x10000, LIBRARY = 2 << 20 };
enum {
	SEGMENTS = 0x40,
	SYMBOLS = 0x200,
	NAMES = 0x300,
	GNU_HASH = 0x380,

	DYNAMIC = 0x500,
	SECTIONS = 0x600,
	SLOTS = 0x1000,
	RELOCATIONS = 0x1100, /* nothing follows */
	SIZE_OF_IT = 0x2000
};

#define BASE 0x7f0000200000ull
#define PREFERRED 0x10000ull /* where its headers say that it begins */

struct lab {
	struct memory memory;
	vmsig_proc process;
	vmsig_image image;
};

static void put_in(struct lab *lab, uint64_t at, const void *bytes, size_t len)
{
	memcpy(lab->memory.bytes + LIBRARY + at, bytes, len);
}

/* The process' half has the last two megabytes, too. */
static void make_tables(struct lab *lab)
{
	memory_map_all(&lab->memory, KERNEL_HALF);
	memory_put(&lab->memory, MEMORY_ROOT + (BASE >> 39 & 511) * 8, 0x4000 | PRESENT);
	memory_put(&lab->memory, 0x4000 + (BASE >> 30 & 511) * 8, 0x5000 | PRESENT);
	memory_put(&lab->memory, 0x5000 + (BASE >> 21 & 511) * 8, LIBRARY | PRESENT | LARGE);
}

static void make_headers(struct lab *lab)
{
	const Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB},
		.e_machine = EM_X86_64,
		.e_phoff = SEGMENTS,
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 2,
		.e_shoff = SECTIONS,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = 3,
		.e_shstrndx = 2};
	const Elf64_Phdr segments[] = {
		{.p_type = PT_LOAD, .p_vaddr = PREFERRED, .p_memsz = SIZE_OF_IT},
		{.p_type = PT_DYNAMIC, .p_vaddr = PREFERRED + DYNAMIC, .p_memsz = 0x100}};
	const Elf64_Shdr sections[] = {{0},
		{.sh_name = 1, .sh_flags = SHF_ALLOC, .sh_addr = PREFERRED + SYMBOLS},
		{.sh_offset = NAMES}};

	put_in(lab, 0, &header, sizeof(header));
	put_in(lab, SEGMENTS, segments, sizeof(segments));
	put_in(lab, SECTIONS, sections, sizeof(sections));
}

/* The first two addresses are in memory's terms, as glibc leaves them, the others in the file's. */
static void make_dynamic(struct lab *lab)
{
	static const char names[] = "\0taken\0offered\0hidden\0libother.so\0";
	const Elf64_Dyn dynamic[] = {{DT_NEEDED, {22}}, {DT_SYMTAB, {BASE + SYMBOLS}},
		{DT_STRTAB, {BASE + NAMES}}, {DT_GNU_HASH, {PREFERRED + GNU_HASH}},
		{DT_RELA, {PREFERRED + RELOCATIONS}}, {DT_RELASZ, {sizeof(Elf64_Rela)}},
		{DT_NULL, {0}}};
	const Elf64_Sym symbols[] = {{0},
		{.st_name = 1, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC)},
		{.st_name = 7,
			.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
			.st_shndx = 1,
			.st_value = PREFERRED + 0x1234},
		{.st_name = 15,
			.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
			.st_other = STV_HIDDEN,
			.st_shndx = 1,
			.st_value = PREFERRED + 0x1238}};
	/* One bucket, symbols from 2 on, a filter of one word; the chain is of two. */
	const uint32_t hash[] = {1, 2, 1, 0, 0, 0, 2, 0x10, 0x11};
	const Elf64_Rela relocation = {
		.r_offset = PREFERRED + SLOTS, .r_info = ELF64_R_INFO(1, R_X86_64_JUMP_SLOT)};

	put_in(lab, NAMES, names, sizeof(names));
	put_in(lab, DYNAMIC, dynamic, sizeof(dynamic));
	put_in(lab, SYMBOLS, symbols, sizeof(symbols));
	put_in(lab, GNU_HASH, hash, sizeof(hash));
	put_in(lab, RELOCATIONS, &relocation, sizeof(relocation));
	memory_put(&lab->memory, LIBRARY + SLOTS, 0x7f1111111111);
}

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	assert_true(memory_make(&lab->memory, SIZE));
	memory_field(&lab->memory, LINUX_TASK_START, 0, 8);
	memory_field(&lab->memory, LINUX_TASK_PID, 8, 4);
	memory_field(&lab->memory, LINUX_MM_MAP_COUNT, 0, 4);
	make_tables(lab);
	make_headers(lab);
	make_dynamic(lab);
	/* Without maps of files: what a page of is not there has no other place. */
	lab->process = (vmsig_proc){
		.object = KERNEL_HALF + TASK, .root = MEMORY_ROOT, .flags = VMSIG_PROC_KERNEL};
	lab->image = (vmsig_image){.base = BASE, .size = SIZE_OF_IT};
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	memory_free(&lab->memory);
	free(lab);
	return 0;
}

/* The names and addresses, "name@address" each; "..." behind: it is partial. */
static void is_list(vmsig_name_list *names, const char *wanted)
{
	char text[256] = "";

	for (size_t i = 0; i < names->count; i++)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s@%llx ",
			names->names[i].name, (unsigned long long)names->names[i].addr);
	(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s",
		names->partial ? "..." : "");
	assert_string_equal(text, wanted);
	names_clear(names);
	free(names->names);
}

static void list(struct lab *lab, linux_contents_fn take, const char *wanted)
{
	vmsig_name_list names = {0}, *lists[] = {&names};

	assert_int_equal(
		linux_contents(&lab->memory.kernel, &lab->process, &lab->image, 1, take, lists), 0);
	is_list(&names, wanted);
}

static void a_library_says_what_it_has(void **state)
{
	struct lab *lab = *state;

	list(lab, linux_dynamic_exports, "offered@7f0000201234 ");
	list(lab, linux_dynamic_imports, "taken@7f1111111111 ");
	list(lab, linux_dynamic_needed, "libother.so@0 ");
	list(lab, linux_elf_sections, "taken@7f0000200200 ");
}

static void several_are_each_as_one_by_itself(void **state)
{
	struct lab *lab = *state;
	vmsig_image images[] = {
		lab->image, {.base = BASE + (8u << 20), .size = SIZE_OF_IT}, lab->image};
	vmsig_name_list names[3] = {{0}}, *lists[] = {&names[0], &names[1], &names[2]};

	assert_int_equal(linux_contents(&lab->memory.kernel, &lab->process, images, 3,
				 linux_dynamic_needed, lists),
		0);
	is_list(&names[0], "libother.so@0 ");
	is_list(&names[1], "...");
	is_list(&names[2], "libother.so@0 ");
}

static void what_does_not_fit_is_left_out(void **state)
{
	static const uint64_t everywhere[] = {
		0, BASE - 8, BASE + SIZE_OF_IT - 4, KERNEL_HALF, UINT64_MAX, 1ull << 63};
	struct lab *lab = *state;

	/* Names outside of it are the kernel's own, or another's. */
	for (size_t i = 0; i < sizeof(everywhere) / sizeof(everywhere[0]); i++) {
		memory_put(
			&lab->memory, LIBRARY + DYNAMIC + 2 * sizeof(Elf64_Dyn) + 8, everywhere[i]);
		list(lab, linux_dynamic_needed, "...");
	}
	memory_put(&lab->memory, LIBRARY + DYNAMIC + 2 * sizeof(Elf64_Dyn) + 8, BASE + NAMES);
	/* More relocations than there is room for. */
	memory_put(&lab->memory, LIBRARY + DYNAMIC + 5 * sizeof(Elf64_Dyn) + 8, UINT64_MAX);
	list(lab, linux_dynamic_imports, "taken@7f1111111111 ...");
}

/* How it says so is no matter; it comes to an end, with no more than there is. */
static void whatever_a_library_says_looking_ends(void **state)
{
	static const linux_contents_fn lists[] = {linux_dynamic_exports, linux_dynamic_imports,
		linux_dynamic_needed, linux_elf_sections};
	static const uint8_t odd[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	struct lab *lab = *state;

	for (uint64_t at = 0; at < SECTIONS + 3 * sizeof(Elf64_Shdr); at++) {
		uint8_t was = lab->memory.bytes[LIBRARY + at];

		for (size_t i = 0; i < sizeof(odd); i++) {
			lab->memory.bytes[LIBRARY + at] = odd[i];
			for (size_t j = 0; j < sizeof(lists) / sizeof(lists[0]); j++) {
				vmsig_name_list names = {0}, *given[] = {&names};
				int r = linux_contents(&lab->memory.kernel, &lab->process,
					&lab->image, 1, lists[j], given);

				assert_true(r == 0 || r == VMSIG_ERR_TORN);
				names_clear(&names);
				free(names.names);
			}
		}
		lab->memory.bytes[LIBRARY + at] = was;
	}
	list(lab, linux_dynamic_exports, "offered@7f0000201234 ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_library_says_what_it_has, setup, teardown),
		cmocka_unit_test_setup_teardown(several_are_each_as_one_by_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(what_does_not_fit_is_left_out, setup, teardown),
		cmocka_unit_test_setup_teardown(
			whatever_a_library_says_looking_ends, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
