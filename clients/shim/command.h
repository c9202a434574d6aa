/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_COMMAND_H
#define CLIENTS_SHIM_COMMAND_H

/* The commands, and what runs a line of them. */

#include <stddef.h>

#define COMMAND_ARGUMENTS_MAX 5 /* of any command */

struct shim;

struct command {
	const char *name;
	const char *arguments;
	const char *summary;
	const char *help; /* details and examples */
	/* What completion offers as first, second, ... argument: words with a blank in between,
	 * "*" for the names of commands, NULL for nothing. */
	const char *words[COMMAND_ARGUMENTS_MAX];
	int (*run)(struct shim *shim, int argc, char **argv);
};

extern const struct command command_peek, command_poke, command_cas, command_find, command_undo,
	command_lease, command_log, command_epoch;

/* Runs one line, which is taken apart. Its exit status; EXIT_OK for an empty one. */
int command_run(struct shim *shim, char *line);

/* By number, from 0; NULL behind the last one. */
const struct command *command_at(size_t index);
const struct command *command_find_name(const char *name, size_t len);

#endif
