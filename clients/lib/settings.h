/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_LIB_SETTINGS_H
#define CLIENTS_LIB_SETTINGS_H

/* What a handle was opened with: the options, copied, checked and with their defaults. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/wire/tls.h"
#include "vmsig/vmsig.h"

struct settings {
	char *socket_path;
	char *identity_dir;
	uint32_t flags; /* VMSIG_OPT_... */
	uid_t broker_uid;
	uint32_t connect_timeout_ms, request_timeout_ms;
	uint32_t backoff_min_ms, backoff_max_ms;
};

/* 0, a positive enum vmsig_error with a sentence in `error`, or -ENOMEM. settings_deinit() also
 * after a failure. */
__attribute__((warn_unused_result)) int settings_init(struct settings *settings,
	const vmsig_options *options, const char *default_socket, char *error, size_t error_size);
void settings_deinit(struct settings *settings);
/* Reads the identity's files: as tls_ctx_new(). */
__attribute__((warn_unused_result)) int settings_identity(
	const struct settings *settings, struct tls_ctx **ret_tls, char *error, size_t error_size);

#endif
