/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_FOLDER_H
#define CLIENTS_COMMON_FOLDER_H

/* Where tools keep what outlives them. */

#include <limits.h>
#include <stdbool.h>

/* What the environment variable says, or vmsig/NAME in the user's folder for state. false:
 * there is none, or its path is too long. */
__attribute__((warn_unused_result)) bool folder_state(
	const char *variable, const char *name, char ret_path[static PATH_MAX]);
/* mkdir -p -m 700; `path` is used as scratch. 0 or -errno. */
__attribute__((warn_unused_result)) int folder_make(char *path);

#endif
