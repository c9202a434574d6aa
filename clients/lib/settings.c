/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/settings.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 10000u
#define REQUEST_TIMEOUT_MS 10000u
#define BACKOFF_MIN_MS 100u
#define BACKOFF_MAX_MS 10000u

static uint32_t or_default(uint32_t value, uint32_t standard)
{
	return value ? value : standard;
}

static int settings_check(
	const struct settings *settings, const vmsig_options *options, char *error, size_t size)
{
	if (!options->identity_dir || !options->identity_dir[0])
		snprintf(error, size,
			"no identity: name the directory with key.pem, cert.pem and ca.pem");
	else if (options->flags & ~(uint32_t)(VMSIG_OPT_NO_RECONNECT | VMSIG_OPT_PIN_UID))
		snprintf(error, size, "unknown option flags 0x%x", options->flags);
	else if (settings->backoff_max_ms < settings->backoff_min_ms)
		snprintf(error, size, "the longest pause (%u ms) is below the shortest (%u ms)",
			settings->backoff_max_ms, settings->backoff_min_ms);
	else
		return 0;
	return VMSIG_ERR_BAD_REQUEST;
}

int settings_init(struct settings *settings, const vmsig_options *options,
	const char *default_socket, char *error, size_t error_size)
{
	const char *path = options->socket_path;
	uint32_t min = or_default(options->backoff_min_ms, BACKOFF_MIN_MS);

	*settings = (struct settings){
		.flags = options->flags,
		.broker_uid = options->broker_uid,
		.connect_timeout_ms = or_default(options->connect_timeout_ms, CONNECT_TIMEOUT_MS),
		.request_timeout_ms = or_default(options->request_timeout_ms, REQUEST_TIMEOUT_MS),
		.backoff_min_ms = min,
		.backoff_max_ms = or_default(
			options->backoff_max_ms, min > BACKOFF_MAX_MS ? min : BACKOFF_MAX_MS),
		.socket_path = strdup(path ? path : default_socket),
		.identity_dir = strdup(options->identity_dir ? options->identity_dir : ""),
	};
	if (!settings->socket_path || !settings->identity_dir)
		return -ENOMEM;
	return settings_check(settings, options, error, error_size);
}

void settings_deinit(struct settings *settings)
{
	free(settings->socket_path);
	free(settings->identity_dir);
	*settings = (struct settings){0};
}

/* ---- identity ---- */

static bool path_join(char path[static PATH_MAX], const char *dir, const char *file)
{
	int n = snprintf(path, PATH_MAX, "%s/%s", dir, file);

	return n >= 0 && n < PATH_MAX;
}

int settings_identity(
	const struct settings *settings, struct tls_ctx **ret_tls, char *error, size_t error_size)
{
	const char *dir = settings->identity_dir;
	char ca[PATH_MAX], cert[PATH_MAX], key[PATH_MAX], crl[PATH_MAX];
	struct tls_files files = {.ca = ca, .cert = cert, .key = key};

	if (!path_join(ca, dir, "ca.pem") || !path_join(cert, dir, "cert.pem") ||
		!path_join(key, dir, "key.pem") || !path_join(crl, dir, "crl.pem")) {
		snprintf(error, error_size, "the identity's path is too long");
		return VMSIG_ERR_BAD_REQUEST;
	}
	/* Only a file that is not there means that nothing is revoked. */
	if (access(crl, F_OK) == 0 || errno != ENOENT)
		files.crl = crl;
	return tls_ctx_new(ret_tls, TLS_CLIENT, &files, IDENTITY_BROKER, error, error_size);
}
