/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_FAILURE_H
#define CLIENTS_COMMON_FAILURE_H

/*
 * What went wrong and what can be done about it, said on standard error as one line: to people
 * "PROGRAM: TEXT; HINT", to programs {"error": NAME, "number": N, "text": ..., "hint": ...}.
 * Name and number are those of vmsig_error.h; without a hint that member is null.
 */

#include <stdarg.h>

#include <jansson.h>

#include "vmsig/vmsig_error.h"

#define FAILURE_TEXT_MAX 2048

struct failure {
	int error; /* positive enum vmsig_error */
	char text[FAILURE_TEXT_MAX];
	const char *hint; /* NULL: nobody knows what to do */
};

/* A program's own word on an error, which goes before the one that all programs share. */
struct failure_hint {
	enum vmsig_error error;
	const char *next;
};

/* With the hint for `error`, which has either sign. `own` ends with an entry of
 * VMSIG_ERR_OK; NULL: there are none. A sentence's full stop goes when a hint follows. */
__attribute__((format(printf, 4, 0))) void failure_make(struct failure *ret_failure,
	const struct failure_hint *own, int error, const char *format, va_list args);

/* `why` without "NAME: " before it: whoever says the name does so once. */
const char *failure_why(const char *name, const char *why);

void failure_say(const struct failure *failure, const char *program);
void failure_say_json(const struct failure *failure);

#endif
