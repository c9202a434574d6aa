/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_COMMAND_H
#define CLIENTS_SHIM_COMMAND_H

/* The commands, and what runs a line of them. */

#include <stddef.h>

#define COMMAND_ARGUMENTS_MAX 6 /* of any command */

struct shim;

struct shim_command {
	const char *name;
	const char *arguments;
	const char *summary;
	const char *help; /* details and examples */
	/* What completion offers as first, second, ... argument: words with a blank in between,
	 * "*" for the names of commands, NULL for nothing. */
	const char *words[COMMAND_ARGUMENTS_MAX];
	int (*run)(struct shim *shim, int argc, char **argv);
};

extern const struct shim_command shim_command_peek, shim_command_poke, shim_command_cas,
	shim_command_find, shim_command_translate, shim_command_undo, shim_command_lease,
	shim_command_log, shim_command_epoch;

/* Runs one line, which is taken apart. Its exit status; EXIT_OK for an empty one. */
int shim_command_run(struct shim *shim, char *line);

/* By number, from 0; NULL behind the last one. */
const struct shim_command *shim_command_at(size_t index);
const struct shim_command *shim_command_find_name(const char *name, size_t len);

#endif
