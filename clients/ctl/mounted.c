/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl mounts`: what is mounted in a guest. */
#include <stdio.h>

#include "clients/ctl/guest.h"
#include "clients/ctl/rows.h"

#define INIT "1" /* whose mounts are meant when nobody says whose */

static json_t *mount_json(const void *item)
{
	const vmsig_mount *mount = item;

	return json_pack("{s:o, s:o, s:b, s:o, s:o}", "path", value_text(mount->path), "type",
		value_text(mount->type), "read_only", mount->read_only, "source",
		value_text(mount->source), "object", value_hex(mount->object));
}

static void add_mount(struct table *table, const void *item)
{
	const vmsig_mount *mount = item;

	table_add(table, "%s", mount->path);
	table_add(table, "%s", mount->type);
	table_add(table, "%s", mount->read_only ? "ro" : "rw");
	table_add(table, "%s", mount->source);
}

static int print_mounts(const struct ctl *ctl, const vmsig_mount_list *list)
{
	static const struct table_column columns[] = {
		{"PATH", 0, false}, {"TYPE", 0, false}, {"RIGHTS", 0, false}, {"SOURCE", 0, false}};
	static const struct ctl_rows rows = {.columns = columns,
		.ncolumns = sizeof(columns) / sizeof(columns[0]),
		.json = mount_json,
		.add = add_mount};

	return ctl_rows_print(ctl, &rows, list->mounts, list->count, sizeof(*list->mounts));
}

static int look(const struct ctl *ctl, struct ctl_guest *guest, const char *pid)
{
	vmsig_mount_list *list;
	vmsig_proc process;
	int code = ctl_guest_process(guest, pid ? pid : INIT, &process), r;

	if (code)
		return code;
	r = vmsig_os_mounts(guest->os, &process, &list);
	if (r)
		return ctl_guest_fail(guest, r, "mounts");
	code = print_mounts(ctl, list);
	code = code ? code : ctl_guest_whole(guest, list->partial, "mounts");
	vmsig_mount_list_free(list);
	return code;
}

static int run_mounts(struct ctl *ctl, int argc, char **argv)
{
	return ctl_guest_run(ctl, &ctl_mounts, argc, argv, look);
}

const struct ctl_command ctl_mounts = {
	.name = "mounts",
	.arguments = "[--pid PID] ENDPOINT",
	.summary = "List what is mounted in a guest",
	.help = "  --pid PID  as that process sees it; else as the first one does\n"
		"\n"
		"Examples:\n"
		"  vmsigctl mounts web1\n",
	.run = run_mounts,
};
