/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/operator.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/common/hold.h"
#include "clients/common/moment.h"

/* ---- connections ---- */

/* The first thing that happens to a connection says whether it works. */
static int await_connected(vmsig_writer *writer, const char *socket)
{
	vmsig_writer_event event;

	do {
		int r = vmsig_writer_wait(writer, &event, -1);

		if (r)
			return ctl_connect_fail(r, socket, vmsig_writer_last_error(writer));
		if (event.kind == VMSIG_WEV_DISCONNECTED)
			return ctl_connect_fail(event.error, socket, event.text);
	} while (event.kind != VMSIG_WEV_CONNECTED);
	return EXIT_OK;
}

int ctl_writer_open(const struct ctl *ctl, vmsig_writer **ret_writer)
{
	char error[VMSIG_DETAIL_MAX + 1] = "";
	vmsig_options options;
	vmsig_writer *writer;
	int code = ctl_connection(ctl, CTL_PLANE_WRITE, &options);

	if (code)
		return code;
	options.connect_timeout_ms = ctl->timeout_ms;
	if (vmsig_writer_open(&writer, &options, error, sizeof(error)))
		return ctl_identity_fail(error);
	code = await_connected(writer, options.socket_path);
	if (code)
		vmsig_writer_close(writer);
	else
		*ret_writer = writer;
	return code;
}

/* ---- acquiring ---- */

struct asking {
	struct hold *hold;
	vmsig_writer *writer;
	const char *endpoint;
};

static int step(void *ctx, int64_t until)
{
	const struct asking *asking = ctx;
	vmsig_writer_event event;
	int r = vmsig_writer_wait(asking->writer, &event, moment_left_ms(until));

	if (r == -VMSIG_ERR_TIMEOUT)
		return 0;
	if (r)
		return hold_fail(asking->hold, r, vmsig_writer_last_error(asking->writer));
	if (event.kind == VMSIG_WEV_WAITING)
		ctl_note("waiting: somebody holds a conflicting lease on %s", asking->endpoint);
	if (event.kind == VMSIG_WEV_DISCONNECTED)
		return hold_fail(asking->hold, event.error, event.text);
	hold_take(asking->hold, &event);
	return 0;
}

int ctl_lease_ask(const struct ctl *ctl, vmsig_writer *writer, const vmsig_lease_request *request,
	vmsig_lease **ret_lease)
{
	struct hold hold = {0};
	struct asking asking = {&hold, writer, request->endpoint};
	int r = hold_acquire(&hold, writer, request, ctl->wait_ms, step, &asking);

	if (r)
		return ctl_fail(r, "no lease on %s: %s", request->endpoint, hold.why);
	*ret_lease = hold.lease;
	return EXIT_OK;
}

/* ---- the lease to write under ---- */

int ctl_lease_fail(const struct ctl *ctl, const vmsig_writer *writer, int error, uint64_t id,
	const char *endpoint, const char *what)
{
	char why[VMSIG_DETAIL_MAX + 1];

	if (error != -VMSIG_ERR_NO_LEASE || !endpoint || !ctl_moved(ctl, endpoint, why))
		return ctl_fail(error, "cannot %s lease %" PRIu64 ": %s", what, id,
			vmsig_writer_last_error(writer));
	ctl_fail_with(VMSIG_ERR_MOVED, "say `vmsigctl lease resume` at that host's broker",
		"cannot %s lease %" PRIu64 " of %s here: %s", what, id, endpoint, why);
	return EXIT_MOVED;
}

int ctl_lease_words(const struct ctl_command *command, const char *id, const char *token,
	uint64_t *ret_id, uint64_t *ret_token)
{
	token = token ? token : getenv(CTL_ENV_TOKEN);
	if (!text_number(id, ret_id))
		return ctl_usage(command, "'%s' is no ID of a lease", id);
	if (!token)
		return ctl_usage(command, "the token is missing: --token N or " CTL_ENV_TOKEN);
	if (!text_number(token, ret_token))
		return ctl_usage(command, "'%s' is no token", token);
	return EXIT_OK;
}

/* EXIT_OK without a lease: the environment names none of this endpoint. */
static int lease_from_environment(const struct ctl *ctl, vmsig_writer *writer, const char *endpoint,
	struct ctl_hold *ret_hold)
{
	const char *id_text = getenv(CTL_ENV_LEASE), *token_text = getenv(CTL_ENV_TOKEN);
	const char *of = getenv(CTL_ENV_ENDPOINT);
	uint64_t id, token;
	int r;

