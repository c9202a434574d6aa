/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/audit.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clients/ctl/admin.h"

#define TAIL_LINES 10
#define KINDS_MAX 512    /* bytes that name all kinds */
#define TAIL_MAX 1000000 /* of which the ids are kept when they are chosen by what they say */

enum {
	OPT_AFTER = CTL_OPT_FIRST,
	OPT_LIMIT,
	OPT_ENDPOINT,
	OPT_TENANT,
	OPT_KIND,
	OPT_FOLLOW,
	OPT_HEAD,
	OPT_FILE,
	OPT_SQLITE,
	OPT_SINCE,
	OPT_UNTIL,
	OPT_LINES = 'n',
};

/* Options that an action takes. */
enum {
	TAKES_AFTER = 1u << 0,
	TAKES_LIMIT = 1u << 1,
	TAKES_FILTER = 1u << 2,
	TAKES_TAIL = 1u << 3,
	TAKES_VERIFY = 1u << 4,
	TAKES_SQLITE = 1u << 5,
};

static const struct option own[] = {
	{"after", required_argument, NULL, OPT_AFTER},
	{"limit", required_argument, NULL, OPT_LIMIT},
	{"endpoint", required_argument, NULL, OPT_ENDPOINT},
	{"tenant", required_argument, NULL, OPT_TENANT},
	{"kind", required_argument, NULL, OPT_KIND},
	{"follow", no_argument, NULL, OPT_FOLLOW},
	{"lines", required_argument, NULL, OPT_LINES},
	{"head", required_argument, NULL, OPT_HEAD},
	{"file", required_argument, NULL, OPT_FILE},
	{"sqlite", required_argument, NULL, OPT_SQLITE},
	{"since", required_argument, NULL, OPT_SINCE},
	{"until", required_argument, NULL, OPT_UNTIL},
	{NULL, 0, NULL, 0},
};

static const struct {
	const char *name;
	int (*run)(struct ctl_audit_action *action);
	unsigned takes;
	int args;
} actions[] = {
	{"ls", ctl_audit_ls, TAKES_AFTER | TAKES_LIMIT | TAKES_FILTER, 0},
	{"tail", ctl_audit_tail, TAKES_TAIL | TAKES_FILTER, 0},
	{"show", ctl_audit_show, 0, 1},
	{"verify", ctl_audit_verify, TAKES_VERIFY, 0},
	{"export", ctl_audit_export, TAKES_AFTER | TAKES_SQLITE, 0},
};

#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

struct parsed {
	struct ctl_audit_options options;
	unsigned given; /* TAKES_... */
	const char *since, *until;
};

/* UTC, as the table and the records show it: a date, with a time behind T or not, which may end
 * in Z. A date alone begins, or ends, with its day. */
static bool parse_time(const char *text, bool ends, uint64_t *ret_ns)
{
	static const char *const formats[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"};
	static const unsigned spans[] = {1, 60, 86400}; /* seconds that it names */

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		struct tm tm = {0};
		const char *rest = strptime(text, formats[i], &tm);
		time_t seconds = rest ? timegm(&tm) : -1;

		if (!rest || (*rest && strcmp(rest, "Z") != 0) || seconds < 0)
			continue;
		*ret_ns = ((uint64_t)seconds + (ends ? spans[i] : 0)) * 1000000000 - ends;
		return true;
	}
	return false;
}

static bool handle_text(struct ctl_audit_options *options, int code, const char *value)
{
	switch (code) {
	case OPT_ENDPOINT:
		options->endpoint = value;
		return true;
	case OPT_TENANT:
		options->tenant = value;
		return true;
	case OPT_KIND:
		options->kind = value;
		return true;
	case OPT_HEAD:
		options->head = value;
		return true;
	case OPT_SQLITE:
		options->sqlite = value;
		return value[0] != '\0';
	default:
		options->file = value;
		return true;
	}
}

static bool handle(void *ctx, int code, const char *value)
{
	static const struct {
		int code;
		unsigned takes;
	} groups[] = {{OPT_AFTER, TAKES_AFTER}, {OPT_LIMIT, TAKES_LIMIT},
		{OPT_ENDPOINT, TAKES_FILTER}, {OPT_TENANT, TAKES_FILTER}, {OPT_KIND, TAKES_FILTER},
		{OPT_FOLLOW, TAKES_TAIL}, {OPT_LINES, TAKES_TAIL}, {OPT_HEAD, TAKES_VERIFY},
		{OPT_FILE, TAKES_VERIFY}, {OPT_SQLITE, TAKES_SQLITE}, {OPT_SINCE, TAKES_FILTER},
		{OPT_UNTIL, TAKES_FILTER}};
	struct parsed *parsed = ctx;
	struct ctl_audit_options *options = &parsed->options;

	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		if (groups[i].code == code)
			parsed->given |= groups[i].takes;
	}
	switch (code) {
	case OPT_AFTER:
		return text_number(value, &options->after);
	case OPT_LIMIT:
		return text_number(value, &options->limit) && options->limit != 0;
	case OPT_LINES:
		return text_number(value, &options->lines) && options->lines <= TAIL_MAX;
	case OPT_FOLLOW:
		options->follow = true;
		return true;
	case OPT_SINCE:
		parsed->since = value;
		return true;
	case OPT_UNTIL:
		parsed->until = value;
		return true;
	default:
		return handle_text(options, code, value);
	}
}

