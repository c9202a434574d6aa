/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a command and those in front of it, and which action of a group is meant. */
#include "clients/ctl/ctl.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/nearest.h"
#include "clients/common/page.h"

#define OPTIONS_MAX 24
#define VALUE_MAX 160 /* of a sentence about a value */

enum { OPT_IDENTITY = 0x1000, OPT_SOCKET, OPT_JSON, OPT_WAIT };

static const struct option global_options[] = {
	{"identity", required_argument, NULL, OPT_IDENTITY},
	{"socket", required_argument, NULL, OPT_SOCKET},
	{"json", no_argument, NULL, OPT_JSON},
	{"wait", required_argument, NULL, OPT_WAIT},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

const char ctl_options_help[] =
	"Global options:\n"
	"  --identity DIR  folder with key.pem, cert.pem, ca.pem (or VMSIG_IDENTITY)\n"
	"  --socket PATH   the broker's socket (or VMSIG_SOCKET; " VMSIG_CTX_SOCKET "), of\n"
	"                  leases and writes (or VMSIG_WRITE_SOCKET), of the\n"
	"                  administrator's commands (or VMSIG_ADMIN_SOCKET)\n"
	"  --json          output for programs, one JSON value a line; errors too\n"
	"  --wait T        how long to wait for an endpoint that is not ready, or for a\n"
	"                  lease: 500ms, 5s, 2min; a number is seconds (default 10s)\n"
	"  -h, --help      help; `vmsigctl COMMAND -h` has examples\n";

static void command_help(const struct ctl_command *command)
{
	page_print(stdout, "usage: vmsigctl %s%s%s\n\n%s.\n\n%s%s%s", command->name,
		command->arguments[0] ? " " : "", command->arguments, command->summary,
		command->help, command->help[0] ? "\n" : "", ctl_options_help);
}

static bool handle_global(struct ctl *ctl, int code, const char *value)
{
	switch (code) {
	case OPT_IDENTITY:
		ctl->identity = value;
		return true;
	case OPT_SOCKET:
		ctl->socket = value;
		return true;
	case OPT_JSON:
		ctl->json = true;
		ctl_say_json();
		return true;
	case OPT_WAIT:
		ctl->wait_given = true;
		return text_duration(value, &ctl->wait_ms);
	default:
		return false;
	}
}

void ctl_find_json(int argc, char *const *argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--json") == 0)
			ctl_say_json();
	}
}

/* Looks for --json behind what may be wrong with the options before it: how that is said depends
 * on it. `goes_on`: behind these options come those of another command of this program. */
static void look_ahead(
	int argc, char **argv, const char *letters, const struct option *all, bool goes_on)
{
	/* getopt(3) moves words: of a line that is wrong behind others' places. */
	char **words = calloc((size_t)argc + 1, sizeof(*words));
	int code;

	opterr = 0;
	if (!words)
		return;
	memcpy(words, argv, (size_t)argc * sizeof(*words));
	/* Another vector and another order of scanning: 0 makes GNU's getopt begin anew. */
	optind = 0;
	while ((code = getopt_long(argc, words, letters, all, NULL)) >= 0) {
		if (code == OPT_JSON)
			ctl_say_json();
		if (code == '?' && goes_on)
			ctl_find_json(argc, argv);
	}
	optind = 0;
	free(words);
}

/* The long option that was meant by one that there is not; NULL: nobody knows. */
static const char *option_near(const char *word, const struct option *all)
{
	char name[VALUE_MAX];
	struct nearest nearest;

	if (strncmp(word, "--", 2) != 0)
		return NULL;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(word + 2, "="), word + 2);
	nearest = nearest_to(name);
	for (; all->name; all++)
		nearest_offer(&nearest, all->name);
	return nearest.name;
}

/* What is wrong with the option that getopt(3) has stopped at. An option that there is has its code
 * in optopt then; a letter may stand within a word. */