	if (!id_text || !token_text || (of && strcmp(of, endpoint) != 0))
		return EXIT_OK;
	if (!text_number(id_text, &id) || !text_number(token_text, &token)) {
		ctl_fail_with(VMSIG_ERR_BAD_REQUEST,
			"unset them, or run this under `vmsigctl lease acquire`",
			CTL_ENV_LEASE " and " CTL_ENV_TOKEN " in the environment are no numbers");
		return EXIT_USAGE;
	}
	r = vmsig_lease_use(writer, id, token, &ret_hold->lease, (int)ctl->wait_ms);
	if (r)
		return ctl_lease_fail(ctl, writer, r, id, endpoint, "use");
	vmsig_lease_get(ret_hold->lease, &ret_hold->info);
	if (strcmp(ret_hold->info.endpoint, endpoint) != 0)
		ret_hold->lease = vmsig_lease_free(ret_hold->lease);
	return EXIT_OK;
}

int ctl_hold_take(const struct ctl *ctl, vmsig_writer *writer, const char *endpoint,
	const vmsig_lease_range *range, struct ctl_hold *ret_hold)
{
	const vmsig_lease_request request = {.endpoint = endpoint,
		.ranges = range,
		.nranges = range ? 1 : 0,
		.wait_ms = ctl->wait_ms,
		.no_wait = !ctl->wait_ms};
	struct ctl_hold lease = {.writer = writer, .endpoint = endpoint};
	int code = lease_from_environment(ctl, writer, endpoint, &lease);

	if (!code && !lease.lease) {
		lease.own = true;
		code = ctl_lease_ask(ctl, writer, &request, &lease.lease);
		if (!code)
			vmsig_lease_get(lease.lease, &lease.info);
	}
	if (!code)
		*ret_hold = lease;
	return code;
}

void ctl_hold_put(const struct ctl *ctl, struct ctl_hold *hold)
{
	uint32_t ms = ctl_timeout(ctl) < CTL_RELEASE_MS ? ctl_timeout(ctl) : CTL_RELEASE_MS;

	if (!hold->lease)
		return;
	vmsig_lease_get(hold->lease, &hold->info);
	/* Waited for, or our exit could cut it off; but a release that failed is no failure of
	 * what was written. */
	if (hold->own && hold->info.phase == VMSIG_LEASE_HELD &&
		vmsig_lease_release_wait(hold->lease, (int)ms))
		ctl_note("the lease could not be released; it ends by itself");
	/* A write without an outcome has one now, which nobody takes. */
	hold->lease = vmsig_lease_free(hold->lease);
	vmsig_write_result_clear(&hold->answer.result);
}

int ctl_hold_turn(struct ctl_hold *hold, int64_t until)
{
	int64_t deadline = vmsig_writer_deadline(hold->writer);
	struct pollfd pfd = {.fd = vmsig_writer_fd(hold->writer),
		.events = vmsig_writer_poll_events(hold->writer)};
	vmsig_writer_event event;
	struct timespec buf;
	int r;

	if (deadline >= 0 && deadline < until)
		until = deadline;
	/* A signal is a reason to look as well. */
	(void)!ppoll(&pfd, 1, moment_left(until, &buf), NULL);
	r = vmsig_writer_process(hold->writer);
	/* What they say is in the outcome of the write too, or in the writer's last error. */
	while (vmsig_writer_next(hold->writer, &event) == 0)
		;
	return r;
}

int ctl_hold_pause(struct ctl_hold *hold, uint32_t ms)
{
	int64_t until = moment_in_ms(ms);
	int r = 0;

	while (!r && moment_now() < until)
		r = ctl_hold_turn(hold, until);
	return r;
}

/* ---- failures of writes ---- */

bool ctl_timeout_parse(struct ctl *ctl, const char *value)
{
	return text_duration(value, &ctl->timeout_ms) && ctl->timeout_ms;
}

uint32_t ctl_timeout(const struct ctl *ctl)
{
	return ctl->timeout_ms ? ctl->timeout_ms : CTL_WRITE_MS;
}

const char *ctl_write_why(const vmsig_writer *writer, int error, const vmsig_write_result *result)
{
	const char *why =
		result->text && result->text[0] ? result->text : vmsig_writer_last_error(writer);

	return why[0] ? why : vmsig_error_text(error);
}

int ctl_write_fail(const vmsig_writer *writer, int error, const vmsig_write_result *result,
	const char *endpoint, uint64_t addr, size_t len)
{
	const char *why = ctl_write_why(writer, error, result);

	/* Its outcome may still come, but not to us. */
	if (error == -VMSIG_ERR_TIMEOUT)
		return ctl_fail(VMSIG_ERR_UNKNOWN_OUTCOME,
			"it cannot be told whether the write at 0x%" PRIx64 " of %s was applied: "
			"%s",
			addr, endpoint, why);
	if (error == -VMSIG_ERR_PARTIAL)
		return ctl_fail(error,
			"only %" PRIu64 " of %zu bytes at 0x%" PRIx64 " of %s were written: %s",
			result->written, len, addr, endpoint, why);
	return ctl_fail(error, "cannot write %zu byte%s at 0x%" PRIx64 " of %s: %s", len,
		text_plural(len), addr, endpoint, why);
}
