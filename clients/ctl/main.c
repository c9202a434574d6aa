/* SPDX-License-Identifier: Apache-2.0 */
/* vmsigctl: the table of commands, and the options in front of them. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/ctl/ctl.h"
#include "proto/standard.h"

#define DEFAULT_WAIT_MS 10000
#define OPTIONS_MAX 24

enum { OPT_IDENTITY = 0x1000, OPT_SOCKET, OPT_JSON, OPT_WAIT };

static const struct ctl_command *const commands[] = {&ctl_ls, &ctl_info, &ctl_watch, &ctl_read,
	&ctl_translate, &ctl_pmap, &ctl_scan, &ctl_ps, &ctl_threads, &ctl_maps, &ctl_files,
	&ctl_modules, &ctl_symbols, &ctl_dump, &ctl_gdb, &ctl_exec, &ctl_lease, &ctl_write,
	&ctl_undo, &ctl_audit, &ctl_status, &ctl_stats, &ctl_top, &ctl_clients, &ctl_disconnect,
	&ctl_endpoint, &ctl_reload, &ctl_policy, &ctl_pki, &ctl_version};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct option global_options[] = {
	{"identity", required_argument, NULL, OPT_IDENTITY},
	{"socket", required_argument, NULL, OPT_SOCKET},
	{"json", no_argument, NULL, OPT_JSON},
	{"wait", required_argument, NULL, OPT_WAIT},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static const char global_help[] =
	"Global options:\n"
	"  --identity DIR  folder with key.pem, cert.pem, ca.pem (or VMSIG_IDENTITY)\n"
	"  --socket PATH   the broker's socket (or VMSIG_SOCKET; default " VMSIG_CTX_SOCKET "),\n"
	"                  of leases and writes (or VMSIG_WRITE_SOCKET), of the\n"
	"                  administrator's commands (or VMSIG_ADMIN_SOCKET)\n"
	"  --json          output for programs, one JSON value a line; errors too\n"
	"  --wait T        how long to wait for an endpoint that is not ready, or for a lease:\n"
	"                  500ms, 5s, 2min; a number is seconds (default 10s)\n"
	"  -h, --help      help; `vmsigctl COMMAND -h` has examples\n";

/* Output that did not get where it should, a full disk say, is no success. A command that
 * failed has said so already. */
static int output_end(int code)
{
	bool failed = ferror(stdout);

	if ((fflush(stdout) == 0 && !failed) || code != EXIT_OK)
		return code;
	return ctl_fail(VMSIG_ERR_IO, "cannot write the output: %s", strerror(errno));
}

