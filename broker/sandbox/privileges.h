/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_SANDBOX_PRIVILEGES_H
#define BROKER_SANDBOX_PRIVILEGES_H

/*
 * User and capabilities of a process, given up for good: what is not in the set that is kept can
 * not come back, by no program that is executed and no user that is switched to.
 */

#include <stddef.h>

/* Capabilities (linux/capability.h), and who is told when one that is wanted is not there. */
struct privileges {
	const int *kept;
	size_t nkept;
};

/* Becomes `user` with its groups (NULL: stays who it is) and keeps of `kept` what it has. `error`
 * gets a sentence. -errno. */
__attribute__((warn_unused_result)) int privileges_drop(
	const char *user, const struct privileges *privileges, char *error, size_t error_size);

/* Makes a folder for the user (NULL: for who one is) where it is missing; it cannot be made from
 * behind a fence. What fails shows where the folder is used. */
void privileges_make_folder(const char *user, const char *folder, unsigned mode);

#endif
