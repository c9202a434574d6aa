/* SPDX-License-Identifier: Apache-2.0 */
/* vmsigctl: the table of commands. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/nearest.h"
#include "clients/common/page.h"
#include "clients/ctl/ctl.h"
#include "proto/standard.h"

#define DEFAULT_WAIT_MS 10000

static const struct ctl_command *const commands[] = {&ctl_ls, &ctl_info, &ctl_watch, &ctl_read,
	&ctl_translate, &ctl_pmap, &ctl_scan, &ctl_ps, &ctl_threads, &ctl_environ, &ctl_maps,
	&ctl_files, &ctl_cat, &ctl_sockets, &ctl_mounts, &ctl_dmesg, &ctl_modules, &ctl_sections,
	&ctl_exports, &ctl_imports, &ctl_symbols, &ctl_check, &ctl_dump, &ctl_gdb, &ctl_mount,
	&ctl_exec, &ctl_lease, &ctl_write, &ctl_undo, &ctl_audit, &ctl_status, &ctl_stats, &ctl_top,
	&ctl_clients, &ctl_disconnect, &ctl_endpoint, &ctl_fleet, &ctl_provide, &ctl_reload,
	&ctl_policy, &ctl_pki, &ctl_version, &ctl_help};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *to)
{
	page_print(to, "usage: vmsigctl [OPTION]... COMMAND [ARGUMENT]...\n"
		       "\n"
		       "Looks into guest memory through the host's broker, vmsigd.\n"
		       "\n"
		       "Commands:\n");
	for (size_t i = 0; i < COMMANDS; i++)
		page_print(to, "  %-10s  %s\n", commands[i]->name, commands[i]->summary);
	page_print(to,
		"\n%s"
		"  -V, --version   the version, in front of a command\n"
		"\n"
		"Exit status: 0 done; 1 error; 2 wrong usage; 3 no such endpoint, or forbidden;\n"
		"4 not ready in time; 5 cannot connect; 6 the guest was reset meanwhile; 7 an\n"
		"address is not mapped, or not leased; 8 somebody else holds the lease; 9 the\n"
		"lease is over; 10 other bytes were there than expected; 11 only a part was\n"
		"written; 12 it cannot be told whether it was written; 13 the endpoint cannot be\n"
		"written to; 14 busy, or a quota is used up; 15 the audit log is not intact.\n"
		"`exec` and `lease acquire` exit as their command does; 124: the lease was lost.\n",
		ctl_options_help);
}

/* ---- version ---- */

static int print_version(void)
{
	if (ctl_says_json())
		return ctl_print_json(json_pack("{s:s}", "version", vmsig_version()));
	printf("vmsigctl %s\n", vmsig_version());
	return EXIT_OK;
}

static int run_version(struct ctl *ctl, int argc, char **argv)
{
	int code = ctl_options(ctl, &ctl_version, argc, argv, NULL, NULL, NULL);

	if (code)
		return code;
	return optind < argc ? ctl_usage(&ctl_version, "it takes no argument") : print_version();
}

const struct ctl_command ctl_version = {
	.name = "version",
	.arguments = "",
	.summary = "Print the version",
	.help = "",
	.run = run_version,
};

/* ---- help ---- */

static const struct ctl_command *command_find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	}
	return NULL;
}

static int no_command(const char *name)
{
	struct nearest nearest = nearest_to(name);

	for (size_t i = 0; i < COMMANDS; i++)
		nearest_offer(&nearest, commands[i]->name);
	ctl_fail_with(VMSIG_ERR_BAD_REQUEST, "see `vmsigctl -h`", "there is no command '%s'%s%s%s",
		name, nearest.name ? ", perhaps '" : "", nearest.name ? nearest.name : "",
		nearest.name ? "'" : "");
	return EXIT_USAGE;
}

/* What `vmsigctl COMMAND... -h` prints. */
static int run_help(struct ctl *ctl, int argc, char **argv)
{
	static char option[] = "-h";
	int code = ctl_options(ctl, &ctl_help, argc, argv, NULL, NULL, NULL);
	char *words[] = {NULL, option, option, NULL};
	const struct ctl_command *command;
	int n = argc - optind;

	if (code)
		return code;
	if (n > 2)
		return ctl_usage(&ctl_help, "it takes the name of a command");
	if (!n) {
		usage(stdout);
		return EXIT_OK;
	}
	memcpy(words, argv + optind, (size_t)n * sizeof(*words));
	command = command_find(words[0]);
	return command ? command->run(ctl, n + 1, words) : no_command(words[0]);
}

const struct ctl_command ctl_help = {
	.name = "help",
	.arguments = "[COMMAND]",
	.summary = "Show what there is, or what a command does",
	.help = "Examples:\n"
		"  vmsigctl help\n"
		"  vmsigctl help lease acquire\n",
	.run = run_help,
};

/* ---- the command line ---- */

static void show(int code)
{
	if (code == 'V')
		(void)print_version();
	else
		usage(stdout);
}

/* A line that does not get as far as a command. Who says nothing at all is told what there is. */
static int line_fail(int argc, char **argv, const char *what)
{
	ctl_find_json(argc, argv);
	if (argc > 1 || ctl_says_json())
		ctl_fail_with(VMSIG_ERR_BAD_REQUEST, "see `vmsigctl -h`", "%s", what);
	else
		usage(stderr);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	struct ctl ctl = {.identity = getenv("VMSIG_IDENTITY"), .wait_ms = DEFAULT_WAIT_MS};
	const struct ctl_command *command;
	const char *wrong;

	if (standard_secure())
		return EXIT_ERROR;
	wrong = ctl_options_before(&ctl, show, argc, argv);
	if (wrong)
		return line_fail(argc, argv, wrong);
	if (optind == argc)
		return line_fail(argc, argv, "there is no command");
	command = command_find(argv[optind]);
	if (!command) {
		ctl_find_json(argc, argv);
		return no_command(argv[optind]);
	}
	return ctl_output_end(command->run(&ctl, argc - optind, argv + optind));
}
