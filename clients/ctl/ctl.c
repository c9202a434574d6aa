/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/common/moment.h"
#include "vmsig/vmsig_admin.h"
#include "vmsig/vmsig_write.h"

#define SHELL_NOT_FOUND 127 /* as shells and env(1) answer */
#define SHELL_NOT_EXECUTABLE 126

/* What this program knows better than all of them. */
static const struct failure_hint own_hints[] = {
	{VMSIG_ERR_TIMEOUT, "try again, or wait longer with --wait T"},
	{VMSIG_ERR_DISCONNECTED, "check that vmsigd runs, and --socket"},
	{VMSIG_ERR_STALE_EPOCH, "the guest was reset, or a snapshot of it was loaded; try again"},
	{VMSIG_ERR_OUT_OF_RANGE, "see `vmsigctl info` for the RAM's ranges"},
	{VMSIG_ERR_LEASE_HELD, "see `vmsigctl lease ls`, or wait for it with --wait T"},
	{VMSIG_ERR_LEASE_EXPIRED, "acquire it again"},
	{VMSIG_ERR_LEASE_REVOKED, "see `vmsigctl lease ls` for who holds it now"},
	{VMSIG_ERR_NO_LEASE, "see `vmsigctl lease ls` for what there is"},
	{VMSIG_ERR_COMPARE_FAILED, "see `vmsigctl read` for what is there"},
	{VMSIG_ERR_PARTIAL, "see `vmsigctl read` for what is there"},
	{VMSIG_ERR_UNKNOWN_OUTCOME, "look with `vmsigctl read` before you write it again"},
	{VMSIG_ERR_OK, NULL},
};

/* ---- messages ---- */

/* The process's and not a call's: what fails before the command line is understood is said the
 * same way. */
static bool says_json;

void ctl_say_json(void)
{
	says_json = true;
}

bool ctl_says_json(void)
{
	return says_json;
}

static void say(const struct failure *failure)
{
	if (says_json)
		failure_say_json(failure);
	else
		failure_say(failure, "vmsigctl");
}

int ctl_fail(int error, const char *format, ...)
{
	struct failure failure;
	va_list args;

	va_start(args, format);
	failure_make(&failure, own_hints, error, format, args);
	va_end(args);
	say(&failure);
	return exit_status(error);
}

int ctl_fail_about(const char *name, int error, const char *why)
{
	int code = ctl_fail(error, "%s: %s", name, failure_why(name, why));

	/* No broker was asked: it is no such thing. */
	return error == -VMSIG_ERR_BAD_REQUEST ? EXIT_USAGE : code;
}

void ctl_fail_with(int error, const char *hint, const char *format, ...)
{
	struct failure failure;
	va_list args;

	va_start(args, format);
	failure_make(&failure, NULL, error, format, args);
	va_end(args);
	failure.hint = hint;
	say(&failure);
}

int ctl_usage(const struct ctl_command *command, const char *format, ...)
{
	char text[FAILURE_TEXT_MAX], hint[64];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(hint, sizeof(hint), "see `vmsigctl %s -h`", command->name);
	if (says_json)
		ctl_fail_with(VMSIG_ERR_BAD_REQUEST, hint, "%s: %s", command->name, text);
	else
		fprintf(stderr, "vmsigctl %s: %s; %s\n", command->name, text, hint);
	return EXIT_USAGE;
}

void ctl_note(const char *format, ...)
{
	char text[FAILURE_TEXT_MAX];
	va_list args;
	json_t *json;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (!says_json) {
		fprintf(stderr, "vmsigctl: %s\n", text);
		return;
	}
	json = json_pack("{s:o}", "note", value_text(text));
	if (json && json_dumpf(json, stderr, JSON_COMPACT) == 0)
		fputc('\n', stderr);
	json_decref(json);
}

/* ---- output ---- */

/* Output that did not get where it should, a full disk say, is no success. A command that
 * failed has said so already. */
int ctl_output_end(int code)
{
	bool failed = ferror(stdout);

	if ((fflush(stdout) == 0 && !failed) || code != EXIT_OK)
		return code;
	return ctl_fail(VMSIG_ERR_IO, "cannot write the output: %s", strerror(errno));
}