/* Values of which the name of the option does not say what they are. */
static int check_values(struct parsed *parsed)
{
	struct ctl_audit_options *options = &parsed->options;
	const char *since = parsed->since, *until = parsed->until, *wrong = NULL;
	char names[KINDS_MAX];

	if (since && !parse_time(since, false, &options->since_ns))
		wrong = since;
	else if (until && !parse_time(until, true, &options->until_ns))
		wrong = until;
	if (wrong)
		return ctl_usage(&ctl_audit,
			"'%.80s' is no moment; write one in UTC, as 2026-01-31 or "
			"2026-01-31T08:00:00",
			wrong);
	if (!options->kind || ctl_audit_kinds(options->kind))
		return EXIT_OK;
	ctl_audit_kind_names(names, sizeof(names));
	return ctl_usage(
		&ctl_audit, "no kind is called '%.80s'; there are %s", options->kind, names);
}

static int run_action(
	struct ctl *ctl, const struct ctl_audit_options *options, size_t i, char **args)
{
	struct ctl_audit_action action = {.ctl = ctl, .options = *options, .args = args};
	int code;

	if (!options->file) {
		code = ctl_admin_connect(ctl, &action.admin);
		if (code)
			return code;
	}
	code = actions[i].run(&action);
	vmsig_admin_close(action.admin);
	return code;
}

static int run_audit(struct ctl *ctl, int argc, char **argv)
{
	struct parsed parsed = {.options.lines = TAIL_LINES};
	int code = ctl_options(ctl, &ctl_audit, argc, argv, own, handle, &parsed);
	const char *name = code || optind == argc ? NULL : argv[optind];

	if (!code)
		code = check_values(&parsed);
	if (code)
		return code;
	if (!name)
		return ctl_usage(&ctl_audit, "it takes ls, tail, show, verify or export");
	for (size_t i = 0; i < ACTIONS; i++) {
		if (strcmp(actions[i].name, name) != 0)
			continue;
		if (parsed.given & ~actions[i].takes)
			return ctl_usage(&ctl_audit, "%s does not take all of these options", name);
		if (argc - optind - 1 != actions[i].args)
			return ctl_usage(&ctl_audit, "%s takes %s", name,
				actions[i].args ? "the ID of one record" : "no arguments");
		return run_action(ctl, &parsed.options, i, argv + optind + 1);
	}
	return ctl_usage(&ctl_audit, "there is no '%s'", name);
}

const struct ctl_command ctl_audit = {
	.name = "audit",
	.arguments = "ls|tail|show ID|verify|export [OPTION]...",
	.summary = "Read and verify the log of leases and writes (administrators)",
	.help = "  ls [--after ID] [--limit N]       records, oldest first\n"
		"  tail [-n N] [--follow]            the newest N records (default 10); goes on "
		"with\n"
		"                                    what is appended\n"
		"  show ID                           all that one record says\n"
		"  verify [--head ID:HEX] [--file EXPORT]\n"
		"                                    whether the log, or an export of it (- is "
		"the\n"
		"                                    standard input), is what the broker has "
		"written;\n"
		"                                    exits with 15 when it is not, and names the "
		"record\n"
		"  export [--after ID] [--sqlite FILE]\n"
		"                                    records as JSON, one a line, or as a new "
		"SQLite\n"
		"                                    database with the tables records and "
		"ranges\n"
		"\n"
		"ls and tail show only records that fit:\n"
		"  --endpoint GLOB   --tenant NAME   --kind GLOB\n"
		"  --since TIME   --until TIME       UTC: 2026-01-31, 2026-01-31T08:00\n"
		"Kinds are those that the table shows: grant, write-intent, write-result...\n"
		"\n"
		"verify prints the newest record as ID:HEX. Note it where the broker's host "
		"cannot\n"
		"write: verify --head finds whatever is done to the log up to there, also a cut.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl audit tail --follow --endpoint 'web*'\n"
		"  vmsigctl audit ls --kind 'write-*' --json | jq -r .outcome\n"
		"  vmsigctl audit verify --json | jq -r .head >> heads\n"
		"  vmsigctl audit verify --head \"$(tail -1 heads)\"\n"
		"  vmsigctl audit export > log && vmsigctl audit verify --file log\n"
		"  vmsigctl audit export --sqlite log.db && sqlite3 log.db \\\n"
		"    'SELECT tenant, count(*) FROM records GROUP BY tenant'\n",
	.run = run_audit,
};
