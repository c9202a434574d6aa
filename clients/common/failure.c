/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/failure.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "clients/common/value.h"

/* What the user can do, whichever the program is. */
static const struct failure_hint hints[] = {
	{VMSIG_ERR_NO_SUCH_ENDPOINT, "see `vmsigctl ls` for what there is"},
	{VMSIG_ERR_FORBIDDEN, "ask who writes the broker's policy"},
	{VMSIG_ERR_WEAK_GUARD, "see deploy/THREATS.md for the guards"},
	{VMSIG_ERR_NOT_READY, "wait longer with --wait T"},
	{VMSIG_ERR_GONE, "start the guest"},
	{VMSIG_ERR_UNAUTHENTICATED,
		"check --identity, and that the policy names this tenant with your uid"},
	{VMSIG_ERR_SHUTTING_DOWN, "start vmsigd again"},
	{VMSIG_ERR_NO_BROKER, "see whether vmsigd runs, and its log; try again when it serves"},
	{VMSIG_ERR_TORN, "the guest is being written to; try again"},
	{VMSIG_ERR_NOT_MAPPED, "see `vmsigctl pmap` for what is mapped"},
	{VMSIG_ERR_NO_WRITE_PATH, "see `vmsigctl ls --json` for what is writable"},
	{VMSIG_ERR_BUSY, "try again later"},
	{VMSIG_ERR_MOVED, "ask the broker of the host that has the guest"},
	{VMSIG_ERR_QUOTA, "try again later, or ask for a higher quota"},
	{VMSIG_ERR_OK, NULL},
};

static const char *hint_find(const struct failure_hint *from, int number)
{
	for (; from && from->error != VMSIG_ERR_OK; from++) {
		if ((int)from->error == number)
			return from->next;
	}
	return NULL;
}

void failure_make(struct failure *ret_failure, const struct failure_hint *own, int error,
	const char *format, va_list args)
{
	size_t len;

	ret_failure->error = error < 0 ? -error : error;
	ret_failure->hint = hint_find(own, ret_failure->error);
	if (!ret_failure->hint)
		ret_failure->hint = hint_find(hints, ret_failure->error);
	vsnprintf(ret_failure->text, sizeof(ret_failure->text), format, args);
	len = strlen(ret_failure->text);
	if (ret_failure->hint && len && ret_failure->text[len - 1] == '.')
		ret_failure->text[len - 1] = '\0';
}

const char *failure_why(const char *name, const char *why)
{
	size_t len = strlen(name);

	return strncmp(why, name, len) == 0 && strncmp(why + len, ": ", 2) == 0 ? why + len + 2
										: why;
}

void failure_say(const struct failure *failure, const char *program)
{
	fprintf(stderr, "%s: %s%s%s\n", program, failure->text, failure->hint ? "; " : "",
		failure->hint ? failure->hint : "");
}

void failure_say_json(const struct failure *failure)
{
	json_t *json = json_pack("{s:s, s:i, s:o, s:s?}", "error", vmsig_error_name(failure->error),
		"number", failure->error, "text", value_text(failure->text), "hint", failure->hint);

	/* Without memory for it, the least that fits. */
	if (!json || json_dumpf(json, stderr, JSON_COMPACT))
		fputs("{\"error\":\"NO_MEMORY\",\"number\":29,\"text\":\"out of memory\","
		      "\"hint\":null}",
			stderr);
	fputc('\n', stderr);
	json_decref(json);
}