int ctl_print_json(json_t *json)
{
	if (!json)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "no memory for the output");
	/* What could not be written, to a full disk say, leaves its mark on the stream. */
	if (json_dumpf(json, stdout, JSON_COMPACT) < 0 && !ferror(stdout)) {
		json_decref(json);
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "no memory for the output");
	}
	json_decref(json);
	putchar('\n');
	return ctl_flush();
}

int ctl_print_table(struct table *table)
{
	int r = table_print(table);

	return r ? ctl_fail(r, "no memory for the table") : ctl_flush();
}

int ctl_flush(void)
{
	/* A part that was lost before has left its reason. */
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_OK;
	return ctl_fail(VMSIG_ERR_IO, "cannot write the output: %s", strerror(errno));
}

bool ctl_output_is_gone(void)
{
	struct pollfd output = {.fd = STDOUT_FILENO};

	return poll(&output, 1, 0) == 1 && (output.revents & (POLLERR | POLLHUP));
}

bool ctl_shows_progress(void)
{
	return !says_json && isatty(STDERR_FILENO) == 1;
}

json_t *ctl_system_json(const vmsig_system *system)
{
	return json_pack("{s:s, s:s, s:s}", "os", vmsig_os_name(system->os), "proof",
		vmsig_proof_name(system->proof), "release", system->release);
}

const char *ctl_system_text(const vmsig_system *system, char buf[static CTL_SYSTEM_MAX])
{
	buf[0] = '\0';
	if (system->proof != VMSIG_PROOF_NONE)
		snprintf(buf, CTL_SYSTEM_MAX, "%s%s%s, %s", vmsig_os_name(system->os),
			system->release[0] ? " " : "", system->release,
			vmsig_proof_name(system->proof));
	return buf;
}

void ctl_become(char **command)
{
	int error;

	execvp(command[0], command);
	error = errno;
	ctl_fail_with(VMSIG_ERR_IO, NULL, "cannot run %s: %s", command[0], strerror(error));
	_exit(error == ENOENT ? SHELL_NOT_FOUND : SHELL_NOT_EXECUTABLE);
}

const char *ctl_socket(const struct ctl *ctl, enum ctl_plane plane)
{
	static const struct {
		const char *variable, *standard;
	} sockets[] = {
		[CTL_PLANE_CTX] = {"VMSIG_SOCKET", VMSIG_CTX_SOCKET},
		[CTL_PLANE_WRITE] = {"VMSIG_WRITE_SOCKET", VMSIG_WRITE_SOCKET},
		[CTL_PLANE_ADMIN] = {"VMSIG_ADMIN_SOCKET", VMSIG_ADMIN_SOCKET},
	};
	const char *value = ctl->socket ? ctl->socket : getenv(sockets[plane].variable);

	return value ? value : sockets[plane].standard;
}

int ctl_connection(const struct ctl *ctl, enum ctl_plane plane, vmsig_options *ret_options)
{
	if (!ctl->identity) {
		ctl_fail_with(VMSIG_ERR_BAD_REQUEST,
			"name its folder with --identity DIR or VMSIG_IDENTITY, or make one with "
			"`vmsigctl pki issue`",
			"no identity");
		return EXIT_USAGE;
	}
	*ret_options = (vmsig_options){
		.socket_path = ctl_socket(ctl, plane), .identity_dir = ctl->identity};
	return EXIT_OK;
}

int ctl_identity_fail(const char *why)
{
	ctl_fail_with(VMSIG_ERR_UNAUTHENTICATED,
		"--identity or VMSIG_IDENTITY names a folder with key.pem, cert.pem and ca.pem",
		"%s", why);
	return EXIT_CONNECT;
}

int ctl_connect_fail(int error, const char *socket, const char *why)
{
	why = failure_why(socket, why);
	/* The library says of all others what to do about them. */
	if (error == -VMSIG_ERR_UNAUTHENTICATED)
		return ctl_fail(error, "cannot connect to %s: %s", socket, why);
	ctl_fail_with(error, NULL, "cannot connect to %s: %s", socket, why);
	return EXIT_CONNECT;
}

/* EXIT_OK, or the exit code after a message. `patient`: as long as there is no broker it is looked
 * for again, but nobody waits for what nobody reads. */
