/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl scan`: where bytes are found in guest memory. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/ctl/place.h"

#define PATTERN_MAX 4096u
#define LIMIT_REACHED 0x7fff /* what the visitor returns to stop */

struct ctl_scan {
	struct ctl_place place;
	const struct ctl *ctl;
	bool is_virtual;
	vmsig_lease_range range; /* of addresses */
	uint64_t limit, found;
	unsigned char pattern[PATTERN_MAX];
	size_t len;
};

enum { OPT_VIRT = CTL_OPT_FIRST, OPT_START, OPT_END, OPT_LIMIT };

static bool handle(void *ctx, int code, const char *value)
{
	struct ctl_scan *scan = ctx;

	if (ctl_place_option(&scan->place, code, value)) {
		scan->is_virtual = true;
		return true;
	}
	switch (code) {
	case OPT_VIRT:
		scan->is_virtual = true;
		return true;
	case OPT_START:
		return text_number(value, &scan->range.start);
	case OPT_END:
		return text_number(value, &scan->range.last);
	default:
		return text_number(value, &scan->limit);
	}
}

static int print_match(void *ctx, uint64_t addr)
{
	struct ctl_scan *scan = ctx;
	int code = EXIT_OK;

	if (scan->ctl->json)
		code = ctl_print_json(json_pack("{s:o, s:s}", "addr", value_hex(addr), "space",
			scan->is_virtual ? "virtual" : "physical"));
	else if (printf("0x%" PRIx64 "\n", addr) < 0)
		code = ctl_flush();
	scan->found++;
	if (!code && scan->limit && scan->found >= scan->limit)
		return LIMIT_REACHED;
	return code;
}

static int run_scan(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"virt", no_argument, NULL, OPT_VIRT},
		{"start", required_argument, NULL, OPT_START},
		{"end", required_argument, NULL, OPT_END},
		{"limit", required_argument, NULL, OPT_LIMIT}, CTL_PLACE_OPTIONS,
		{NULL, 0, NULL, 0}};
	struct ctl_scan scan = {.ctl = ctl, .range.last = UINT64_MAX};
	struct context context;
	int code = ctl_options(ctl, &ctl_scan, argc, argv, own, handle, &scan), r;

	if (code)
		return code;
	if (optind + 2 != argc)
		return ctl_usage(&ctl_scan, "it takes ENDPOINT PATTERN");
	if (!text_pattern(argv[optind + 1], PATTERN_MAX, scan.pattern, &scan.len))
		return ctl_usage(
			&ctl_scan, "PATTERN is text, str:TEXT or hex:DIGITS of 1 to 4096 bytes");
	code = ctl_place_open_range(
		ctl, argv[optind], &scan.place, &scan.range.start, scan.range.last, &context);
	if (code)
		return code;
	r = context_scan(&context, !scan.is_virtual, &scan.range, scan.pattern, scan.len,
		print_match, &scan);
	if (r < 0)
		code = ctl_fail(r, "the scan ended early: %s", vmsig_error_text(r));
	else
		code = r == LIMIT_REACHED ? EXIT_OK : r;
	context_close(&context);
	return code;
}

const struct ctl_command ctl_scan = {
	.name = "scan",
	.arguments =
		"ENDPOINT PATTERN [--virt | --pid PID] [--start ADDR | --symbol NAME] [--end ADDR] "
		"[--limit N]",
	.summary = "Print every address where the pattern is",
	.help = "  PATTERN       text, str:TEXT, or hex:DIGITS\n"
		"  --virt        scan what the kernel maps; else guest-physical memory\n"
		"  --pid PID     scan what a process has mapped\n"
		"  --start ADDR  first address\n"
		"  --end ADDR    last one\n"
		"  --symbol NAME[+OFFSET]\n"
		"                scan what is mapped from a symbol of the kernel on\n"
		"  --limit N     stop after N matches\n"
		"\n"
		"Examples:\n"
		"  vmsigctl scan web1 'Linux version' --limit 1\n"
		"  vmsigctl scan web1 hex:7f454c46 --virt --start 0xffffffff80000000\n"
		"  vmsigctl scan web1 'Linux version' --symbol linux_banner --limit 1\n",
	.run = run_scan,
};
