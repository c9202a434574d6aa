/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl undo`: writes back what a write has overwritten, if nobody has changed it since. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/ctl/piece.h"
#include "clients/ctl/undo_record.h"

#define BYTES_SHOWN 8u /* in a table */
/* What to do about a write that cannot be undone any more, so that it is in no older one's way. */
#define PAST_IT                                                                                    \
	"an older one is undone with `undo FILE` of `undo --list`, this one forgotten with --drop"

/* ---- list ---- */

static json_t *record_json(const char *name, const struct undo_record *record)
{
	return json_pack("{s:s, s:s, s:s, s:I, s:s, s:o, s:I, s:o}", "record", name, "time",
		record->time, "endpoint", record->endpoint, "epoch", (json_int_t)record->epoch,
		"space", record->is_virtual ? "virtual" : "physical", "addr",
		value_hex(record->addr), "len", (json_int_t)record->len, "old",
		value_bytes(record->old, record->len));
}

static void add_row(struct table *table, const char *name, const struct undo_record *record)
{
	char old[2 * BYTES_SHOWN + 1] = "";

	for (size_t i = 0; i < record->len && i < BYTES_SHOWN; i++)
		snprintf(old + 2 * i, 3, "%02x", record->old[i]);
	table_add(table, "%s", name);
	table_add(table, "%s", record->time);
	table_add(table, "%u", record->epoch);
	table_add(table, "%s", record->is_virtual ? "virtual" : "physical");
	table_add(table, "0x%016" PRIx64, record->addr);
	table_add(table, "%zu", record->len);
	table_add(table, "%s%s", old, record->len > BYTES_SHOWN ? "..." : "");
	table_add(table, "%s", record->endpoint);
}

/* One that cannot be read is told of and does not hide the others. */
static int add_all(int folder, const struct undo_names *names, struct table *table, json_t *array)
{
	struct undo_record record;
	int failed = EXIT_OK;

	for (size_t i = names->count; i-- > 0;) {
		const char *name = names->entries[i]->d_name;
		int r = undo_record_load(folder, name, &record);

		if (r) {
			failed = r;
			continue;
		}
		if (array)
			json_array_append_new(array, record_json(name, &record));
		else
			add_row(table, name, &record);
		undo_record_clear(&record);
	}
	return failed;
}

static int list(const struct ctl *ctl, int folder)
{
	static const struct table_column columns[] = {{"RECORD", 25, false}, {"TIME", 20, false},
		{"EPOCH", 5, true}, {"SPACE", 8, false}, {"ADDR", 18, false}, {"LEN", 7, true},
		{"OLD BYTES", 0, false}, {"ENDPOINT", 0, false}};
	json_t *array = ctl->json ? json_array() : NULL;
	struct undo_names names;
	struct table table;
	int code = undo_names_read(folder, &names), failed;

	if (code) {
		json_decref(array);
		return code;
	}
	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	failed = add_all(folder, &names, &table, array);
	undo_names_clear(&names);
	code = ctl->json ? ctl_print_json(array) : ctl_print_table(&table);
	table_deinit(&table);
	return code ? code : failed;
}

/* ---- undo ---- */

static int write_back(const struct ctl *ctl, const struct undo_record *record,
	struct ctl_hold *hold, vmsig_write_result *ret_result)
{
	const struct ctl_piece piece = {.op = {.addr = record->addr,
						.cr3 = record->cr3,
						.flags = record->is_virtual ? VMSIG_OP_VIRTUAL : 0,
						.len = (uint32_t)record->len,
						.data = record->old,
						.expect = record->written,
						.mask = record->mask},
		.flags = record->quiesce ? VMSIG_WRITE_QUIESCE : 0,
		.memfd = -1};

	return ctl_piece_write(ctl, hold, &piece, ret_result);
}

static int undo_write(const struct ctl *ctl, vmsig_writer *writer, const struct undo_record *record)
{
	const vmsig_lease_range range = {record->addr, record->addr + (record->len - 1)};
	vmsig_write_result result = {0};
	struct ctl_hold hold;
	int code = ctl_hold_take(
		    ctl, writer, record->endpoint, record->is_virtual ? NULL : &range, &hold),
	    r;

	if (code)
		return code;
	if (hold.info.epoch != record->epoch) {
		code = exit_status(VMSIG_ERR_STALE_EPOCH);
		ctl_fail_with(VMSIG_ERR_STALE_EPOCH, PAST_IT,
			"nothing to undo: %s is in epoch %u, the write was made in epoch %u",
			record->endpoint, hold.info.epoch, record->epoch);
		goto out;
	}
	r = write_back(ctl, record, &hold, &result);
	if (r == -VMSIG_ERR_COMPARE_FAILED) {
		code = exit_status(r);
		ctl_fail_with(r, PAST_IT,
			"not undone: the %zu bytes at 0x%" PRIx64
			" of %s are not those that were written any more",
			record->len, record->addr, record->endpoint);
	} else if (r)
		code = ctl_write_fail(
			writer, r, &result, record->endpoint, record->addr, record->len);
out:
	vmsig_write_result_clear(&result);
	ctl_hold_put(ctl, &hold);
	return code;
}

static int restore(const struct ctl *ctl, const struct undo_record *record)
{
	vmsig_writer *writer;
	int code = ctl_writer_open(ctl, &writer);

	if (code)
		return code;
	code = undo_write(ctl, writer, record);
	vmsig_writer_close(writer);
	return code;
}

static int report(
	const struct ctl *ctl, const char *name, const struct undo_record *record, bool drops)
{
	json_t *json;

	if (ctl->json) {
		json = record_json(name, record);
		json_object_set_new(json, "dropped", json_boolean(drops));
		return ctl_print_json(json);
	}
	printf("%s %zu byte%s at 0x%" PRIx64 " of %s\n",
		drops ? "dropped the record of" : "restored", record->len, text_plural(record->len),
		record->addr, record->endpoint);
	return EXIT_OK;
}

/* `drops`: nothing is written, and what was there before is forgotten. */
static int undo_one(const struct ctl *ctl, int folder, const char *name, bool drops)
{
	struct undo_record record;
	int code = undo_record_load(folder, name, &record);

	if (code)
		return code;
	if (!drops)
		code = restore(ctl, &record);
	if (!code)
		code = undo_record_remove(folder, name);
	if (!code)
		code = report(ctl, name, &record, drops);
	undo_record_clear(&record);
	return code;
}

static int undo_newest(const struct ctl *ctl, int folder, bool drops)
{
	struct undo_names names;
	int code = undo_names_read(folder, &names);

	if (code)
		return code;
	if (names.count)
		code = undo_one(ctl, folder, names.entries[names.count - 1]->d_name, drops);
	else
		code = ctl_fail(VMSIG_ERR_IO, "there is nothing to undo: no write left a record");
	undo_names_clear(&names);
	return code;
}

/* ---- the command line ---- */

enum { OPT_LIST = CTL_OPT_FIRST, OPT_DROP, OPT_TIMEOUT };

struct undo_options {
	struct ctl *ctl;
	bool lists, drops;
};

static bool handle(void *ctx, int code, const char *value)
{
	struct undo_options *options = ctx;

	if (code == OPT_TIMEOUT)
		return ctl_timeout_parse(options->ctl, value);
	if (code == OPT_DROP)
		options->drops = true;
	else
		options->lists = true;
	return true;
}

static int run_undo(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"list", no_argument, NULL, OPT_LIST},
		{"drop", no_argument, NULL, OPT_DROP},
		{"timeout", required_argument, NULL, OPT_TIMEOUT}, {NULL, 0, NULL, 0}};
	struct undo_options options = {.ctl = ctl};
	int code = ctl_options(ctl, &ctl_undo, argc, argv, own, handle, &options), folder;

	if (code)
		return code;
	if (argc - optind > (options.lists ? 0 : 1) || (options.lists && options.drops))
		return ctl_usage(
			&ctl_undo, "it takes at most one FILE, and --list none and no --drop");
	code = undo_folder_open(&folder);
	if (code)
		return code;
	if (options.lists)
		code = list(ctl, folder);
	else if (optind < argc)
		code = undo_one(ctl, folder, argv[optind], options.drops);
	else
		code = undo_newest(ctl, folder, options.drops);
	close(folder);
	return code;
}

const struct ctl_command ctl_undo = {
	.name = "undo",
	.arguments = "[FILE] [--timeout T] [--drop] | --list",
	.summary = "Write back what the newest `vmsigctl write` has replaced",
	.help = "  --list       print the records, newest first\n"
		"  --drop       remove the record and write nothing: the next is the one before\n"
		"  --timeout T  how long to wait for the broker's word (default 1min)\n"
		"\n"
		"FILE is a record of the list, or a path with a slash. Nothing is changed when\n"
		"the guest was reset since, or when other bytes are there than the write has\n"
		"left. A record is removed once it is undone; the newest 100 are kept, in\n"
		"VMSIG_UNDO_DIR or ~/.local/state/vmsig/undo.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl undo\n"
		"  vmsigctl undo --list --json | jq -r '.[0].record'\n",
	.run = run_undo,
};