static int connect_with(const struct ctl *ctl, bool patient, vmsig **ret_vmsig)
{
	const struct timespec pause = {.tv_nsec = CTL_AGAIN_MS * 1000000l};
	vmsig_options options;
	char error[VMSIG_DETAIL_MAX + 1] = "";
	vmsig *v;
	int code = ctl_connection(ctl, CTL_PLANE_CTX, &options), r;

	if (code)
		return code;
	options.flags = VMSIG_OPT_NO_RECONNECT;
	for (;;) {
		if (vmsig_open(&v, &options, error, sizeof(error)))
			return ctl_identity_fail(error);
		r = vmsig_wait_connected(v, -1);
		if (!r || !patient || r != -VMSIG_ERR_DISCONNECTED || ctl_output_is_gone())
			break;
		vmsig_close(v);
		nanosleep(&pause, NULL);
	}
	if (!r) {
		*ret_vmsig = v;
		return EXIT_OK;
	}
	code = ctl_connect_fail(r, options.socket_path, vmsig_last_error(v));
	vmsig_close(v);
	return code;
}

int ctl_connect(const struct ctl *ctl, vmsig **ret_vmsig)
{
	return connect_with(ctl, false, ret_vmsig);
}

int ctl_reconnect(const struct ctl *ctl, vmsig **v)
{
	*v = vmsig_close(*v);
	return connect_with(ctl, true, v);
}

/* Reads deliveries until the context is there. What the endpoint said last is the reason
 * when it does not come. */
static int context_wait(const struct ctl *ctl, const char *endpoint, struct context *context)
{
	int64_t until = moment_in_ms(ctl->wait_ms);

	while (!context->mem) {
		vmsig_delivery delivery = VMSIG_DELIVERY_INIT;
		int r = vmsig_wait(context->connection, &delivery, moment_left_ms(until));

		if (r == -VMSIG_ERR_TIMEOUT && context->state == VMSIG_STATE_MOVED)
			return ctl_fail(VMSIG_ERR_MOVED, "%s is not here: %s", endpoint,
				context_why(context));
		if (r == -VMSIG_ERR_TIMEOUT)
			return ctl_fail(VMSIG_ERR_NOT_READY, "%s is not ready: %s", endpoint,
				context_why(context));
		if (r)
			return ctl_fail(r, "%s", vmsig_last_error(context->connection));
		r = context_take(context, &delivery);
		if (r)
			return ctl_fail(r, "cannot open the context of %s: %s", endpoint,
				vmsig_error_text(r));
	}
	return EXIT_OK;
}

int ctl_context_open(const struct ctl *ctl, const char *endpoint, struct context *ret_context)
{
	int code, r;

	*ret_context = CONTEXT_INIT;
	if (strpbrk(endpoint, "*?[")) {
		ctl_fail_with(VMSIG_ERR_BAD_REQUEST, "see `vmsigctl ls` for their names",
			"'%s' is a pattern, and one endpoint is needed here", endpoint);
		return EXIT_USAGE;
	}
	code = ctl_connect(ctl, &ret_context->connection);
	if (code)
		return code;
	r = vmsig_subscribe_wait(ret_context->connection, endpoint, -1);
	if (r)
		code = ctl_fail_about(endpoint, r, vmsig_last_error(ret_context->connection));
	if (!code)
		code = context_wait(ctl, endpoint, ret_context);
	if (code)
		context_close(ret_context);
	return code;
}

bool ctl_moved(const struct ctl *ctl, const char *endpoint, char why[static VMSIG_DETAIL_MAX + 1])
{
	const struct ctl elsewhere = {.identity = ctl->identity};
	vmsig_endpoint_list *list = NULL;
	vmsig_options options;
	char error[VMSIG_DETAIL_MAX + 1];
	vmsig *v = NULL;
	bool moved = false;

	if (ctl_connection(&elsewhere, CTL_PLANE_CTX, &options))
		return false;
	options.flags = VMSIG_OPT_NO_RECONNECT;
	if (vmsig_open(&v, &options, error, sizeof(error)) || vmsig_wait_connected(v, -1) ||
		vmsig_list(v, &list, -1))
		list = NULL;
	for (size_t i = 0; list && i < list->count; i++) {
		const vmsig_endpoint *one = &list->endpoints[i];

		if (one->state != VMSIG_STATE_MOVED || strcmp(one->name, endpoint) != 0)
			continue;
		moved = true;
		snprintf(why, VMSIG_DETAIL_MAX + 1, "%s", one->detail);
	}
	vmsig_endpoint_list_free(list);
	vmsig_close(v);
	return moved;
}