static const char *option_wrong(
	char text[static VALUE_MAX], char *const *argv, const struct option *all)
{
	const char *word = argv[optind - 1], *near = option_near(word, all);
	bool exists = false;

	for (; all->name; all++)
		exists = exists || (optopt && all->val == optopt);
	if (optopt && optopt <= CHAR_MAX && strncmp(word, "--", 2) != 0)
		snprintf(text, VALUE_MAX, exists ? "'-%c' needs a value" : "wrong option '-%c'",
			optopt);
	else if (exists)
		snprintf(text, VALUE_MAX, "'%.80s'%s", word,
			strchr(word, '=') ? " takes no value" : " needs a value");
	else
		snprintf(text, VALUE_MAX, "wrong option '%.80s'%s%s%s", word,
			near ? ", perhaps '--" : "", near ? near : "", near ? "'" : "");
	return text;
}

/* "'soon' is no value for --wait"; `index`: of the long option; -1: it was the letter `code`. */
static const char *no_value(
	char text[static VALUE_MAX], const struct option *all, int index, int code)
{
	char letter[2] = {(char)code};

	snprintf(text, VALUE_MAX, "'%.80s' is no value for %s%s", optarg ? optarg : "",
		index < 0 ? "-" : "--", index < 0 ? letter : all[index].name);
	return text;
}

int ctl_options(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv,
	const struct option *own, ctl_option_fn handle, void *ctx)
{
	struct option all[OPTIONS_MAX];
	char letters[2 * OPTIONS_MAX + 3] = "+h";
	const char *how = letters + !command->has_command;
	char wrong[VALUE_MAX];
	size_t n = 0;
	int code, index = -1;

	for (; own && own->name; own++) {
		all[n++] = *own;
		if (own->val < CTL_OPT_FIRST)
			snprintf(letters + strlen(letters), 3, "%c%s", own->val,
				own->has_arg ? ":" : "");
	}
	memcpy(&all[n], global_options, sizeof(global_options));
	look_ahead(argc, argv, how, all, command->has_actions);
	for (; (code = getopt_long(argc, argv, how, all, &index)) >= 0; index = -1) {
		if (code == 'h') {
			command_help(command);
			exit(ctl_output_end(EXIT_OK));
		}
		if (code == '?')
			return ctl_usage(command, "%s", option_wrong(wrong, argv, all));
		if (!(code >= OPT_IDENTITY ? handle_global(ctl, code, optarg)
					   : handle && handle(ctx, code, optarg)))
			return ctl_usage(command, "%s", no_value(wrong, all, index, code));
	}
	return EXIT_OK;
}

const char *ctl_options_before(struct ctl *ctl, void (*show)(int code), int argc, char **argv)
{
	static char wrong[VALUE_MAX];
	struct option all[OPTIONS_MAX] = {{"version", no_argument, NULL, 'V'}};
	int code, index = -1;

	memcpy(&all[1], global_options, sizeof(global_options));
	look_ahead(argc, argv, "+hV", all, true);
	for (; (code = getopt_long(argc, argv, "+hV", all, &index)) >= 0; index = -1) {
		if (code == 'h' || code == 'V') {
			show(code);
			exit(ctl_output_end(EXIT_OK));
		}
		if (code == '?')
			return option_wrong(wrong, argv, all);
		if (!handle_global(ctl, code, optarg))
			return no_value(wrong, all, index, code);
	}
	return NULL;
}

int ctl_run_action(struct ctl *ctl, const struct ctl_command *group,
	const struct ctl_action *actions, size_t n, const char *say, int argc, char **argv)
{
	int code = ctl_options(ctl, group, argc, argv, NULL, NULL, NULL);

	if (code)
		return code;
	for (size_t i = 0; optind < argc && i < n; i++) {
		if (strcmp(actions[i].name, argv[optind]) == 0)
			return actions[i].command->run(ctl, argc - optind, argv + optind);
	}
	ctl_find_json(argc - optind, argv + optind);
	return ctl_usage(group, "%s", say);
}
