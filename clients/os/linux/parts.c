/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/parts.h"

#include <elf.h>
#include <string.h>

#include "clients/os/names.h"
#include "vmsig/vmsig_error.h"

#define NAME_MAX_BYTES 512u /* KSYM_NAME_LEN, include/linux/kallsyms.h */

struct parts_walk {
	const vmsig_module *module;
	vmsig_name_list *list;
};

static int take(struct linux_kernel *kernel, uint64_t addr, uint64_t name, vmsig_name_list *list)
{
	char text[NAME_MAX_BYTES];

	linux_text(kernel, name, text, sizeof(text));
	if (list->count == LINUX_PARTS_MAX)
		linux_torn(kernel);
	if (kernel->fault || !linux_room(kernel, sizeof(list->names[0]) + strlen(text)))
		return 0;
	return names_append(list, addr, text);
}

/* ---- sections ---- */

/* To 6.13: as many as it says. */
static int take_counted(struct linux_kernel *kernel, uint64_t attrs, vmsig_name_list *list)
{
	uint64_t n = linux_get(kernel, attrs, LINUX_SECTIONS_COUNT);
	uint64_t at = linux_at(kernel, attrs, LINUX_SECTIONS_ATTRS);
	uint32_t size = kernel->fields.size[LINUX_STRUCT_SECTION];
	int r = 0;

	for (uint64_t i = 0; i < n && !r && !kernel->fault; i++)
		r = take(kernel, linux_get(kernel, at + i * size, LINUX_SECTION_ADDR),
			linux_get(kernel, at + i * size, LINUX_SECTION_NAME), list);
	return r;
}

/* Later: pointers to files of sysfs, up to a NULL. */
static int take_group(struct linux_kernel *kernel, uint64_t attrs, vmsig_name_list *list)
{
	uint64_t at = linux_get(kernel, attrs, LINUX_SECTIONS_GROUP), attr;
	int r = 0;

	for (; !r && (attr = linux_word(kernel, at)); at += sizeof(attr))
		r = take(kernel, linux_get(kernel, attr, LINUX_ATTR_PRIVATE),
			linux_get(kernel, attr, LINUX_ATTR_NAME), list);
	return r;
}

static int walk_sections(struct linux_kernel *kernel, void *ctx)
{
	const struct parts_walk *parts = ctx;
	uint64_t attrs = linux_get(kernel, parts->module->object, LINUX_MODULE_SECTIONS);

	names_clear(parts->list);
	if (!attrs || kernel->fault)
		return 0;
	return linux_has(kernel, LINUX_SECTIONS_COUNT) ? take_counted(kernel, attrs, parts->list)
						       : take_group(kernel, attrs, parts->list);
}

int linux_parts_sections(
	struct linux_kernel *kernel, const vmsig_module *module, vmsig_name_list *ret_list)
{
	struct parts_walk parts = {.module = module, .list = ret_list};

	return linux_walk(kernel, walk_sections, &parts, &ret_list->partial);
}

/* ---- symbols ---- */

/* ELF's own, of which only those are kept that lie in what is loaded. */
static int walk_symbols(struct linux_kernel *kernel, void *ctx)
{
	static const enum linux_field needed[] = {LINUX_MODULE_KALLSYMS, LINUX_KALLSYMS_SYMBOLS,
		LINUX_KALLSYMS_COUNT, LINUX_KALLSYMS_NAMES};
	const struct parts_walk *parts = ctx;
	uint64_t table, at, names, n;
	int r = 0;

	names_clear(parts->list);
	linux_need(kernel, needed, sizeof(needed) / sizeof(needed[0]));
	table = linux_get(kernel, parts->module->object, LINUX_MODULE_KALLSYMS);
	at = linux_get(kernel, table, LINUX_KALLSYMS_SYMBOLS);
	names = linux_get(kernel, table, LINUX_KALLSYMS_NAMES);
	n = linux_get(kernel, table, LINUX_KALLSYMS_COUNT);
	/* Number 0 is none. */
	for (uint64_t i = 1; i < n && !r && !kernel->fault; i++) {
		Elf64_Sym symbol;

		linux_read(kernel, at + i * sizeof(symbol), &symbol, sizeof(symbol));
		if (symbol.st_name && symbol.st_shndx != SHN_UNDEF)
			r = take(kernel, symbol.st_value, names + symbol.st_name, parts->list);
	}
	return r;
}

