/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl sections` and `exports`: what modules of a guest's kernel are made of. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clients/ctl/guest.h"

static int print_names(const struct ctl *ctl, const vmsig_name_list *list)
{
	static const struct table_column columns[] = {{"ADDRESS", 0, false}, {"NAME", 0, false}};
	json_t *array = ctl->json ? json_array() : NULL;
	struct table table;
	int code;

	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < list->count; i++) {
		const vmsig_name *name = &list->names[i];

		if (ctl->json) {
			json_array_append_new(
				array, json_pack("{s:o, s:o}", "addr", value_hex(name->addr),
					       "name", value_text(name->name)));
			continue;
		}
		table_add(&table, "0x%016" PRIx64, name->addr);
		table_add(&table, "%s", name->name);
	}
	code = ctl->json ? ctl_print_json(array) : ctl_print_table(&table);
	table_deinit(&table);
	return code;
}

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

typedef int (*take_fn)(vmsig_os_handle *os, const vmsig_module *module, vmsig_name_list **ret_list);

static int look(const struct ctl *ctl, struct ctl_guest *guest, const char *name, take_fn take,
	const char *what)
{
	vmsig_name_list *list;
	vmsig_module module;
	int code = name ? find_module(guest, name, &module) : EXIT_OK, r;

	if (code)
		return code;
	r = take(guest->os, name ? &module : NULL, &list);
	if (r)
		return ctl_guest_fail(guest, r, what);
	code = print_names(ctl, list);
	code = code ? code : ctl_guest_whole(guest, list->partial, what);
	vmsig_name_list_free(list);
	return code;
}

static int run_sections(struct ctl *ctl, int argc, char **argv)
{
	struct ctl_guest guest;
	int code = ctl_options(ctl, &ctl_sections, argc, argv, NULL, NULL, NULL);

	if (code)
		return code;
	if (optind + 2 != argc)
		return ctl_usage(&ctl_sections, "it takes one ENDPOINT and a MODULE");
	code = ctl_guest_open(ctl, argv[optind], &guest);
	if (code)
		return code;
	code = look(ctl, &guest, argv[optind + 1], vmsig_os_sections, "sections");
	ctl_guest_close(&guest);
	return code;
}

const struct ctl_command ctl_sections = {
	.name = "sections",
	.arguments = "ENDPOINT MODULE",
	.summary = "List the sections of a module of a guest's kernel",
	.help = "Examples:\n"
		"  vmsigctl sections web1 virtio_net\n",
	.run = run_sections,
};

static int run_exports(struct ctl *ctl, int argc, char **argv)
{
	struct ctl_guest guest;
	int code = ctl_options(ctl, &ctl_exports, argc, argv, NULL, NULL, NULL);

	if (code)
		return code;
	if (argc - optind != 1 && argc - optind != 2)
		return ctl_usage(&ctl_exports, "it takes one ENDPOINT, and at most one MODULE");
	code = ctl_guest_open(ctl, argv[optind], &guest);
	if (code)
		return code;
	code = look(ctl, &guest, argc - optind == 2 ? argv[optind + 1] : NULL, vmsig_os_exports,
		"exports");
	ctl_guest_close(&guest);
	return code;
}

const struct ctl_command ctl_exports = {
	.name = "exports",
	.arguments = "ENDPOINT [MODULE]",
	.summary = "List what a guest's kernel, or a module of it, offers to modules",
	.help = "Examples:\n"
		"  vmsigctl exports web1\n"
		"  vmsigctl exports web1 virtio_ring\n",
	.run = run_exports,
};
