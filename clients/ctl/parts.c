/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl sections`, `exports` and `imports`: what modules of a guest's kernel are made of, and
 * the programs and libraries of its processes. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clients/ctl/images.h"
#include "clients/ctl/rows.h"

static json_t *name_json(const void *item)
{
	const vmsig_name *name = item;

	return json_pack(
		"{s:o, s:o}", "addr", value_hex(name->addr), "name", value_text(name->name));
}

static void add_name(struct table *table, const void *item)
{
	const vmsig_name *name = item;

	if (name->addr)
		table_add(table, "0x%016" PRIx64, name->addr);
	else
		table_add(table, "%s", "");
	table_add(table, "%s", name->name);
}

static int print_names(const struct ctl *ctl, const vmsig_name_list *list)
{
	static const struct table_column columns[] = {{"ADDRESS", 0, false}, {"NAME", 0, false}};
	static const struct ctl_rows rows = {.columns = columns,
		.ncolumns = sizeof(columns) / sizeof(columns[0]),
		.json = name_json,
		.add = add_name};

	return ctl_rows_print(ctl, &rows, list->names, list->count, sizeof(*list->names));
}

/* What one of the commands takes of what. */
struct part_kind {
	const struct ctl_command *command;
	const char *what;
	/* Of a module of the kernel; NULL: it has none. */
	int (*of_module)(
		vmsig_os_handle *os, const vmsig_module *module, vmsig_name_list **ret_list);
	bool of_kernel; /* and of the kernel itself */
	int (*of_image)(vmsig_os_handle *os, const vmsig_proc *process, const vmsig_image *image,
		vmsig_name_list **ret_list);
};

/* ---- the kernel's ---- */

static int find_module(const struct ctl_guest *guest, const char *name, vmsig_module *ret_module)
{
	vmsig_module_list *list;
	int r = vmsig_os_modules(guest->os, &list);
	bool found = false;

	if (r)
		return ctl_guest_fail(guest, r, "modules");
	for (size_t i = 0; i < list->count && !found; i++) {
		*ret_module = list->modules[i];
		found = strcmp(name, ret_module->name) == 0;
	}
	vmsig_module_list_free(list);
	if (found)
		return EXIT_OK;
	ctl_fail_with(VMSIG_ERR_NOT_MAPPED, "see `vmsigctl modules`", "%s has no module '%s'",
		guest->endpoint, name);
	return EXIT_NOT_FOUND;
}

static int look_at_module(const struct ctl *ctl, struct ctl_guest *guest, const char *name,
	const struct part_kind *parts)
{
	vmsig_name_list *list;
	vmsig_module module;
	int code = name ? find_module(guest, name, &module) : EXIT_OK, r;

	if (code)
		return code;
	r = parts->of_module(guest->os, name ? &module : NULL, &list);
	if (r)
		return ctl_guest_fail(guest, r, parts->what);
	code = print_names(ctl, list);
	code = code ? code : ctl_guest_whole(guest, list->partial, parts->what);
	vmsig_name_list_free(list);
	return code;
}

/* ---- a process' ---- */

static int look_at_image(const struct ctl *ctl, struct ctl_guest *guest, const char *pid,
	const char *name, const struct part_kind *parts)
{
	struct ctl_image image;
	vmsig_name_list *list;
	int code = ctl_image_find(guest, pid, name, &image), r;

	if (code)
		return code;
	r = parts->of_image(guest->os, &image.process, image.image, &list);
	if (r) {
		ctl_image_close(&image);
		return ctl_guest_fail(guest, r, parts->what);
	}
	code = print_names(ctl, list);
	code = code ? code : ctl_image_whole(guest, image.image, list->partial, parts->what);
	vmsig_name_list_free(list);
	ctl_image_close(&image);
	return code;
}

/* ---- the commands ---- */

static bool handle(void *ctx, int code, const char *value)
{
	const char **pid = ctx;

	*pid = value;
	return ctl_is_pid(value);
}

static int run(const struct part_kind *parts, struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {
		{"pid", required_argument, NULL, CTL_OPT_PID}, {NULL, 0, NULL, 0}};
	const char *pid = NULL, *name;
	struct ctl_guest guest;
	int code = ctl_options(ctl, parts->command, argc, argv, own, handle, &pid);

	if (code)
		return code;
	if (argc - optind != 1 && argc - optind != 2)
		return ctl_usage(parts->command, "it takes one ENDPOINT, and at most one MODULE");
	name = argc - optind == 2 ? argv[optind + 1] : NULL;
	if (!pid && (!parts->of_module || (!name && !parts->of_kernel)))
		return ctl_usage(parts->command, "it takes %s",
			parts->of_module ? "a MODULE, or the --pid of a process"
					 : "the --pid of a process");
	code = ctl_guest_open(ctl, argv[optind], &guest);
	if (code)
		return code;
	code = pid ? look_at_image(ctl, &guest, pid, name, parts)
		   : look_at_module(ctl, &guest, name, parts);
	ctl_guest_close(&guest);
	return code;
}

static int run_sections(struct ctl *ctl, int argc, char **argv)
{
	static const struct part_kind parts = {.command = &ctl_sections,
		.what = "sections",
		.of_module = vmsig_os_sections,
		.of_image = vmsig_os_image_sections};

	return run(&parts, ctl, argc, argv);
}

#define PID_HELP                                                                                   \
	"  --pid PID  of a program or library of a process: MODULE is its path, or the last\n"     \
	"             part of that; without MODULE, of what the process was started from\n"

const struct ctl_command ctl_sections = {
	.name = "sections",
	.arguments = "ENDPOINT MODULE | --pid PID ENDPOINT [MODULE]",
	.summary = "List the sections of a module of a guest's kernel or of a process",
	.help = PID_HELP "\n"
			 "Examples:\n"
			 "  vmsigctl sections web1 virtio_net\n"
			 "  vmsigctl sections web1 --pid 812 libc.so.6\n",
	.run = run_sections,
};

static int run_exports(struct ctl *ctl, int argc, char **argv)
{
	static const struct part_kind parts = {.command = &ctl_exports,
		.what = "exports",
		.of_module = vmsig_os_exports,
		.of_kernel = true,
		.of_image = vmsig_os_image_exports};

	return run(&parts, ctl, argc, argv);
}

const struct ctl_command ctl_exports = {
	.name = "exports",
	.arguments = "ENDPOINT [MODULE] | --pid PID ENDPOINT [MODULE]",
	.summary = "List what a guest's kernel or a library offers to others",
	.help = PID_HELP "\n"
			 "Examples:\n"
			 "  vmsigctl exports web1\n"
			 "  vmsigctl exports web1 virtio_ring\n"
			 "  vmsigctl exports web1 --pid 812 libc.so.6\n",
	.run = run_exports,
};

static int run_imports(struct ctl *ctl, int argc, char **argv)
{
	static const struct part_kind parts = {
		.command = &ctl_imports, .what = "imports", .of_image = vmsig_os_image_imports};

	return run(&parts, ctl, argc, argv);
}

const struct ctl_command ctl_imports = {
	.name = "imports",
	.arguments = "--pid PID ENDPOINT [MODULE]",
	.summary = "List what a program or library of a process takes from others",
	.help = PID_HELP "\n"
			 "The address is where it leads now; none: it was not needed yet.\n"
			 "\n"
			 "Examples:\n"
			 "  vmsigctl imports web1 --pid 812\n"
			 "  vmsigctl imports web1 --pid 812 --json | jq -r '.[] | .name'\n",
	.run = run_imports,
};
