/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl modules` and `symbols`: what a guest's kernel is made of. */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>

#include "clients/common/text.h"
#include "clients/ctl/guest.h"

#define SYMBOL_SHOWN 640u /* bytes of a name with its NUL; the kernel's are shorter */

/* ---- modules ---- */

static int print_modules(const struct ctl *ctl, const vmsig_module_list *list)
{
	static const struct table_column columns[] = {
		{"BASE", 0, false}, {"SIZE", 0, true}, {"NAME", 0, false}};
	json_t *array = ctl->json ? json_array() : NULL;
	struct table table;
	int code;

	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < list->count; i++) {
		const vmsig_module *module = &list->modules[i];

		if (ctl->json) {
			json_array_append_new(array,
				json_pack("{s:o, s:o, s:I, s:o}", "name", value_text(module->name),
					"base", value_hex(module->base), "size",
					(json_int_t)module->size, "object",
					value_hex(module->object)));
			continue;
		}
		table_add(&table, "0x%016" PRIx64, module->base);
		table_add(&table, "%" PRIu64, module->size);
		table_add(&table, "%s", module->name);
	}
	code = ctl->json ? ctl_print_json(array) : ctl_print_table(&table);
	table_deinit(&table);
	return code;
}

static int run_modules(struct ctl *ctl, int argc, char **argv)
{
	vmsig_module_list *list;
	struct ctl_guest guest;
	int code = ctl_options(ctl, &ctl_modules, argc, argv, NULL, NULL, NULL), r;

	if (code)
		return code;
	if (optind + 1 != argc)
		return ctl_usage(&ctl_modules, "it takes one ENDPOINT");
	code = ctl_guest_open(ctl, argv[optind], &guest);
	if (code)
		return code;
	r = vmsig_os_modules(guest.os, &list);
	if (r) {
		code = ctl_guest_fail(&guest, r, "modules");
	} else {
		code = print_modules(ctl, list);
		code = code ? code : ctl_guest_whole(&guest, list->partial, "modules");
		vmsig_module_list_free(list);
	}
	ctl_guest_close(&guest);
	return code;
}

const struct ctl_command ctl_modules = {
	.name = "modules",
	.arguments = "ENDPOINT",
	.summary = "List the modules of a guest's kernel",
	.help = "Examples:\n"
		"  vmsigctl modules web1\n",
	.run = run_modules,
};

/* ---- symbols ---- */

/* The guest chose the name. */
static void print_symbol(const vmsig_symbol *symbol)
{
	char name[SYMBOL_SHOWN];

	snprintf(name, sizeof(name), "%s", symbol->name);
	text_clean(name);
	printf("%016" PRIx64 " %c %s\n", symbol->addr, symbol->type, name);
}

/* As /proc/kallsyms has them: there are too many for a table that has to know all of its cells. */
static int print_symbols(const struct ctl *ctl, const vmsig_os_handle *os, const char *glob)
{
	size_t count = vmsig_os_symbol_count(os), found = 0;
	int code = EXIT_OK;

	for (size_t i = 0; i < count && !code; i++) {
		vmsig_symbol symbol = vmsig_os_symbol(os, i);

		if (glob && fnmatch(glob, symbol.name, 0) != 0)
			continue;
		found++;
		if (ctl->json)
			code = ctl_print_json(
				json_pack("{s:o, s:s#, s:o}", "addr", value_hex(symbol.addr),
					"type", &symbol.type, 1, "name", value_text(symbol.name)));
		else
			print_symbol(&symbol);
	}
	if (!code && !found) {
		ctl_fail_with(VMSIG_ERR_NOT_MAPPED, NULL, "no symbol is called '%s'", glob);
		return EXIT_NOT_FOUND;
	}
	return code ? code : ctl_flush();
}

static int run_symbols(struct ctl *ctl, int argc, char **argv)
{
	struct ctl_guest guest;
	int code = ctl_options(ctl, &ctl_symbols, argc, argv, NULL, NULL, NULL);

	if (code)
		return code;
	if (argc - optind != 1 && argc - optind != 2)
		return ctl_usage(&ctl_symbols, "it takes one ENDPOINT and maybe a pattern");
	code = ctl_guest_open(ctl, argv[optind], &guest);
	if (code)
		return code;
	code = print_symbols(ctl, guest.os, argc - optind == 2 ? argv[optind + 1] : NULL);
	ctl_guest_close(&guest);
	return code;
}

const struct ctl_command ctl_symbols = {
	.name = "symbols",
	.arguments = "ENDPOINT [GLOB]",
	.summary = "List the symbols of a guest's kernel, as /proc/kallsyms does",
	.help = "Examples:\n"
		"  vmsigctl symbols web1 'tcp_*'\n"
		"  vmsigctl symbols web1 init_task --json | jq -r .addr\n",
	.run = run_symbols,
};
