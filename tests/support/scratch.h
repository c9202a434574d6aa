/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_SCRATCH_H
#define TESTS_SUPPORT_SCRATCH_H

/*
 * Folders that a test makes, fills and removes, for cmocka tests: what goes wrong fails the test.
 * The includer has cmocka's headers in front of this one.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* A new folder; `path` ends with XXXXXX, and is its name then. */
static inline void scratch_make(char *path)
{
	assert_non_null(mkdtemp(path));
}

/* A line of the shell, which has to succeed. */
__attribute__((format(printf, 1, 2))) static inline void scratch_run(const char *format, ...)
{
	char command[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	assert_int_equal(system(command), 0);
}

static inline void scratch_remove(const char *path)
{
	scratch_run("rm -r %s", path);
}

#endif