int linux_parts_symbols(
	struct linux_kernel *kernel, const vmsig_module *module, vmsig_name_list *ret_list)
{
	struct parts_walk parts = {.module = module, .list = ret_list};

	return linux_walk(kernel, walk_symbols, &parts, &ret_list->partial);
}

/* ---- exports ---- */

/* struct kernel_symbol: where the value and the name are, each from the word that says so. */
static int take_exports(struct linux_kernel *kernel, uint64_t at, uint64_t n, vmsig_name_list *list)
{
	uint32_t size = kernel->fields.size[LINUX_STRUCT_EXPORT];
	int32_t words[2];
	int r = 0;

	if (size < sizeof(words) || !linux_has(kernel, LINUX_EXPORT_VALUE))
		return linux_lacks(kernel, "kernel_symbol.value_offset");
	for (uint64_t i = 0; i < n && !r && !kernel->fault; i++) {
		linux_read(kernel, at + i * size, words, sizeof(words));
		r = take(kernel, at + i * size + (uint64_t)(int64_t)words[0],
			at + i * size + sizeof(words[0]) + (uint64_t)(int64_t)words[1], list);
	}
	return r;
}

/* The kernel's own tables lie between two symbols each. */
static int take_table(
	struct linux_kernel *kernel, const char *start, const char *stop, vmsig_name_list *list)
{
	uint64_t from = linux_symbols_addr(&kernel->symbols, start);
	uint64_t to = linux_symbols_addr(&kernel->symbols, stop);
	uint32_t size = kernel->fields.size[LINUX_STRUCT_EXPORT];

	if (!size)
		return linux_lacks(kernel, "kernel_symbol.value_offset");
	return from && to > from ? take_exports(kernel, from, (to - from) / size, list) : 0;
}

static int take_member(struct linux_kernel *kernel, uint64_t module, enum linux_field symbols,
	enum linux_field count, vmsig_name_list *list)
{
	/* Newer ones have one table of both, and those that do not say what they have are not
	 * asked. */
	if (kernel->inferred)
		return linux_lacks(kernel, linux_field_path(symbols));
	if (!linux_has(kernel, symbols) || !linux_has(kernel, count))
		return 0;
	return take_exports(
		kernel, linux_get(kernel, module, symbols), linux_get(kernel, module, count), list);
}

static int walk_exports(struct linux_kernel *kernel, void *ctx)
{
	const struct parts_walk *parts = ctx;
	vmsig_name_list *list = parts->list;
	uint64_t module = parts->module ? parts->module->object : 0;
	int r;

	names_clear(list);
	if (!module) {
		r = take_table(kernel, "__start___ksymtab", "__stop___ksymtab", list);
		return r ? r
			 : take_table(
				   kernel, "__start___ksymtab_gpl", "__stop___ksymtab_gpl", list);
	}
	r = take_member(kernel, module, LINUX_MODULE_SYMS, LINUX_MODULE_NUM_SYMS, list);
	return r ? r
		 : take_member(
			   kernel, module, LINUX_MODULE_GPL_SYMS, LINUX_MODULE_NUM_GPL_SYMS, list);
}

int linux_parts_exports(
	struct linux_kernel *kernel, const vmsig_module *module, vmsig_name_list *ret_list)
{
	struct parts_walk parts = {.module = module, .list = ret_list};

	return linux_walk(kernel, walk_exports, &parts, &ret_list->partial);
}
