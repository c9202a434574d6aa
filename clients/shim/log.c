/* SPDX-License-Identifier: Apache-2.0 */
/* The commands `log` and `undo`: what was written in this run. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "clients/common/exits.h"
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

static void print_bytes(const unsigned char *bytes, size_t len)
{
	size_t shown = len < BYTES_SHOWN ? len : BYTES_SHOWN;

	for (size_t i = 0; bytes && i < shown; i++)
		printf("%02x", bytes[i]);
	printf("%*s", (int)(2 * (BYTES_SHOWN - (bytes ? shown : 0)) + 2),
		bytes && shown < len ? ".." : "  ");
}

static void print_entry(const struct shim_entry *entry)
{
	char when[16];
	struct tm tm;

	localtime_r(&entry->when, &tm);
	strftime(when, sizeof(when), "%H:%M:%S", &tm);
	printf("%4u  %s  %5u  %-4s  %s%016" PRIx64 "  %6zu  ", entry->number, when, entry->epoch,
		entry->verb, entry->physical ? "phys " : "     ", entry->addr, entry->len);
	print_bytes(entry->old, entry->len);
	print_bytes(entry->data, entry->len);
	printf("%s\n", outcome(entry));
}

/* The journal has the newest first; told is the oldest first. */
static int print_journal(struct shim *shim, const struct shim_entry **entries, unsigned count)
{
	json_t *array;

	if (!shim->output.json) {
		if (count)
			printf("%4s  %-8s  %5s  %-4s  %-21s  %6s  %-16s  %-16s  %s\n", "N", "TIME",
				"EPOCH", "WHAT", "ADDR", "LEN", "OLD", "NEW", "OUTCOME");
		while (count-- > 0)
			print_entry(entries[count]);
		return EXIT_OK;
	}
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
	.summary = "Show what was written in this run, and what came of it",
	.help = "The broker's own record is shown to administrators by `vmsigctl audit`.\n",
	.run = run_log,
};
