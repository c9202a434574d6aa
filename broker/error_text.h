/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ERROR_TEXT_H
#define BROKER_ERROR_TEXT_H

/*
 * A sentence for what a function of the broker returned: a negative errno or a positive
 * enum vmsig_error. (vmsig_error_text() takes the library's form, where negative is one of ours.)
 */

#include <string.h>

#include "vmsig/vmsig_error.h"

/* Static, or of strerror(3). Never NULL. */
static inline const char *error_text(int error)
{
	return error < 0 ? strerror(-error) : vmsig_error_text(error);
}

/* The same, but one of ours by its name. */
static inline const char *error_name(int error)
{
	return error < 0 ? strerror(-error) : vmsig_error_name(error);
}

#endif
