/* SPDX-License-Identifier: Apache-2.0 */
/* Names and sentences of enum vmsig_error, out of its one table. */
#include "vmsig/vmsig_error.h"

#include <stddef.h>

struct error_info {
	const char *name;
	const char *text;
	bool retryable;
};

#define ERROR_INFO(name, number, retry, text) [number] = {#name, text, retry},
static const struct error_info errors[] = {VMSIG_ERROR_LIST(ERROR_INFO)};

static const struct error_info *error_find(int error)
{
	static const struct error_info unknown = {
		"UNKNOWN", "An error that this version does not know.", false};
	/* Negating INT_MIN would overflow. */
	unsigned number = error < 0 ? 0u - (unsigned)error : (unsigned)error;

	if (number >= sizeof(errors) / sizeof(errors[0]) || !errors[number].name)
		return &unknown;
	return &errors[number];
}

const char *vmsig_error_name(int error)
{
	return error_find(error)->name;
}

const char *vmsig_error_text(int error)
{
	return error_find(error)->text;
}

bool vmsig_error_retryable(int error)
{
	return error_find(error)->retryable;
}
