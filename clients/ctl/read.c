/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl read`: bytes of guest memory, as a dump or as they are. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/ctl/place.h"

#define READ_MAX (1ull << 30) /* bytes of one read; more belongs into a sensor */

enum format { FORMAT_HEX, FORMAT_RAW, FORMAT_U64, FORMAT_STR };

static const struct {
	const char *name;
	enum format format;
} formats[] = {{"hex", FORMAT_HEX}, {"raw", FORMAT_RAW}, {"u64", FORMAT_U64}, {"str", FORMAT_STR}};

struct read_options {
	struct ctl_place place;
	bool physical;
	enum format format;
};

enum { OPT_PHYS = CTL_OPT_FIRST, OPT_FORMAT };

static bool handle(void *ctx, int code, const char *value)
{
	struct read_options *options = ctx;

	if (ctl_place_option(&options->place, code, value))
		return true;
	if (code == OPT_PHYS) {
		options->physical = true;
		return true;
	}
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (strcmp(formats[i].name, value) == 0) {
			options->format = formats[i].format;
			return true;
		}
	}
	return false;
}

/* ---- output ---- */

static void print_u64(uint64_t addr, const unsigned char *bytes, size_t len)
{
	for (size_t at = 0; at + 8 <= len && !ferror(stdout); at += 8) {
		uint64_t value;

		memcpy(&value, bytes + at, sizeof(value));
		printf("%016" PRIx64 "  0x%016" PRIx64 "\n", addr + at, value);
	}
}

/* A guest's bytes must not steer the terminal. */
static void print_str(const unsigned char *bytes, size_t len)
{
	size_t end = strnlen((const char *)bytes, len);

	for (size_t i = 0; i < end && !ferror(stdout); i++) {
		if (isprint(bytes[i]) || bytes[i] == '\n' || bytes[i] == '\t')
			putchar(bytes[i]);
		else
			printf("\\x%02x", bytes[i]);
	}
	if (!end || bytes[end - 1] != '\n')
		putchar('\n');
}

static json_t *value_json(
	const struct read_options *options, const unsigned char *bytes, size_t len)
{
	json_t *value;

	if (options->format == FORMAT_U64) {
		value = json_array();
		for (size_t at = 0; at + 8 <= len; at += 8) {
			uint64_t word;

			memcpy(&word, bytes + at, sizeof(word));
			json_array_append_new(value, value_hex(word));
		}
		return value;
	}
	if (options->format == FORMAT_STR) {
		value = json_stringn((const char *)bytes, strnlen((const char *)bytes, len));
		/* What is no UTF-8 is no JSON string either. */
		if (value)
			return value;
	}
	return value_bytes(bytes, len);
}

static int print_json(const struct read_options *options, const struct context *context,
	uint64_t addr, const unsigned char *bytes, size_t len)
{
	static const char *const keys[] = {"hex", "hex", "u64", "str"};

	return ctl_print_json(json_pack("{s:o, s:I, s:s, s:I, s:o}", "addr", value_hex(addr), "len",
		(json_int_t)len, "space", options->physical ? "physical" : "virtual", "epoch",
		(json_int_t)context->pod.epoch, keys[options->format],
		value_json(options, bytes, len)));
}

static int print_bytes(
	const struct read_options *options, uint64_t addr, const unsigned char *bytes, size_t len)
{
	switch (options->format) {
	case FORMAT_HEX:
		text_hex_print(addr, bytes, len);
		break;
	case FORMAT_RAW:
		fwrite(bytes, 1, len, stdout);
		break;
	case FORMAT_U64:
		print_u64(addr, bytes, len);
		break;
	case FORMAT_STR:
		print_str(bytes, len);
		break;
	}
	return ctl_flush();
}

/* ---- reading ---- */

static int read_into(const struct read_options *options, struct context *context, uint64_t addr,
	void *buf, size_t len)
{
	int r = context_read(context, options->physical, addr, buf, len);

	if (r)
		return ctl_fail(r, "cannot read %zu byte%s at 0x%" PRIx64 ": %s", len,
			text_plural(len), addr, vmsig_error_text(r));
	return EXIT_OK;
}

static int read_and_print(const struct ctl *ctl, const struct read_options *options,
	struct context *context, uint64_t addr, size_t len)
{
	unsigned char *buf = malloc(len);
	int code;

	if (!buf)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "out of memory for %zu bytes", len);
	code = read_into(options, context, addr, buf, len);
	if (!code && ctl->json)
		code = print_json(options, context, addr, buf, len);
	else if (!code)
		code = print_bytes(options, addr, buf, len);
	free(buf);
	return code;
}

/* What is wrong with the command line, or NULL. */
static const char *complain(const struct read_options *options, int nargs, char *const *args,
	uint64_t *ret_addr, uint64_t *ret_len)
{
	bool named = options->place.symbol != NULL;

	if (nargs != (named ? 2 : 3))
		return "it takes ENDPOINT ADDR LEN, or ENDPOINT LEN with --symbol";
	if (options->physical && (named || options->place.pid))
		return "--phys has no processes and no symbols";
	if (!named && !text_number(args[1], ret_addr))
		return "ADDR is a number like 0x1000; a symbol goes with --symbol NAME instead";
	if (!text_number(args[nargs - 1], ret_len) || !*ret_len)
		return "LEN is a number of bytes like 64, and not 0";
	if (*ret_len > READ_MAX)
		return "LEN is at most 1 GiB";
	if (options->format == FORMAT_U64 && *ret_len % sizeof(uint64_t))
		return "LEN is a multiple of 8 with --format u64";
	return NULL;
}

static int run_read(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"phys", no_argument, NULL, OPT_PHYS},
		{"format", required_argument, NULL, OPT_FORMAT}, CTL_PLACE_OPTIONS,
		{NULL, 0, NULL, 0}};
	struct read_options options = {0};
	const char *complaint;
	struct context context;
	uint64_t addr = 0, len;
	int code = ctl_options(ctl, &ctl_read, argc, argv, own, handle, &options);

	if (code)
		return code;
	complaint = complain(&options, argc - optind, argv + optind, &addr, &len);
	if (complaint)
		return ctl_usage(&ctl_read, "%s", complaint);
	code = ctl_place_open(ctl, argv[optind], &options.place, &context);
	if (code)
		return code;
	code = read_and_print(ctl, &options, &context,
		options.place.symbol ? options.place.addr : addr, (size_t)len);
	context_close(&context);
	return code;
}

const struct ctl_command ctl_read = {
	.name = "read",
	.arguments = "ENDPOINT ADDR LEN [--phys | --pid PID] [--format hex|raw|u64|str]",
	.summary = "Read guest memory, coherently with the broker's writes",
	.help = "  --phys         ADDR is guest-physical; else guest-virtual under the kernel's "
		"root\n"
		"  --format FMT   hex (default), raw bytes, u64 words, or str up to a "
		"NUL\n" CTL_PLACE_HELP "\n"
		"Examples:\n"
		"  vmsigctl read web1 0xffffffff81e00180 128 --format str\n"
		"  vmsigctl read web1 0x1000 4096 --phys --format raw > page.bin\n"
		"  vmsigctl read web1 128 --symbol linux_banner --format str\n"
		"  vmsigctl read web1 0x400000 64 --pid 1\n",
	.run = run_read,
};

/* ---- translate ---- */

static void prot_text(uint32_t prot, char text[static 5])
{
	text[0] = prot & VMSIG_PROT_READ ? 'r' : '-';
	text[1] = prot & VMSIG_PROT_WRITE ? 'w' : '-';
	text[2] = prot & VMSIG_PROT_EXEC ? 'x' : '-';
	text[3] = prot & VMSIG_PROT_USER ? 'u' : 'k';
	text[4] = '\0';
}

static int print_translation(const struct ctl *ctl, uint64_t gva, const vmsig_range *page)
{
	uint64_t gpa = page->gpa + (gva - page->gva);
	char prot[5];

	prot_text(page->prot, prot);
	if (ctl->json)
		return ctl_print_json(json_pack("{s:o, s:o, s:o, s:I, s:s}", "gva", value_hex(gva),
			"gpa", value_hex(gpa), "page", value_hex(page->gva), "page_size",
			(json_int_t)page->page_size, "prot", prot));
	printf("0x%" PRIx64 " -> 0x%" PRIx64 "  %s  %" PRIu64 " KiB page\n", gva, gpa, prot,
		page->page_size / 1024);
	return EXIT_OK;
}

static bool handle_place(void *ctx, int code, const char *value)
{
	return ctl_place_option(ctx, code, value);
}

static int run_translate(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {CTL_PLACE_OPTIONS, {NULL, 0, NULL, 0}};
	struct ctl_place place = {0};
	struct context context;
	vmsig_range page;
	uint64_t gva;
	int code = ctl_options(ctl, &ctl_translate, argc, argv, own, handle_place, &place), r;

	if (code)
		return code;
	if (place.symbol ? optind + 1 != argc
			 : optind + 2 != argc || !text_number(argv[optind + 1], &place.addr))
		return ctl_usage(
			&ctl_translate, "it takes ENDPOINT and an ADDR like 0xffffffff81000000");
	code = ctl_place_open(ctl, argv[optind], &place, &context);
	if (code)
		return code;
	gva = place.addr;
	r = vmsig_gva_translate(context.mem, context.root, gva, &page);
	code = r ? ctl_fail(r, "0x%" PRIx64 ": %s", gva, vmsig_error_text(r))
		 : print_translation(ctl, gva, &page);
	context_close(&context);
	return code;
}

const struct ctl_command ctl_translate = {
	.name = "translate",
	.arguments = "ENDPOINT ADDR [--pid PID]",
	.summary = "Translate a guest-virtual address of the kernel, or of a process",
	.help = CTL_PLACE_HELP "\n"
			       "Examples:\n"
			       "  vmsigctl translate web1 0xffffffff81000000\n"
			       "  vmsigctl translate web1 --symbol init_task\n",
	.run = run_translate,
};

/* ---- pmap ---- */

struct pmap_options {
	struct ctl_place place;
	uint64_t start, end;
};

enum { OPT_START = CTL_OPT_FIRST, OPT_END };

static bool handle_pmap(void *ctx, int code, const char *value)
{
	struct pmap_options *options = ctx;

	if (ctl_place_option(&options->place, code, value))
		return true;
	return text_number(value, code == OPT_START ? &options->start : &options->end);
}

static int print_range(void *ctx, const vmsig_range *range)
{
	const struct ctl *ctl = ctx;
	char prot[5];

	prot_text(range->prot, prot);
	if (ctl->json)
		return ctl_print_json(
			json_pack("{s:o, s:o, s:o, s:I, s:s}", "gva", value_hex(range->gva), "len",
				value_hex(range->len), "gpa", value_hex(range->gpa), "page_size",
				(json_int_t)range->page_size, "prot", prot));
	/* Said at once: by the end nobody knows any more why it was lost. */
	return printf("%016" PRIx64 "-%016" PRIx64 "  %s  %7" PRIu64 " KiB  %12" PRIu64 " KiB\n",
		       range->gva, range->gva + (range->len - 1), prot, range->page_size / 1024,
		       range->len / 1024) < 0
		       ? ctl_flush()
		       : EXIT_OK;
}

static int run_pmap(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"start", required_argument, NULL, OPT_START},
		{"end", required_argument, NULL, OPT_END}, CTL_PLACE_OPTIONS, {NULL, 0, NULL, 0}};
	struct pmap_options options = {.end = UINT64_MAX};
	struct context context;
	int code = ctl_options(ctl, &ctl_pmap, argc, argv, own, handle_pmap, &options), r;

	if (code)
		return code;
	if (optind + 1 != argc)
		return ctl_usage(&ctl_pmap, "it takes one ENDPOINT");
	code = ctl_place_open_range(
		ctl, argv[optind], &options.place, &options.start, options.end, &context);
	if (code)
		return code;
	r = vmsig_pmap(context.mem, context.root, options.start, options.end, print_range, ctl);
	if (r < 0)
		code = ctl_fail(r, "cannot walk the page tables: %s", vmsig_error_text(r));
	else
		code = r;
	context_close(&context);
	return code;
}

const struct ctl_command ctl_pmap = {
	.name = "pmap",
	.arguments = "ENDPOINT [--pid PID] [--start ADDR | --symbol NAME] [--end ADDR]",
	.summary = "Print what the kernel's page tables map: range, rights, page size, length",
	.help = "  --start ADDR  first guest-virtual address (default 0)\n"
		"  --end ADDR    last one (default the highest)\n"
		"  --symbol NAME[+OFFSET]\n"
		"                the first one is that of a symbol of the kernel\n"
		"  --pid PID     what a process' page tables map\n"
		"\n"
		"Rights: r w x, and u for user or k for kernel only.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl pmap web1 --start 0xffffffff80000000\n"
		"  vmsigctl pmap web1 | grep wx\n",
	.run = run_pmap,
};
