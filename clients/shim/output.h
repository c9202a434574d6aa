/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_OUTPUT_H
#define CLIENTS_SHIM_OUTPUT_H

/*
 * What is said to people and programs: answers of commands on standard output, failures and
 * news on standard error. As JSON each command has exactly one answer, an object with
 * `command` and `ok`, and news are objects with `event`, all on standard output.
 */

#include <stdbool.h>

#include <jansson.h>

#define SHIM_OUTPUT_SIGNAL 128 /* plus the signal: how shells tell what ended a command */

struct shim_output {
	bool json;
	unsigned line;       /* of a script; 0: there is none */
	const char *command; /* that runs, or NULL */
	/* A line that is being edited gives way to news, and comes back. Both or none. */
	void (*hide)(void *terminal);
	void (*show)(void *terminal);
	void *terminal;
};

/* What happened without being asked for. `error` is 0 or an enum vmsig_error of either sign. */
__attribute__((format(printf, 4, 5))) void shim_output_news(
	struct shim_output *output, const char *event, int error, const char *format, ...);
/* A command that has failed; with what can be done next. The exit status. */
__attribute__((format(printf, 3, 4))) int shim_output_fail(
	struct shim_output *output, int error, const char *format, ...);
/* The same with a hint of one's own. */
__attribute__((format(printf, 4, 5))) int shim_output_fail_with(
	struct shim_output *output, int error, const char *hint, const char *format, ...);
/* One that was typed wrongly: EXIT_USAGE. */
__attribute__((format(printf, 2, 3))) int shim_output_usage(
	struct shim_output *output, const char *format, ...);
/* One that was interrupted by the signal: 128 and its number. */
int shim_output_interrupted(struct shim_output *output, int signal);
/* The answer of the command as JSON, which is released. */
int shim_output_answer(struct shim_output *output, json_t *json);
/* After a command: whether all that it has said went where it should. */
int shim_output_end(void);

#endif
