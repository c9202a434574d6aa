/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/shim/command.h"

#include <stdio.h>
#include <string.h>

#include "clients/common/exits.h"
#include "clients/shim/shim.h"
#include "clients/shim/words.h"
#include "proto/nearest.h"

static const struct shim_command shim_command_help, shim_command_quit;

static const struct shim_command *const commands[] = {&shim_command_peek, &shim_command_poke,
	&shim_command_cas, &shim_command_find, &shim_command_translate, &shim_command_undo,
	&shim_command_lease, &shim_command_log, &shim_command_epoch, &shim_command_help,
	&shim_command_quit};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

const struct shim_command *shim_command_at(size_t index)
{
	return index < COMMANDS ? commands[index] : NULL;
}

const struct shim_command *shim_command_find_name(const char *name, size_t len)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strlen(commands[i]->name) == len && memcmp(commands[i]->name, name, len) == 0)
			return commands[i];
	}
	return NULL;
}

/* ---- running ---- */

static int no_command(struct shim *shim, char *name)
{
	struct nearest nearest = nearest_to(name);

	for (size_t i = 0; i < COMMANDS; i++)
		nearest_offer(&nearest, commands[i]->name);
	/* An answer needs a name: what was typed is the next best one. */
	shim->output.command = name;
	return shim_output_usage(&shim->output, "there is no such command%s%s%s; see `help`",
		nearest.name ? ", perhaps '" : "", nearest.name ? nearest.name : "",
		nearest.name ? "'" : "");
}

static int run_words(struct shim *shim, int argc, char **argv)
{
	const struct shim_command *command = shim_command_find_name(argv[0], strlen(argv[0]));
	int status, ended;

	if (!command)
		return no_command(shim, argv[0]);
	shim->output.command = command->name;
	status = command->run(shim, argc, argv);
	ended = shim_output_end();
	return status ? status : ended;
}

int shim_command_run(struct shim *shim, char *line)
{
	char *argv[WORDS_MAX];
	int argc, status = EXIT_OK;

	shim->output.command = "line";
	switch (words_split(line, argv, &argc)) {
	case WORDS_QUOTE:
		status = shim_output_usage(&shim->output, "a quote is not closed");
		break;
	case WORDS_MANY:
		status = shim_output_usage(
			&shim->output, "these are more words than any command takes");
		break;
	case WORDS_OK:
		if (argc)
			status = run_words(shim, argc, argv);
		break;
	}
	shim->output.command = NULL;
	return status;
}

/* ---- help, quit ---- */

#define SUMMARY 40 /* column of a list */

static int help_json(struct shim *shim)
{
	json_t *array = json_array();

	for (size_t i = 0; i < COMMANDS; i++)
		json_array_append_new(
			array, json_pack("{s:s, s:s, s:s}", "name", commands[i]->name, "arguments",
				       commands[i]->arguments, "summary", commands[i]->summary));
	return shim_output_answer(&shim->output, json_pack("{s:o}", "commands", array));
}

static int help_all(struct shim *shim)
{
	if (shim->output.json)
		return help_json(shim);
	for (size_t i = 0; i < COMMANDS; i++) {
		const struct shim_command *command = commands[i];
		int width = printf("%s %s", command->name, command->arguments);

		if (width >= SUMMARY)
			putchar('\n');
		printf("%*s%s\n", width < SUMMARY ? SUMMARY - width : SUMMARY, "",
			command->summary);
	}
	puts("\nADDR is a number, or NAME[+OFFSET] of a symbol of the guest's kernel. Addresses "
	     "are\nguest-virtual, in the kernel's address space or with `pid PID` in that of a "
	     "process, or\nguest-physical with `phys`. `help COMMAND` has details and examples.");
	return EXIT_OK;
}

static int run_help(struct shim *shim, int argc, char **argv)
{
	const struct shim_command *command;

	if (argc == 1)
		return help_all(shim);
	command = argc == 2 ? shim_command_find_name(argv[1], strlen(argv[1])) : NULL;
	if (!command)
		return shim_output_usage(
			&shim->output, "it takes one COMMAND of those that `help` shows");
	if (shim->output.json)
		return shim_output_answer(
			&shim->output, json_pack("{s:s, s:s, s:s, s:s}", "name", command->name,
					       "arguments", command->arguments, "summary",
					       command->summary, "help", command->help));
	printf("%s %s\n\n%s.\n\n%s", command->name, command->arguments, command->summary,
		command->help);
	return EXIT_OK;
}

static const struct shim_command shim_command_help = {
	.name = "help",
	.arguments = "[COMMAND]",
	.summary = "Show the commands, or all about one",
	.help = "Example:\n"
		"  help poke\n",
	.words = {"*"},
	.run = run_help,
};

static int run_quit(struct shim *shim, int argc, char **argv)
{
	if (argc != 1)
		return shim_output_usage(&shim->output, "it takes no arguments");
	shim->quits = true;
	return shim->output.json ? shim_output_answer(&shim->output, json_object()) : EXIT_OK;
}

static const struct shim_command shim_command_quit = {
	.name = "quit",
	.arguments = "",
	.summary = "Give the lease back and end",
	.help = "The end of the input does the same.\n",
	.run = run_quit,
};
