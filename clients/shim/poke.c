/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "clients/common/exits.h"
#include "clients/common/text.h"
#include "clients/common/value.h"
#include "clients/shim/arguments.h"
#include "clients/shim/command.h"
#include "clients/shim/shim.h"

#define BYTES_SHOWN 16u

/* ---- what came of it ---- */

static int print_entry(struct shim *shim, const struct shim_entry *entry)
{
	if (shim->output.json)
		return shim_output_answer(&shim->output,
			json_pack("{s:i, s:o, s:I, s:s, s:I, s:o*}", "write", (int)entry->number,
				"addr", value_hex(entry->addr), "len", (json_int_t)entry->len,
				"space", entry->physical ? "physical" : "virtual", "epoch",
				(json_int_t)entry->epoch, "old",
				entry->old ? value_bytes(entry->old, entry->len) : NULL));
	printf("wrote %zu byte%s at 0x%" PRIx64, entry->len, text_plural(entry->len), entry->addr);
	if (entry->old)
		fputs(", where was ", stdout);
	for (size_t i = 0; entry->old && i < entry->len && i < BYTES_SHOWN; i++)
		printf("%02x", entry->old[i]);
	puts(entry->old && entry->len > BYTES_SHOWN ? "..." : "");
	return EXIT_OK;
}

static void there(const struct shim_entry *entry, char *text, size_t size)
{
	size_t at = 0;

	text[0] = '\0';
	for (size_t i = 0; entry->old && i < entry->len && at + 3 < size; i++)
		at += (size_t)snprintf(text + at, size - at, "%02x", entry->old[i]);
}

static int fail_entry(struct shim *shim, int error, const struct shim_entry *entry)
{
	struct shim_output *output = &shim->output;
	char bytes[2 * BYTES_SHOWN + 1];

	if (!entry)
		return shim_output_fail(output, error, "nothing is written: %s",
			error == -VMSIG_ERR_NO_MEMORY
				? vmsig_error_text(error)
				: vmsig_writer_last_error(shim->session.writer));
	there(entry, bytes, sizeof(bytes));
	if (error == -VMSIG_ERR_WOULD_BLOCK)
		return shim_output_fail(output, VMSIG_ERR_UNKNOWN_OUTCOME,
			"interrupted before there was a word about write %u", entry->number);
	if (error == -VMSIG_ERR_COMPARE_FAILED)
		return shim_output_fail(output, error, "nothing is written: at 0x%" PRIx64 " is %s",
			entry->addr, bytes[0] ? bytes : "something else");
	if (error == -VMSIG_ERR_PARTIAL)
		return shim_output_fail(output, error,
			"only %" PRIu64 " of %zu bytes at 0x%" PRIx64 " were written: %s",
			entry->written, entry->len, entry->addr, entry->text);
	return shim_output_fail(output, error, "cannot write %zu byte%s at 0x%" PRIx64 ": %s",
		entry->len, text_plural(entry->len), entry->addr, entry->text);
}

/* ---- poke, cas ---- */

/* A number needs no look at the guest. What was learnt of another epoch's is nothing to write by.
 */
static int locate(
	struct shim *shim, const struct place_arguments *place, struct write_arguments *arguments)
{
	struct shim_location location = {.addr = place->addr, .physical = place->physical};
	int status = shim_hold_check(shim);

	if (!status && (place->symbol || place->has_pid)) {
		status = shim_locate(shim, place, &location);
		status = status ? status : shim_hold_check(shim);
		if (!status && shim->context.epoch != shim->hold.epoch)
			status = shim_output_fail(&shim->output, VMSIG_ERR_STALE_EPOCH,
				"%s was reset meanwhile", shim->options.endpoint);
	}
	arguments->addr = location.addr;
	arguments->physical = location.physical;
	arguments->root = location.root;
	return status;
}

