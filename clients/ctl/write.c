/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl write`: takes a lease, writes, and keeps what undoes it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/ctl/piece.h"
#include "clients/ctl/place.h"
#include "clients/ctl/undo_record.h"
#include "clients/ctl/write_parts.h"

enum source { SOURCE_NONE, SOURCE_HEX, SOURCE_FILE, SOURCE_NUMBER };

struct write_options {
	struct ctl *ctl;
	enum source source;
	unsigned nsources;
	unsigned width; /* of a number, in bytes */
	const char *text;
	const char *expect, *mask;
	struct ctl_place place;
	uint64_t cr3;
	bool physical, has_cr3, quiesce, show_old, no_undo;
};

enum {
	OPT_HEX = CTL_OPT_FIRST,
	OPT_FILE,
	OPT_U8,
	OPT_U16,
	OPT_U32,
	OPT_U64,
	OPT_EXPECT,
	OPT_MASK,
	OPT_PHYS,
	OPT_CR3,
	OPT_QUIESCE,
	OPT_SHOW_OLD,
	OPT_NO_UNDO,
	OPT_TIMEOUT,
};

static const struct option own_options[] = {{"hex", required_argument, NULL, OPT_HEX},
	{"file", required_argument, NULL, OPT_FILE}, {"u8", required_argument, NULL, OPT_U8},
	{"u16", required_argument, NULL, OPT_U16}, {"u32", required_argument, NULL, OPT_U32},
	{"u64", required_argument, NULL, OPT_U64}, {"expect", required_argument, NULL, OPT_EXPECT},
	{"mask", required_argument, NULL, OPT_MASK}, {"phys", no_argument, NULL, OPT_PHYS},
	{"cr3", required_argument, NULL, OPT_CR3}, {"quiesce", no_argument, NULL, OPT_QUIESCE},
	{"show-old", no_argument, NULL, OPT_SHOW_OLD}, {"no-undo", no_argument, NULL, OPT_NO_UNDO},
	{"timeout", required_argument, NULL, OPT_TIMEOUT}, CTL_PLACE_OPTIONS, {NULL, 0, NULL, 0}};

static bool set_source(
	struct write_options *options, enum source source, unsigned width, const char *text)
{
	options->source = source;
	options->width = width;
	options->text = text;
	options->nsources++;
	return true;
}

static bool handle(void *ctx, int code, const char *value)
{
	struct write_options *options = ctx;

	if (ctl_place_option(&options->place, code, value))
		return true;
	switch (code) {
	case OPT_HEX:
		return set_source(options, SOURCE_HEX, 0, value);
	case OPT_FILE:
		return set_source(options, SOURCE_FILE, 0, value);
	case OPT_U8:
	case OPT_U16:
	case OPT_U32:
	case OPT_U64:
		return set_source(options, SOURCE_NUMBER, 1u << (code - OPT_U8), value);
	case OPT_EXPECT:
		options->expect = value;
		return true;
	case OPT_MASK:
		options->mask = value;
		return true;
	case OPT_CR3:
		options->has_cr3 = true;
		return text_number(value, &options->cr3);
	case OPT_TIMEOUT:
		return ctl_timeout_parse(options->ctl, value);
	case OPT_PHYS:
		options->physical = true;
		return true;
	case OPT_QUIESCE:
		options->quiesce = true;
		return true;
	case OPT_SHOW_OLD:
		options->show_old = true;
		return true;
	default:
		options->no_undo = true;
		return true;
	}
}

/* ---- what is to be written ---- */

struct write_job {
	const struct write_options *options;
	const char *endpoint;
	uint64_t addr, cr3;
	uint32_t epoch; /* that the address was looked up in; 0: it was not */
	struct write_data data;
	unsigned char *expect, *mask; /* data.len bytes, or NULL */
	struct undo_room undo;
	char undo_name[UNDO_NAME_MAX];
};

static int job_data(struct write_job *job)
{
	const struct write_options *options = job->options;

	switch (options->source) {
	case SOURCE_HEX:
		return write_data_hex(&job->data, &ctl_write, options->text);
	case SOURCE_NUMBER:
		return write_data_number(&job->data, &ctl_write, options->text, options->width);
	default:
		return write_data_file(&job->data, &ctl_write, options->text);
	}
}

/* --expect or --mask: as many bytes as there are to write. */
static int job_bytes(
	struct write_job *job, const char *option, const char *text, unsigned char **ret_bytes)
{
	size_t len = 0;

	if (!text)
		return EXIT_OK;
	*ret_bytes = malloc(job->data.len);
	if (!*ret_bytes)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "out of memory");
	if (!text_hex_parse(text, job->data.len, *ret_bytes, &len) || len != job->data.len)
		return ctl_usage(&ctl_write,
			"%s takes %zu byte%s in hexadecimal, as many as are written", option,
			job->data.len, text_plural(job->data.len));
	return EXIT_OK;
}

/* Symbols and processes, of the read plane: --socket is the write plane's. */
static int job_locate(const struct ctl *ctl, struct write_job *job)
{
	struct ctl_place place = job->options->place;
	struct ctl reader = *ctl;
	struct context context;
	int code;

	if (!place.symbol && !place.pid)
		return EXIT_OK;
	reader.socket = NULL;
	code = ctl_place_open(&reader, job->endpoint, &place, &context);
	if (code)
		return code;
	job->epoch = context.pod.epoch;
	if (place.symbol)
		job->addr = place.addr;
	if (place.pid)
		job->cr3 = context.root;
	context_close(&context);
	return EXIT_OK;
}

static int job_prepare(const struct ctl *ctl, struct write_job *job)
{
	const struct write_options *options = job->options;
	int code = job_data(job);

	if (code)
		return code;
	if (!job->data.bytes && (options->expect || options->mask || options->show_old))
		return ctl_usage(&ctl_write,
			"--expect, --mask and --show-old are for at most %u KiB",
			WRITE_DATA_INLINE_MAX >> 10);
	code = job_bytes(job, "--expect", options->expect, &job->expect);
	if (!code)
		code = job_bytes(job, "--mask", options->mask, &job->mask);
	if (!code)
		code = job_locate(ctl, job);
	if (!code && job->data.len - 1 > UINT64_MAX - job->addr)
		return ctl_usage(&ctl_write, "ADDR and the length wrap around");
	/* Before anything is written: then it is too late to say that it cannot be undone. */
	if (!code && job->data.bytes && !options->no_undo)
		code = undo_room_take(&job->undo, job->data.len);
	return code;
}

static void job_clear(struct write_job *job)
{
	write_data_clear(&job->data);
	free(job->expect);
	free(job->mask);
	undo_room_give(&job->undo);
}

/* ---- writing ---- */

static int write_whole(const struct ctl *ctl, const struct write_job *job, struct ctl_hold *hold,
	vmsig_write_result *ret_result)
{
	const struct write_options *options = job->options;
	struct ctl_piece piece = {.op = {.addr = job->addr,
					  .cr3 = job->cr3,
					  .flags = options->physical ? 0 : VMSIG_OP_VIRTUAL,
					  .len = (uint32_t)job->data.len,
					  .data = job->data.bytes,
					  .expect = job->expect,
					  .mask = job->mask},
		.flags = options->quiesce ? VMSIG_WRITE_QUIESCE : 0,
		.memfd = -1};

	if (options->show_old || job->undo.fd >= 0)
		piece.flags |= VMSIG_WRITE_WANT_OLD;
	return ctl_piece_write(ctl, hold, &piece, ret_result);
}

/* ---- afterwards ---- */

static int keep_undo(
	struct write_job *job, const vmsig_lease_info *lease, const vmsig_write_result *result)
{
	struct undo_record record = {.epoch = lease->epoch,
		.addr = job->addr,
		.cr3 = job->cr3,
		.is_virtual = !job->options->physical,
		.quiesce = job->options->quiesce,
		.len = job->data.len,
		.old = (unsigned char *)(uintptr_t)result->old,
		.written = job->data.bytes,
		.mask = job->mask};

	if (job->undo.fd < 0)
		return EXIT_OK;
	snprintf(record.endpoint, sizeof(record.endpoint), "%s", job->endpoint);
	return undo_record_save(&job->undo, &record, job->undo_name);
}

static json_t *outcome_json(const struct write_job *job, const vmsig_lease_info *lease)
{
	return json_pack("{s:s, s:o, s:I, s:s, s:I, s:I}", "endpoint", job->endpoint, "addr",
		value_hex(job->addr), "len", (json_int_t)job->data.len, "space",
		job->options->physical ? "physical" : "virtual", "epoch", (json_int_t)lease->epoch,
		"lease", (json_int_t)lease->id);
}

static int print_json(const struct write_job *job, const vmsig_lease_info *lease,
	const vmsig_write_result *result)
{
	json_t *json = outcome_json(job, lease);

	if (job->options->show_old)
		json_object_set_new(json, "old", value_bytes(result->old, result->old_len));
	if (job->undo_name[0])
		json_object_set_new(json, "undo", json_string(job->undo_name));
	return ctl_print_json(json);
}

static int print_outcome(const struct ctl *ctl, const struct write_job *job,
	const vmsig_lease_info *lease, const vmsig_write_result *result)
{
	if (ctl->json)
		return print_json(job, lease, result);
	if (job->options->show_old)
		text_hex_print(job->addr, result->old, result->old_len);
	else
		printf("wrote %zu byte%s at 0x%" PRIx64 " of %s\n", job->data.len,
			text_plural(job->data.len), job->addr, job->endpoint);
	return EXIT_OK;
}

static int write_whole_tell(const struct ctl *ctl, struct write_job *job, struct ctl_hold *hold)
{
	vmsig_write_result result = {0};
	int code, kept, r = write_whole(ctl, job, hold, &result);

	if (r) {
		code = ctl_write_fail(
			hold->writer, r, &result, job->endpoint, job->addr, job->data.len);
	} else {
		kept = keep_undo(job, &hold->info, &result);
		code = print_outcome(ctl, job, &hold->info, &result);
		code = kept ? kept : code;
	}
	vmsig_write_result_clear(&result);
	return code;
}

/* The account also for programs, when it is not that of the whole. */
static int print_account(const struct write_job *job, const struct write_parts *parts)
{
	json_t *json = outcome_json(job, &parts->hold->info);

	json_object_set_new(json, "written", json_integer((json_int_t)parts->written));
	json_object_set_new(json, "unknown", json_integer((json_int_t)parts->unknown));
	return ctl_print_json(json);
}

static int write_parts_tell(const struct ctl *ctl, struct write_job *job, struct ctl_hold *hold)
{
	struct write_parts parts = {.ctl = ctl,
		.hold = hold,
		.data = &job->data,
		.addr = job->addr,
		.cr3 = job->cr3,
		.op_flags = job->options->physical ? 0 : VMSIG_OP_VIRTUAL,
		.flags = job->options->quiesce ? VMSIG_WRITE_QUIESCE : 0};
	vmsig_write_result result;
	int code, r = write_parts_run(&parts, &result);

	if (!r) {
		code = print_outcome(ctl, job, &hold->info, &result);
	} else {
		if (ctl->json && (parts.written || parts.unknown))
			(void)print_account(job, &parts);
		code = write_parts_fail(&parts, r, &result);
	}
	vmsig_write_result_clear(&result);
	return code;
}

/* The guest may have been reset since its address was looked up, and is another one then. */
static int job_write_held(const struct ctl *ctl, struct write_job *job, struct ctl_hold *hold)
{
	if (job->epoch && hold->info.epoch != job->epoch)
		return ctl_fail(VMSIG_ERR_STALE_EPOCH,
			"%s was reset since the address was looked up: nothing is written",
			job->endpoint);
	return job->data.bytes ? write_whole_tell(ctl, job, hold)
			       : write_parts_tell(ctl, job, hold);
}

static int job_write(const struct ctl *ctl, struct write_job *job, vmsig_writer *writer)
{
	const vmsig_lease_range range = {job->addr, job->addr + (job->data.len - 1)};
	struct ctl_hold hold;
	int code = ctl_hold_take(
		ctl, writer, job->endpoint, job->options->physical ? &range : NULL, &hold);

	if (code)
		return code;
	code = job_write_held(ctl, job, &hold);
	ctl_hold_put(ctl, &hold);
	return code;
}

/* What is wrong with the command line, or NULL. */
static const char *complain(
	const struct write_options *options, int nargs, char *const *args, uint64_t *ret_addr)
{
	bool named = options->place.symbol != NULL;

	if (nargs != (named ? 1 : 2) || (!named && !text_number(args[1], ret_addr)))
		return "it takes ENDPOINT and an ADDR like 0x6000, or ENDPOINT and --symbol";
	if (options->nsources != 1)
		return "say what to write with one of --hex, --file, --u8, --u16, --u32, --u64";
	if (options->physical && (named || options->place.pid))
		return "--phys has no processes and no symbols";
	if (options->has_cr3 && (options->physical || options->place.pid))
		return "--cr3 is for guest-virtual addresses, not --phys, and instead of --pid";
	return NULL;
}

static int run_write(struct ctl *ctl, int argc, char **argv)
{
	struct write_options options = {.ctl = ctl};
	struct write_job job = {
		.options = &options, .data = WRITE_DATA_INIT, .undo = UNDO_ROOM_NONE};
	vmsig_writer *writer = NULL;
	const char *complaint;
	int code = ctl_options(ctl, &ctl_write, argc, argv, own_options, handle, &options);

	if (code)
		return code;
	complaint = complain(&options, argc - optind, argv + optind, &job.addr);
	if (complaint)
		return ctl_usage(&ctl_write, "%s", complaint);
	job.cr3 = options.cr3;
	job.endpoint = argv[optind];
	code = job_prepare(ctl, &job);
	if (!code)
		code = ctl_writer_open(ctl, &writer);
	if (!code)
		code = job_write(ctl, &job, writer);
	vmsig_writer_close(writer);
	job_clear(&job);
	return code;
}

const struct ctl_command ctl_write = {
	.name = "write",
	.arguments =
		"ENDPOINT (ADDR | --symbol NAME)\n"
		"       (--hex H | --file F | --u8|--u16|--u32|--u64 V)\n"
		"       [--expect HEX] [--mask HEX] [--phys | --cr3 X | --pid PID] [--quiesce]\n"
		"       [--show-old] [--no-undo] [--timeout T]",
	.summary = "Write guest memory under a lease; `vmsigctl undo` takes it back",
	.help = "  --hex H       bytes, two hexadecimal digits each\n"
		"  --file F      the bytes of a file, or with - of standard input\n"
		"  --u8 V        a number of 8 bits; --u16, --u32, --u64: more, little-endian\n"
		"  --expect HEX  write only if these bytes are there\n"
		"  --mask HEX    compare and write only the bits that are set here\n"
		"  --phys        ADDR is guest-physical; else guest-virtual in the kernel\n"
		"  --cr3 X       guest-virtual under this root instead\n" CTL_PLACE_HELP
		"                 (both are looked up at the socket of VMSIG_SOCKET)\n"
		"  --quiesce     stop the guest's CPUs meanwhile\n"
		"  --show-old    print the bytes that were there before\n"
		"  --no-undo     keep no record for `vmsigctl undo`\n"
		"  --timeout T   how long to wait for the broker's word, also over its restarts\n"
		"                (default 1min)\n"
		"\n"
		"A write is all or nothing; of 1, 2, 4 or 8 aligned bytes it is one atomic store.\n"
		"More than 480 KiB are written in slices: without --expect, --mask, --show-old\n"
		"and undo; and more than the policy lets in at once in several writes under one\n"
		"lease, each with the CPUs stopped by itself. When these end early it is said how\n"
		"many bytes are there.\n"
		"\n"
		"The lease is the one of the environment, see `vmsigctl lease acquire -h`, or one\n"
		"for this write alone, which --wait T says how long to queue for: of the bytes\n"
		"with --phys, otherwise of the whole endpoint.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl write web1 0xffffffff82a0f1c8 --u32 1 --expect 00000000\n"
		"  vmsigctl write web1 0x6000 --phys --hex 9090 --show-old\n"
		"  vmsigctl write web1 --symbol panic_timeout --u32 10\n"
		"  vmsigctl write web1 0x2000000 --phys --file payload.bin\n",
	.run = run_write,
};
