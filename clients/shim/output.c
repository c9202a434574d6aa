/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/shim/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "clients/common/exits.h"
#include "clients/common/failure.h"
#include "vmsig/vmsig_error.h"

#define SENTENCE_MAX 1024

/* What this program knows better than all of them. */
static const struct failure_hint own_hints[] = {
	{VMSIG_ERR_DISCONNECTED, "see --socket and --ctx-socket"},
	{VMSIG_ERR_OUT_OF_RANGE,
		"see `vmsigctl info` for the RAM's ranges, `lease` for the lease's"},
	{VMSIG_ERR_LEASE_HELD, "see `vmsigctl lease ls`, or wait for it"},
	{VMSIG_ERR_LEASE_EXPIRED, "say `lease acquire` for a new one"},
	{VMSIG_ERR_LEASE_REVOKED, "say `lease acquire` for a new one"},
	{VMSIG_ERR_NO_LEASE, "say `lease acquire` for one"},
	{VMSIG_ERR_STALE_EPOCH, "look again, then say `lease acquire`"},
	{VMSIG_ERR_COMPARE_FAILED, "look with `peek`"},
	{VMSIG_ERR_PARTIAL, "look with `peek`"},
	{VMSIG_ERR_UNKNOWN_OUTCOME, "look with `peek` before you write it again"},
	{VMSIG_ERR_OK, NULL},
};

/* What cannot be written is seen by shim_output_end(). */
static void print_json(json_t *json)
{
	if (json && json_dumpf(json, stdout, JSON_COMPACT) == 0)
		putchar('\n');
	fflush(stdout);
	json_decref(json);
}

/* ---- news ---- */

void shim_output_news(
	struct shim_output *output, const char *event, int error, const char *format, ...)
{
	char sentence[SENTENCE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	if (output->hide)
		output->hide(output->terminal);
	if (output->json) {
		json_t *json = json_pack("{s:s, s:s}", "event", event, "text", sentence);

		if (json && error)
			json_object_set_new(json, "error", json_string(vmsig_error_name(error)));
		print_json(json);
	} else {
		fflush(stdout);
		fprintf(stderr, "vmsig-shim: %s\n", sentence);
	}
	if (output->show)
		output->show(output->terminal);
}

/* ---- failures ---- */

static int fail(struct shim_output *output, int status, const char *error, const char *sentence)
{
	fflush(stdout);
	fputs("vmsig-shim: ", stderr);
	if (output->line)
		fprintf(stderr, "line %u: ", output->line);
	if (output->command)
		fprintf(stderr, "%s: ", output->command);
	fprintf(stderr, "%s\n", sentence);
	if (output->json && output->command)
		print_json(json_pack("{s:s, s:b, s:s, s:i, s:s}", "command", output->command, "ok",
			0, "error", error, "status", status, "text", sentence));
	return status;
}

static int fail_hinted(struct shim_output *output, const struct failure *failure)
{
	char sentence[FAILURE_TEXT_MAX + SENTENCE_MAX];

	snprintf(sentence, sizeof(sentence), "%s%s%s", failure->text, failure->hint ? "; " : "",
		failure->hint ? failure->hint : "");
	return fail(
		output, exit_status(failure->error), vmsig_error_name(failure->error), sentence);
}

int shim_output_fail(struct shim_output *output, int error, const char *format, ...)
{
	struct failure failure;
	va_list args;

	va_start(args, format);
	failure_make(&failure, own_hints, error, format, args);
	va_end(args);
	return fail_hinted(output, &failure);
}

int shim_output_fail_with(
	struct shim_output *output, int error, const char *hint, const char *format, ...)
{
	struct failure failure;
	va_list args;

	va_start(args, format);
	failure_make(&failure, NULL, error, format, args);
	va_end(args);
	failure.hint = hint;
	return fail_hinted(output, &failure);
}

int shim_output_usage(struct shim_output *output, const char *format, ...)
{
	char sentence[SENTENCE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	return fail(output, EXIT_USAGE, "USAGE", sentence);
}

int shim_output_interrupted(struct shim_output *output, int signal)
{
	return fail(output, SHIM_OUTPUT_SIGNAL + signal, "INTERRUPTED", "interrupted");
}

/* ---- answers ---- */

int shim_output_answer(struct shim_output *output, json_t *json)
{
	json_t *answer = json_pack("{s:s, s:b}", "command", output->command, "ok", 1);
	bool ok = answer && json && json_object_update(answer, json) == 0;

	json_decref(json);
	if (ok)
		print_json(answer);
	else
		json_decref(answer);
	return ok ? EXIT_OK
		  : shim_output_fail(output, VMSIG_ERR_NO_MEMORY, "no memory for the answer");
}

int shim_output_end(void)
{
	bool failed = ferror(stdout);

	if (fflush(stdout) == 0 && !failed)
		return EXIT_OK;
	fprintf(stderr, "vmsig-shim: cannot write the output: %s\n", strerror(errno));
	clearerr(stdout);
	return EXIT_ERROR;
}