static int run_write(struct shim *shim, struct write_arguments *arguments)
{
	struct shim_entry *entry;
	int status = locate(shim, &arguments->place, arguments), r;

	if (status)
		return status;
	r = shim_journal_write(shim, shim->output.command, arguments, NULL, &entry);
	return r ? fail_entry(shim, r, entry) : print_entry(shim, entry);
}

static int run(struct shim *shim, int argc, char **argv,
	const char *(*parse)(int, char **, struct write_arguments *))
{
	struct write_arguments arguments;
	const char *wrong = parse(argc, argv, &arguments);
	int status;

	if (wrong)
		return shim_output_usage(&shim->output, "%s", wrong);
	status = run_write(shim, &arguments);
	arguments_clear(&arguments);
	return status;
}

static int run_poke(struct shim *shim, int argc, char **argv)
{
	return run(shim, argc, argv, arguments_poke);
}

static int run_cas(struct shim *shim, int argc, char **argv)
{
	return run(shim, argc, argv, arguments_cas);
}

const struct shim_command shim_command_poke = {
	.name = "poke",
	.arguments = "ADDR (u8|u16|u32|u64) VALUE | ADDR hex HEX [phys | pid PID]",
	.summary = "Write a number, or bytes, under the lease",
	.help = "A write is all or nothing; of an aligned number it is one atomic store. Numbers "
		"are\n"
		"little-endian. `undo` takes it back.\n"
		"\n"
		"Examples:\n"
		"  poke 0xffffffff82a0f1c8 u32 1\n"
		"  poke panic_on_oops u32 0\n"
		"  poke 0x7ffd1000 u8 1 pid 812\n"
		"  poke 0x6000 hex 90909090 phys\n",
	.words = {NULL, "u8 u16 u32 u64 hex", NULL, "phys pid"},
	.run = run_poke,
};

const struct shim_command shim_command_cas = {
	.name = "cas",
	.arguments = "ADDR SIZE EXPECT VALUE [phys | pid PID]",
	.summary = "Write a number if another one is there",
	.help = "SIZE is 1, 2, 4 or 8 bytes, or u8, u16, u32, u64. Aligned it is one atomic\n"
		"compare-and-swap, also against the guest's own CPUs.\n"
		"\n"
		"Example:\n"
		"  cas 0xffffffff82a0f1c8 u32 0 1\n",
	.words = {NULL, "u8 u16 u32 u64", NULL, NULL, "phys pid"},
	.run = run_cas,
};

/* ---- undo ---- */

static int undo(struct shim *shim, struct shim_entry *entry)
{
	const struct write_arguments what = {.addr = entry->addr,
		.physical = entry->physical,
		.root = entry->root,
		.len = entry->len,
		.data = entry->old,
		.expect = entry->data};
	struct shim_entry *back;
	int r;

	if (entry->epoch != shim->hold.epoch)
		return shim_output_fail(&shim->output, VMSIG_ERR_STALE_EPOCH,
			"write %u was made in epoch %u, and this is %u: what it changed is gone",
			entry->number, entry->epoch, shim->hold.epoch);
	r = shim_journal_write(shim, "undo", &what, entry, &back);
	return r ? fail_entry(shim, r, back) : print_entry(shim, back);
}

static int run_undo(struct shim *shim, int argc, char **argv)
{
	struct shim_entry *entry = shim_journal_undoable(&shim->journal);
	int status;

	if (argc != 1)
		return shim_output_usage(&shim->output, "it takes no arguments");
	if (!entry)
		return shim_output_fail(&shim->output, VMSIG_ERR_BAD_REQUEST,
			"there is nothing to undo in this run; see `log`");
	status = shim_hold_check(shim);
	return status ? status : undo(shim, entry);
}

const struct shim_command shim_command_undo = {
	.name = "undo",
	.arguments = "",
	.summary = "Take back this run's last poke or cas",
	.help = "Nothing is changed when other bytes are there than it has left, or when the guest "
		"was\n"
		"reset since. Said again, it takes back the one before.\n",
	.run = run_undo,
};