static void usage(FILE *stream)
{
	fputs("usage: vmsigctl [OPTION]... COMMAND [ARGUMENT]...\n"
	      "\n"
	      "Looks into guest memory through the host's broker, vmsigd.\n"
	      "\n"
	      "Commands:\n",
		stream);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(stream, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(stream,
		"\n%s\n"
		"Exit status: 0 done; 1 error; 2 wrong usage; 3 no such endpoint, or forbidden;\n"
		"4 not ready in time; 5 cannot connect; 6 the guest was reset meanwhile;\n"
		"7 an address is not mapped, or not leased; 8 somebody else holds the lease;\n"
		"9 the lease is over; 10 other bytes were there than expected; 11 only a part was\n"
		"written; 12 it cannot be told whether it was written; 13 the endpoint cannot be\n"
		"written to; 14 busy, or a quota is used up; 15 the audit log is not intact.\n"
		"`exec` and `lease acquire` exit as their command does; 124: the lease was lost.\n",
		global_help);
}

static void command_help(const struct ctl_command *command)
{
	printf("usage: vmsigctl %s%s%s\n\n%s.\n\n%s%s%s", command->name,
		command->arguments[0] ? " " : "", command->arguments, command->summary,
		command->help, command->help[0] ? "\n" : "", global_help);
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
 * on it. With --json getopt(3) says nothing by itself. `goes_on`: behind these options come those
 * of another command of this program. */
static void look_ahead(
	int argc, char **argv, const char *letters, const struct option *all, bool goes_on)
{
	int code;

	opterr = 0;
	/* Another vector and another order of scanning: 0 makes GNU's getopt begin anew. */
	optind = 0;
	while ((code = getopt_long(argc, argv, letters, all, NULL)) >= 0) {
		if (code == OPT_JSON)
			ctl_say_json();
		if (code == '?' && goes_on)
			ctl_find_json(argc, argv);
	}
	optind = 0;
	opterr = !ctl_says_json();
}

/* The option that getopt(3) has just found wrong. */
static const char *wrong_option(char *const *argv, char buf[static 3])
{
	if (!optopt || optopt > CHAR_MAX)
		return argv[optind - 1];
	snprintf(buf, 3, "-%c", optopt);
	return buf;
}

static int options_fail(const struct ctl_command *command, char *const *argv)
{
	char buf[3];

	return ctl_says_json() ? ctl_usage(command, "wrong option '%s'", wrong_option(argv, buf))
			       : ctl_usage(command, "wrong option");
}

int ctl_options(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv,
	const struct option *own, ctl_option_fn handle, void *ctx)
{
	struct option all[OPTIONS_MAX];
	char letters[2 * OPTIONS_MAX + 3] = "+h";
	const char *how = letters + !command->has_command;
	size_t n = 0;
	int code;

	for (; own && own->name; own++) {
		all[n++] = *own;
		if (own->val < CTL_OPT_FIRST)
			snprintf(letters + strlen(letters), 3, "%c%s", own->val,
				own->has_arg ? ":" : "");
	}
	memcpy(&all[n], global_options, sizeof(global_options));
	look_ahead(argc, argv, how, all, command->has_actions);
	while ((code = getopt_long(argc, argv, how, all, NULL)) >= 0) {
		if (code == 'h') {
			command_help(command);
			exit(output_end(EXIT_OK));
		}
		if (code == '?')
			return options_fail(command, argv);
		if (!(code >= OPT_IDENTITY ? handle_global(ctl, code, optarg)
					   : handle && handle(ctx, code, optarg)))
			return ctl_usage(command, "'%s' is no value for this option", optarg);
	}
	return EXIT_OK;
}

static int run_version(struct ctl *ctl, int argc, char **argv)
{
	int code = ctl_options(ctl, &ctl_version, argc, argv, NULL, NULL, NULL);

	if (code)
		return code;
	if (optind < argc)
		return ctl_usage(&ctl_version, "it takes no argument");
	if (ctl->json)
		return ctl_print_json(json_pack("{s:s}", "version", vmsig_version()));
	printf("vmsigctl %s\n", vmsig_version());
	return EXIT_OK;
}

const struct ctl_command ctl_version = {
	.name = "version",
	.arguments = "",
	.summary = "Print the version",
	.help = "",
	.run = run_version,
};

static const struct ctl_command *command_find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	}
	return NULL;
}

/* A line that does not get as far as a command. */
static int line_fail(int argc, char **argv, const char *what)
{
	ctl_find_json(argc, argv);
	if (ctl_says_json())
		ctl_fail_with(VMSIG_ERR_BAD_REQUEST, "see `vmsigctl -h`", "%s", what);
	else
		usage(stderr);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	struct ctl ctl = {.identity = getenv("VMSIG_IDENTITY"), .wait_ms = DEFAULT_WAIT_MS};
	const struct ctl_command *command;
	int code;

	if (standard_secure())
		return EXIT_ERROR;
	look_ahead(argc, argv, "+h", global_options, true);
	while ((code = getopt_long(argc, argv, "+h", global_options, NULL)) >= 0) {
		if (code == 'h') {
			usage(stdout);
			return output_end(EXIT_OK);
		}
		if (code == '?' || !handle_global(&ctl, code, optarg))
			return line_fail(argc, argv,
				code == '?' ? "wrong option" : "wrong value of an option");
	}
	if (optind == argc)
		return line_fail(argc, argv, "there is no command");
	command = command_find(argv[optind]);
	if (!command) {
		ctl_find_json(argc, argv);
		ctl_fail_with(VMSIG_ERR_BAD_REQUEST, "see `vmsigctl -h`",
			"there is no command '%s'", argv[optind]);
		return EXIT_USAGE;
	}
	return output_end(command->run(&ctl, argc - optind, argv + optind));
}
