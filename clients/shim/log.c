/* SPDX-License-Identifier: Apache-2.0 */
/* The commands `log` and `undo`: what was written in this run. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "clients/common/exits.h"
#include "clients/common/table.h"
#include "clients/common/value.h"
#include "clients/shim/command.h"
#include "clients/shim/shim.h"

#define BYTES_SHOWN 8u /* in a table */

static const char *outcome(const struct shim_entry *entry)
{
	if (!entry->settled)
		return "no word yet";
	if (entry->outcome)
		return vmsig_error_name(entry->outcome);
	return entry->undone ? "done, undone" : "done";
}

static json_t *bytes_or_null(const unsigned char *bytes, size_t len)
{
	return bytes ? value_bytes(bytes, len) : json_null();
}

static json_t *entry_json(const struct shim_entry *entry)
{
	return json_pack("{s:i, s:s, s:I, s:I, s:o, s:s, s:I, s:o, s:o, s:o, s:s, s:b, s:s}",
		"write", (int)entry->number, "command", entry->verb, "time",
		(json_int_t)entry->when, "epoch", (json_int_t)entry->epoch, "addr",
		value_hex(entry->addr), "space", entry->physical ? "physical" : "virtual", "len",
		(json_int_t)entry->len, "new", value_bytes(entry->data, entry->len), "expected",
		bytes_or_null(entry->expect, entry->len), "old",
		bytes_or_null(entry->old, entry->len), "outcome",
		entry->settled ? vmsig_error_name(entry->outcome) : "PENDING", "undone",
		entry->undone, "text", entry->text);
}

static void add_bytes(struct table *table, const unsigned char *bytes, size_t len)
{
	char text[2 * BYTES_SHOWN + 1] = "";

	for (size_t i = 0; bytes && i < len && i < BYTES_SHOWN; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	table_add(table, "%s%s", text, bytes && len > BYTES_SHOWN ? ".." : "");
}

static void add_entry(struct table *table, const struct shim_entry *entry)
{
	char when[16];
	struct tm tm;

	localtime_r(&entry->when, &tm);
	strftime(when, sizeof(when), "%H:%M:%S", &tm);
	table_add(table, "%u", entry->number);
	table_add(table, "%s", when);
	table_add(table, "%u", entry->epoch);
	table_add(table, "%s", entry->verb);
	table_add(table, "%s%016" PRIx64, entry->physical ? "phys " : "     ", entry->addr);
	table_add(table, "%zu", entry->len);
	add_bytes(table, entry->old, entry->len);
	add_bytes(table, entry->data, entry->len);
	table_add(table, "%s", outcome(entry));
}

static int print_table(struct shim *shim, const struct shim_entry **entries, unsigned count)
{
	static const struct table_column columns[] = {{"N", 4, true}, {"TIME", 8, false},
		{"EPOCH", 5, true}, {"WHAT", 4, false}, {"ADDR", 21, false}, {"LEN", 6, true},
		{"OLD", 16, false}, {"NEW", 16, false}, {"OUTCOME", 0, false}};
	struct table table;
	int r = 0;

	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	for (unsigned i = count; i-- > 0;)
		add_entry(&table, entries[i]);
	if (count)
		r = table_print(&table);
	table_deinit(&table);
	return r ? shim_output_fail(&shim->output, r, "out of memory") : EXIT_OK;
}

/* The journal has the newest first; told is the oldest first. */
static int print_journal(struct shim *shim, const struct shim_entry **entries, unsigned count)
{
	json_t *array;

	if (!shim->output.json)
		return print_table(shim, entries, count);
	array = json_array();
	while (count-- > 0)
		json_array_append_new(array, entry_json(entries[count]));
	return shim_output_answer(&shim->output, json_pack("{s:o}", "writes", array));
}

static int run_log(struct shim *shim, int argc, char **argv)
{
	const struct shim_entry **entries;
	unsigned count = 0;
	int status;

	if (argc != 1)
		return shim_output_usage(&shim->output, "it takes no arguments");
	entries = calloc((size_t)shim->journal.count + 1, sizeof(const struct shim_entry *));
	if (!entries)
		return shim_output_fail(&shim->output, VMSIG_ERR_NO_MEMORY, "out of memory");
	for (const struct shim_entry *entry = shim->journal.newest; entry; entry = entry->older)
		entries[count++] = entry;
	status = print_journal(shim, entries, count);
	free(entries);
	return status;
}

const struct shim_command shim_command_log = {
	.name = "log",
	.arguments = "",
	.summary = "Show this run's writes and their outcomes",
	.help = "The broker's own record is shown to administrators by `vmsigctl audit`.\n",
	.run = run_log,
};
