/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_LIB_DIAL_H
#define CLIENTS_LIB_DIAL_H

/* Connecting to the broker's socket, and the sentence when that does not work. */

#include <stddef.h>

/* A connected socket that does not block, the caller's. 0, or a positive enum vmsig_error. */
__attribute__((warn_unused_result)) int dial_connect(
	const char *path, int *ret_fd, char *error, size_t error_size);

#endif
