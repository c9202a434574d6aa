/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl maps` and `files`: what a process of a guest has mapped and opened. */
#include <inttypes.h>
#include <stdio.h>

#include "clients/ctl/guest.h"
#include "clients/ctl/rows.h"

/* ---- maps ---- */

#define PROT_TEXT_MAX 5

/* As /proc/PID/maps has it. */
static const char *prot_text(uint32_t prot, char buf[static PROT_TEXT_MAX])
{
	snprintf(buf, PROT_TEXT_MAX, "%c%c%c%c", prot & VMSIG_PROT_READ ? 'r' : '-',
		prot & VMSIG_PROT_WRITE ? 'w' : '-', prot & VMSIG_PROT_EXEC ? 'x' : '-',
		prot & VMSIG_MAP_SHARED ? 's' : 'p');
	return buf;
}

static json_t *map_json(const void *item)
{
	const vmsig_map *map = item;
	char prot[PROT_TEXT_MAX];

	return json_pack("{s:o, s:o, s:s, s:o, s:o}", "start", value_hex(map->start), "end",
		value_hex(map->end), "prot", prot_text(map->prot, prot), "offset",
		value_hex(map->offset), "path", value_text(map->path));
}

static void add_map(struct table *table, const void *item)
{
	const vmsig_map *map = item;
	char prot[PROT_TEXT_MAX];

	table_add(table, "%012" PRIx64, map->start);
	table_add(table, "%012" PRIx64, map->end);
	table_add(table, "%s", prot_text(map->prot, prot));
	table_add(table, "%08" PRIx64, map->offset);
	table_add(table, "%s", map->path);
}

static int print_maps(const struct ctl *ctl, const vmsig_map_list *list)
{
	static const struct table_column columns[] = {{"START", 0, true}, {"END", 0, true},
		{"PROT", 0, false}, {"OFFSET", 0, true}, {"PATH", 0, false}};
	static const struct ctl_rows rows = {.columns = columns,
		.ncolumns = sizeof(columns) / sizeof(columns[0]),
		.json = map_json,
		.add = add_map};

	return ctl_rows_print(ctl, &rows, list->maps, list->count, sizeof(*list->maps));
}

static int look_at_maps(const struct ctl *ctl, struct ctl_guest *guest, const char *pid)
{
	vmsig_map_list *list;
	vmsig_proc process;
	int code = ctl_guest_process(guest, pid, &process), r;

	if (code)
		return code;
	r = vmsig_os_maps(guest->os, &process, &list);
	if (r)
		return ctl_guest_fail(guest, r, "maps");
	code = print_maps(ctl, list);
	code = code ? code : ctl_guest_whole(guest, list->partial, "maps");
	vmsig_map_list_free(list);
	return code;
}

static int run_maps(struct ctl *ctl, int argc, char **argv)
{
	return ctl_guest_run_process(ctl, &ctl_maps, argc, argv, look_at_maps);
}

const struct ctl_command ctl_maps = {
	.name = "maps",
	.arguments = "ENDPOINT PID | --pid PID ENDPOINT",
	.summary = "List what a process of a guest has mapped",
	.help = "Examples:\n"
		"  vmsigctl maps web1 1\n"
		"  vmsigctl maps web1 1 --json | jq -r '.[] | select(.prot == \"rwxp\") | "
		".start'\n",
	.run = run_maps,
};

/* ---- files ---- */

static json_t *file_json(const void *item)
{
	const vmsig_open_file *file = item;

	return json_pack("{s:I, s:o, s:o}", "fd", (json_int_t)file->number, "path",
		value_text(file->path), "object", value_hex(file->object));
}

static void add_file(struct table *table, const void *item)
{
	const vmsig_open_file *file = item;

	table_add(table, "%" PRId32, file->number);
	table_add(table, "%s", file->path);
}

static int print_files(const struct ctl *ctl, const vmsig_file_list *list)
{
	static const struct table_column columns[] = {{"FD", 0, true}, {"PATH", 0, false}};
	static const struct ctl_rows rows = {.columns = columns,
		.ncolumns = sizeof(columns) / sizeof(columns[0]),
		.json = file_json,
		.add = add_file};

	return ctl_rows_print(ctl, &rows, list->files, list->count, sizeof(*list->files));
}

static int look_at_files(const struct ctl *ctl, struct ctl_guest *guest, const char *pid)
{
	vmsig_file_list *list;
	vmsig_proc process;
	int code = ctl_guest_process(guest, pid, &process), r;

	if (code)
		return code;
	r = vmsig_os_files(guest->os, &process, &list);
	if (r)
		return ctl_guest_fail(guest, r, "open files");
	code = print_files(ctl, list);
	code = code ? code : ctl_guest_whole(guest, list->partial, "open files");
	vmsig_file_list_free(list);
	return code;
}

static int run_files(struct ctl *ctl, int argc, char **argv)
{
	return ctl_guest_run_process(ctl, &ctl_files, argc, argv, look_at_files);
}

const struct ctl_command ctl_files = {
	.name = "files",
	.arguments = "ENDPOINT PID | --pid PID ENDPOINT",
	.summary = "List the open files of a process of a guest",
	.help = "Examples:\n"
		"  vmsigctl files web1 1\n",
	.run = run_files,
};
