/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl check`: what does not fit together in a guest. */
#include "clients/ctl/check.h"

#include <inttypes.h>
#include <stdio.h>

static const char *kind_text(uint32_t kind)
{
	static const char *const names[] = {"text", "process", "module", "call", "map", "thread"};

	return kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "?";
}

struct checking {
	const struct ctl *ctl;
	struct ctl_guest guest;
	struct table table;
	json_t *array;
	size_t count;
};

static void add(
	struct checking *check, uint32_t kind, uint64_t addr, const char *text, const char *basis)
{
	check->count++;
	if (check->ctl->json) {
		json_array_append_new(check->array,
			json_pack("{s:s, s:o, s:o, s:s}", "kind", kind_text(kind), "addr",
				value_hex(addr), "finding", value_text(text), "basis", basis));
		return;
	}
	table_add(&check->table, "%s", kind_text(kind));
	table_add(&check->table, "0x%" PRIx64, addr);
	table_add(&check->table, "%s", text);
	table_add(&check->table, "%s", basis);
}

static void add_page(void *ctx, uint64_t addr)
{
	struct checking *check = ctx;
	vmsig_symbol symbol = {.name = "?", .addr = addr};
	char text[256];

	(void)vmsig_os_symbol_at(check->guest.os, addr, &symbol);
	(void)snprintf(text, sizeof(text),
		"the kernel's text has changed on the page of %s+0x%" PRIx64, symbol.name,
		addr - symbol.addr);
	add(check, 0, addr, text,
		"its digest, and that of the first check in this epoch; tracing and live patches "
		"change text, too");
}

static int find_all(struct checking *check)
{
	vmsig_finding_list *list;
	bool first, partial;
	int code, r = vmsig_os_check(check->guest.os, &list);

	if (r)
		return ctl_guest_fail(&check->guest, r, "tables");
	for (size_t i = 0; i < list->count; i++)
		add(check, list->findings[i].kind, list->findings[i].addr, list->findings[i].text,
			list->findings[i].basis);
	partial = list->partial;
	vmsig_finding_list_free(list);
	code = check_text(&check->guest, add_page, check, &first);
	if (code)
		return code;
	if (first)
		ctl_note("the kernel's text is compared from the next check on");
	if (!check->count && !partial && !check->ctl->json)
		ctl_note("nothing was found, which is no proof that there is nothing");
	code = check->ctl->json ? ctl_print_json(json_incref(check->array))
	       : check->count   ? ctl_print_table(&check->table)
				: EXIT_OK;
	return code ? code : ctl_guest_whole(&check->guest, partial, "comparisons");
}

static int run_check(struct ctl *ctl, int argc, char **argv)
{
	static const struct table_column columns[] = {{"KIND", 0, false}, {"ADDRESS", 0, false},
		{"FINDING", 0, false}, {"RESTS ON", 0, false}};
	struct checking check = {.ctl = ctl};
	int code = ctl_options(ctl, &ctl_check, argc, argv, NULL, NULL, NULL);

	if (code)
		return code;
	if (optind + 1 != argc)
		return ctl_usage(&ctl_check, "it takes one ENDPOINT");
	code = ctl_guest_open(ctl, argv[optind], &check.guest);
	if (code)
		return code;
	table_init(&check.table, columns, sizeof(columns) / sizeof(columns[0]));
	check.array = json_array();
	code = find_all(&check);
	json_decref(check.array);
	table_deinit(&check.table);
	ctl_guest_close(&check.guest);
	return code;
}

const struct ctl_command ctl_check = {
	.name = "check",
	.arguments = "ENDPOINT",
	.summary = "Compare what a guest's kernel says with what is in its memory",
	.help = "Finds processes, threads and modules that lists leave out, system calls that "
		"lead elsewhere,\n"
		"memory that may be run and came from no file (as compilers at run time make it), "
		"and\n"
		"text of the kernel that is not what it was at the first check of this epoch.\n"
		"None found is no proof.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl check web1\n"
		"  vmsigctl check web1 --json | jq -r '.[] | select(.kind != \"map\") | "
		".finding'\n",
	.run = run_check,
};
