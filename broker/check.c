/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/check.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "proto/tls.h"

#define SUN_PATH_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

struct check {
	const struct config *config;
	FILE *out;
	size_t problems;
};

__attribute__((format(printf, 2, 3))) static void complain(
	struct check *check, const char *format, ...)
{
	va_list args;

	fprintf(check->out, "%s: ", check->config->file);
	va_start(args, format);
	vfprintf(check->out, format, args);
	va_end(args);
	fputc('\n', check->out);
	check->problems++;
}

static bool is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The broker makes the last folder of a path itself. */
static bool has_grandparent(const char *path)
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof(copy), "%s", path);
	return is_folder(dirname(dirname(copy)));
}

static void check_tls(struct check *check)
{
	const struct config *config = check->config;
	const struct tls_files files = {
		.ca = config->ca, .cert = config->cert, .key = config->key, .crl = config->crl};
	struct tls_ctx *tls = NULL;
	char error[512];

	if (tls_ctx_new(&tls, TLS_SERVER, &files, IDENTITY_SENSOR, error, sizeof(error)))
		complain(check, "tls: %s", error);
	tls_ctx_unref(tls);
}

static void check_socket(struct check *check, const char *key, const char *path)
{
	if (strlen(path) > SUN_PATH_MAX)
		complain(check,
			"%s: '%s' has %zu bytes, and a socket's path at most %zu; choose a shorter "
			"one",
			key, path, strlen(path), SUN_PATH_MAX);
	else if (!has_grandparent(path))
		complain(check, "%s: the folder above that of '%s' does not exist; make it", key,
			path);
}

static void check_state_dir(struct check *check)
{
	const char *path = check->config->state_dir;
	char copy[PATH_MAX];
	struct stat st;

	snprintf(copy, sizeof(copy), "%s", path);
	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		complain(check, "state_dir: '%s' is no folder; choose another", path);
	else if (!is_folder(dirname(copy)))
		complain(check, "state_dir: '%s' cannot be made in a folder that does not exist",
			path);
}

/* Where the configured layout ends in the file. */
static uint64_t layout_end(const struct config_endpoint *endpoint)
{
	uint64_t end = 0;

	for (size_t i = 0; i < endpoint->nseg; i++) {
		uint64_t seg_end = endpoint->segs[i].file_off + endpoint->segs[i].len;

		end = seg_end > end ? seg_end : end;
	}
	return endpoint->nseg ? end : endpoint->low;
}

static void check_file(struct check *check, const struct config_endpoint *endpoint)
{
	struct stat st;

	if (stat(endpoint->path, &st) < 0)
		complain(check, "endpoint '%s': %s: %s", endpoint->name, endpoint->path,
			strerror(errno));
	else if (!S_ISREG(st.st_mode))
		complain(check, "endpoint '%s': %s is not a regular file; name the RAM image",
			endpoint->name, endpoint->path);
	else if ((uint64_t)st.st_size < layout_end(endpoint))
		complain(check,
			"endpoint '%s': %s has %lld bytes, and the layout reaches to %llu; write "
			"the RAM's true size",
			endpoint->name, endpoint->path, (long long)st.st_size,
			(unsigned long long)layout_end(endpoint));
}

static void check_qemu(struct check *check, const struct config_endpoint *endpoint)
{
	char copy[PATH_MAX];
	struct stat st;

	snprintf(copy, sizeof(copy), "%s", endpoint->qmp);
	if (strlen(endpoint->qmp) > SUN_PATH_MAX)
		complain(check, "endpoint '%s': '%s' is too long for a socket's path",
			endpoint->name, endpoint->qmp);
	else if (!is_folder(dirname(copy)))
		complain(check, "endpoint '%s': the folder of '%s' does not exist; make it",
			endpoint->name, endpoint->qmp);
	else if (stat(endpoint->qmp, &st) == 0 && !S_ISSOCK(st.st_mode))
		complain(check, "endpoint '%s': '%s' is no socket; start QEMU with -qmp unix:%s",
			endpoint->name, endpoint->qmp, endpoint->qmp);
}

size_t check_config(const struct config *config, FILE *out)
{
	static void (*const checks[])(struct check *, const struct config_endpoint *) = {
		[CONFIG_ADAPTER_FILE] = check_file,
		[CONFIG_ADAPTER_QEMU] = check_qemu,
	};
	struct check check = {.config = config, .out = out};

	check_tls(&check);
	check_state_dir(&check);
	check_socket(&check, "listen.ctx.path", config->ctx.path);
	if (config->write.given)
		check_socket(&check, "listen.write.path", config->write.path);
	if (config->admin.given)
		check_socket(&check, "listen.admin.path", config->admin.path);
	for (size_t i = 0; i < config->nendpoints; i++)
		checks[config->endpoints[i].adapter](&check, &config->endpoints[i]);
	return check.problems;
}
