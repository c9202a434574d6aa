/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl modules` and `symbols`: what a guest's kernel is made of. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clients/common/isf.h"
#include "clients/common/symfile.h"
#include "clients/common/text.h"
#include "clients/ctl/images.h"
#include "clients/ctl/output.h"
#include "clients/ctl/rows.h"

#define SYMBOL_SHOWN 640u /* bytes of a name with its NUL; the kernel's are shorter */

/* ---- modules ---- */

static json_t *module_json(const void *item)
{
	const vmsig_module *module = item;

	return json_pack("{s:o, s:o, s:I, s:o}", "name", value_text(module->name), "base",
		value_hex(module->base), "size", (json_int_t)module->size, "object",
		value_hex(module->object));
}

static void add_module(struct table *table, const void *item)
{
	const vmsig_module *module = item;

	table_add(table, "0x%016" PRIx64, module->base);
	table_add(table, "%" PRIu64, module->size);
	table_add(table, "%s", module->name);
}

static int print_modules(const struct ctl *ctl, const vmsig_module_list *list)
{
	static const struct table_column columns[] = {
		{"BASE", 0, false}, {"SIZE", 0, true}, {"NAME", 0, false}};
	static const struct ctl_rows rows = {.columns = columns,
		.ncolumns = sizeof(columns) / sizeof(columns[0]),
		.json = module_json,
		.add = add_module};

	return ctl_rows_print(ctl, &rows, list->modules, list->count, sizeof(*list->modules));
}

static int look_at_modules(const struct ctl *ctl, struct ctl_guest *guest, const char *pid)
{
	vmsig_module_list *list;
	int r, code;

	if (pid)
		return ctl_images_print(ctl, guest, pid);
	r = vmsig_os_modules(guest->os, &list);
	if (r)
		return ctl_guest_fail(guest, r, "modules");
	code = print_modules(ctl, list);
	code = code ? code : ctl_guest_whole(guest, list->partial, "modules");
	vmsig_module_list_free(list);
	return code;
}

static int run_modules(struct ctl *ctl, int argc, char **argv)
{
	return ctl_guest_run(ctl, &ctl_modules, argc, argv, look_at_modules);
}

const struct ctl_command ctl_modules = {
	.name = "modules",
	.arguments = "[--pid PID] ENDPOINT",
	.summary = "List the modules of a guest's kernel, or what a process has loaded",
	.help = "  --pid PID  programs and libraries that the process has mapped\n"
		"\n"
		"Examples:\n"
		"  vmsigctl modules web1\n"
		"  vmsigctl modules web1 --pid 812\n",
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

/* The file formats that symbols are wanted in. */
enum { OPT_ELF = CTL_OPT_FIRST, OPT_ISF };

struct symbols_file {
	const char *path; /* NULL: none is wanted */
	int format;
};

static bool handle_symbols(void *ctx, int code, const char *value)
{
	struct symbols_file *file = ctx;

	if (file->path)
		return false;
	*file = (struct symbols_file){.path = value, .format = code};
	return true;
}

static int write_elf(FILE *to, const struct ctl_guest *guest)
{
	struct symfile file;
	int r = symfile_init(&file, &guest->context, guest->os);

	if (r)
		return ctl_guest_fail(guest, r, "symbols");
	(void)fwrite(file.bytes, 1, file.len, to);
	symfile_deinit(&file);
	return EXIT_OK;
}

static int write_isf(FILE *to, const struct ctl_guest *guest)
{
	char error[256];
	int r = isf_write(to, &guest->context, guest->os, error, sizeof(error));

	return r ? ctl_fail_about(guest->endpoint, r, error[0] ? error : vmsig_error_text(r))
		 : EXIT_OK;
}

static int write_symbols(const struct ctl_guest *guest, const struct symbols_file *file)
{
	struct ctl_output output;
	int code = ctl_output_open(&output, file->path), fd;
	FILE *to;

	if (code)
		return code;
	/* A descriptor of its own: the output is closed by whoever opened it. */
	fd = fcntl(output.fd, F_DUPFD_CLOEXEC, 0);
	to = fd < 0 ? NULL : fdopen(fd, "w");
	if (!to) {
		if (fd >= 0)
			close(fd);
		code = ctl_fail(VMSIG_ERR_IO, "cannot write %s: %s", file->path, strerror(errno));
		return ctl_output_close(&output, code);
	}
	code = file->format == OPT_ELF ? write_elf(to, guest) : write_isf(to, guest);
	if ((ferror(to) | fclose(to)) && !code)
		code = ctl_fail(VMSIG_ERR_IO, "cannot write %s: %s", file->path, strerror(errno));
	return ctl_output_close(&output, code);
}

static int run_symbols(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"elf", required_argument, NULL, OPT_ELF},
		{"isf", required_argument, NULL, OPT_ISF}, {NULL, 0, NULL, 0}};
	struct symbols_file file = {0};
	struct ctl_guest guest;
	int code = ctl_options(ctl, &ctl_symbols, argc, argv, own, handle_symbols, &file);

	if (code)
		return code;
	if (argc - optind != 1 && (file.path || argc - optind != 2))
		return ctl_usage(&ctl_symbols, "it takes one ENDPOINT, and a pattern or a file");
	code = ctl_guest_open(ctl, argv[optind], &guest);
	if (code)
		return code;
	if (file.path)
		code = write_symbols(&guest, &file);
	else
		code = print_symbols(ctl, guest.os, argc - optind == 2 ? argv[optind + 1] : NULL);
	ctl_guest_close(&guest);
	return code;
}

const struct ctl_command ctl_symbols = {
	.name = "symbols",
	.arguments = "ENDPOINT [GLOB | --elf FILE | --isf FILE]",
	.summary = "List the symbols of a guest's kernel, as /proc/kallsyms does",
	.help = "  --elf FILE  symbols and types as an ELF file that gdb, crash and drgn load "
		"beside the memory\n"
		"  --isf FILE  the symbol table that Volatility 3 takes, for every boot of that "
		"kernel\n"
		"\n"
		"FILE does not exist yet, or is - for standard output.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl symbols web1 'tcp_*'\n"
		"  vmsigctl symbols web1 init_task --json | jq -r .addr\n"
		"  vmsigctl symbols web1 --elf web1.elf\n"
		"  gdb web1.elf -ex 'target remote | vmsigctl gdb web1'\n",
	.run = run_symbols,
};
