/* SPDX-License-Identifier: Apache-2.0 */
/* Leases of a writer: asked for, kept alive, resumed after a lost connection, over. */
#include "clients/lib/writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#define RANGES_MAX 256u
#define NS_PER_MS 1000000

/* ---- asking ---- */

static int ask(vmsig_lease *lease, enum lease_ask what, int body_case, void *body, int64_t now)
{
	vmsig_writer *writer = lease->writer;
	int64_t boot = writer_boot_now();
	int r = uplink_request(&writer->link, body_case, body, NULL, 0, &lease->request_id);

	if (r)
		return r;
	lease->asking = what;
	lease->asked_boot = boot;
	lease->asked_until = client_after(now, writer->link.settings.request_timeout_ms);
	lease->connection = writer->link.number;
	return 0;
}

static int ask_acquire(vmsig_lease *lease, int64_t now)
{
	Vmsig__LeaseAcquire body = VMSIG__LEASE_ACQUIRE__INIT;
	Vmsig__Range ranges[RANGES_MAX], *pointers[RANGES_MAX];

	for (size_t i = 0; i < lease->nranges; i++) {
		vmsig__range__init(&ranges[i]);
		ranges[i].start = lease->ranges[i].start;
		ranges[i].last = lease->ranges[i].last;
		pointers[i] = &ranges[i];
	}
	body.endpoint = lease->endpoint;
	body.ranges = pointers;
	body.n_ranges = lease->nranges;
	body.ttl_ms = lease->ttl_ms;
	body.wait_ms = lease->wait_ms;
	body.priority = lease->priority;
	body.no_wait = lease->no_wait;
	return ask(lease, ASK_ACQUIRE, VMSIG__WRITE_REQUEST__BODY_LEASE_ACQUIRE, &body, now);
}

static int ask_renew(vmsig_lease *lease, int64_t now)
{
	Vmsig__LeaseRenew body = VMSIG__LEASE_RENEW__INIT;

	body.lease = lease->id;
	body.token = lease->token;
	return ask(lease, ASK_RENEW, VMSIG__WRITE_REQUEST__BODY_LEASE_RENEW, &body, now);
}

static int ask_resume(vmsig_lease *lease, int64_t now)
{
	Vmsig__LeaseResume body = VMSIG__LEASE_RESUME__INIT;

	body.lease = lease->id;
	body.token = lease->token;
	return ask(lease, ASK_RESUME, VMSIG__WRITE_REQUEST__BODY_LEASE_RESUME, &body, now);
}

static int ask_release(vmsig_lease *lease, int64_t now)
{
	Vmsig__LeaseRelease body = VMSIG__LEASE_RELEASE__INIT;

	body.lease = lease->id;
	body.token = lease->token;
	return ask(lease, ASK_RELEASE, VMSIG__WRITE_REQUEST__BODY_LEASE_RELEASE, &body, now);
}

/* In the broker's books under this connection. */
static bool is_ours(const vmsig_lease *lease)
{
	return lease->connection == lease->writer->link.number;
}

static bool is_over(const vmsig_lease *lease)
{
	return lease->phase == VMSIG_LEASE_OVER;
}

int writer_lease_due(vmsig_lease *lease, int64_t now)
{
	if (is_over(lease))
		return 0;
	/* A waiting request can be withdrawn while its answer is out. */
	if (lease->releasing && lease->asking != ASK_RELEASE &&
		(lease->asking == ASK_NONE || lease->phase == VMSIG_LEASE_QUEUED) && lease->id &&
		(is_ours(lease) || lease->borrowed))
		return ask_release(lease, now);
	if (lease->asking != ASK_NONE || lease->borrowed)
		return 0;
	if (lease->phase == VMSIG_LEASE_ASKED || lease->phase == VMSIG_LEASE_QUEUED)
		return lease->id ? ask_renew(lease, now) : ask_acquire(lease, now);
	if (!is_ours(lease))
		return ask_resume(lease, now);
	return lease->renew_at <= now ? ask_renew(lease, now) : 0;
}

/* ---- answers ---- */

static void set_deadline(vmsig_lease *lease, uint32_t remaining_ms)
{
	uint32_t third = lease->granted_ttl_ms / 3 < remaining_ms / 2 ? lease->granted_ttl_ms / 3
								      : remaining_ms / 2;
	int64_t since = writer_boot_now() - lease->asked_boot;

	lease->deadline = lease->asked_boot + (int64_t)remaining_ms * NS_PER_MS;
	lease->renew_at = client_now() - since + (int64_t)third * NS_PER_MS;
}

static void become_held(vmsig_lease *lease, enum vmsig_writer_event_kind kind)
{
	lease->phase = VMSIG_LEASE_HELD;
	lease->waited = false;
	if (!lease->silent)
		writer_event(lease->writer, kind, lease, 0, "");
}

int writer_lease_granted(vmsig_lease *lease, const Vmsig__LeaseInfo *info)
{
	vmsig_writer *writer = lease->writer;
	enum lease_ask asked = lease->asking;

	if (strcmp(info->name, lease->endpoint) != 0 || !info->lease || !info->token ||
		(asked == ASK_RESUME && info->lease != lease->id))
		return writer_fail(writer, VMSIG_ERR_PROTOCOL,
			"the broker grants another lease than it was asked for");
	lease->asking = ASK_NONE;
	lease->request_id = 0;
	lease->id = info->lease;
	lease->token = info->token;
	lease->endpoint_id = info->endpoint;
	lease->epoch = info->epoch;
	lease->granted_ttl_ms = info->ttl_ms;
	lease->bulk_max = info->bulk_max;
	/* How long the grant was on its way is only known of one that did not wait. */
	if (lease->phase == VMSIG_LEASE_QUEUED) {
		lease->waited = true;
		return 0;
	}
	set_deadline(lease, info->remaining_ms);
	become_held(lease, asked == ASK_RESUME ? VMSIG_WEV_RESUMED : VMSIG_WEV_GRANTED);
	return 0;
}

void writer_lease_waiting(vmsig_lease *lease, uint64_t id)
{
	lease->phase = VMSIG_LEASE_QUEUED;
	lease->id = id; /* so that it can be withdrawn */
	if (!lease->silent)
		writer_event(lease->writer, VMSIG_WEV_WAITING, lease, 0, "");
}

void writer_lease_renewed(vmsig_lease *lease, uint32_t remaining_ms)
{
	lease->asking = ASK_NONE;
	lease->request_id = 0;
	set_deadline(lease, remaining_ms);
	if (lease->waited)
		become_held(lease, VMSIG_WEV_GRANTED);
}

static void lease_end(vmsig_lease *lease, int error)
{
	lease->phase = VMSIG_LEASE_OVER;
	lease->error = error;
	lease->asking = ASK_NONE;
	lease->request_id = 0;
	writer_writes_drop_unsent(lease, error ? error : VMSIG_ERR_NO_LEASE);
}

void writer_lease_lose(vmsig_lease *lease, int error, const char *text)
{
	bool was_held = lease->phase == VMSIG_LEASE_HELD;
	bool silent = lease->silent || (lease->releasing && !error);

	if (is_over(lease))
		return;
	lease_end(lease, error);
	writer_fail(lease->writer, 0, "%s: %s", lease->endpoint,
		text[0] ? text : vmsig_error_text(error));
	if (!silent)
		writer_event(lease->writer, was_held ? VMSIG_WEV_LOST : VMSIG_WEV_REFUSED, lease,
			error, text[0] ? text : vmsig_error_text(error));
}

void writer_lease_answer(vmsig_lease *lease, int error, const char *text)
{
	enum lease_ask asked = lease->asking;

	lease->asking = ASK_NONE;
	lease->request_id = 0;
	if (asked == ASK_RELEASE && !is_over(lease))
		/* Our own one was there: somebody else was faster. */
		lease_end(lease, error == VMSIG_ERR_NO_LEASE && !lease->borrowed ? 0 : error);
	else if (error)
		writer_lease_lose(lease, error, text);
}

void writer_lease_disconnected(vmsig_lease *lease)
{
	lease->asking = ASK_NONE;
	lease->request_id = 0;
	lease->connection = 0;
	for (struct writer_write *write = lease->writes; write; write = write->next)
		write->request_id = 0;
	/* The queue was the connection's. One that was granted and not proven is asked for again
	 * too: the broker has dropped it, or lets it expire. */
	if (lease->phase == VMSIG_LEASE_QUEUED || lease->phase == VMSIG_LEASE_ASKED) {
		lease->phase = VMSIG_LEASE_ASKED;
		lease->waited = false;
		lease->id = lease->token = 0;
	}
	if (lease->phase == VMSIG_LEASE_ASKED && lease->releasing)
		lease_end(lease, 0);
}

/* ---- time ---- */

void writer_leases_expire(vmsig_writer *writer)
{
	int64_t boot = writer_boot_now();

	for (vmsig_lease *lease = writer->leases; lease; lease = lease->next) {
		if (lease->phase == VMSIG_LEASE_HELD && lease->deadline <= boot)
			writer_lease_lose(lease, VMSIG_ERR_LEASE_EXPIRED,
				"the lease was not renewed in time");
	}
}

bool writer_lease_is_overdue(const vmsig_lease *lease, int64_t now)
{
	const struct writer_write *write = lease->writes;

	/* A grant may wait; the first write without an outcome is the oldest. */
	if (lease->asking != ASK_NONE && lease->phase != VMSIG_LEASE_QUEUED &&
		lease->asked_until <= now)
		return true;
	return write && write->request_id && write->asked_until <= now;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t writer_lease_next_moment(const vmsig_lease *lease, bool is_up)
{
	const struct writer_write *write = lease->writes;
	int64_t moment = CLIENT_NEVER;

	if (lease->phase == VMSIG_LEASE_HELD && lease->deadline != WRITER_NO_DEADLINE)
		moment = client_now() + lease->deadline - writer_boot_now();
	if (!is_up)
		return moment;
	if (write && write->request_id)
		moment = earlier(moment, write->asked_until);
	for (; write; write = write->next) {
		if (!write->request_id)
			return 0;
	}
	if ((lease->borrowed && !lease->releasing) || is_over(lease))
		return moment;
	if (lease->asking != ASK_NONE)
		return lease->phase == VMSIG_LEASE_QUEUED ? moment
							  : earlier(moment, lease->asked_until);
	if (lease->phase != VMSIG_LEASE_HELD || !is_ours(lease) || lease->releasing)
		return 0;
	return earlier(moment, lease->renew_at);
}

/* ---- public ---- */

static int request_check(vmsig_writer *writer, const vmsig_lease_request *request)
{
	size_t len = request->endpoint ? strlen(request->endpoint) : 0;

	if (!len || len > VMSIG_NAME_MAX)
		return writer_fail(
			writer, VMSIG_ERR_BAD_REQUEST, "the endpoint's name is empty or too long");
	if (request->nranges > RANGES_MAX)
		return writer_fail(
			writer, VMSIG_ERR_BAD_REQUEST, "more than %u ranges", RANGES_MAX);
	for (size_t i = 0; i < request->nranges; i++) {
		if (request->ranges[i].last < request->ranges[i].start)
			return writer_fail(writer, VMSIG_ERR_BAD_REQUEST,
				"range %zu ends before it starts", i);
	}
	if (writer->nleases >= WRITER_LEASES_MAX)
		return writer_fail(
			writer, VMSIG_ERR_QUOTA, "more than %u leases", WRITER_LEASES_MAX);
	return 0;
}

static vmsig_lease *lease_new(vmsig_writer *writer, const vmsig_lease_request *request)
{
	vmsig_lease *lease = calloc(1, sizeof(*lease));

	if (!lease)
		return NULL;
	lease->ranges = calloc(request->nranges + 1, sizeof(*lease->ranges));
	if (!lease->ranges) {
		free(lease);
		return NULL;
	}
	if (request->nranges)
		memcpy(lease->ranges, request->ranges, request->nranges * sizeof(*lease->ranges));
	lease->writer = writer;
	lease->nranges = request->nranges;
	lease->ttl_ms = request->ttl_ms;
	lease->wait_ms = request->wait_ms;
	lease->priority = request->priority;
	lease->no_wait = request->no_wait;
	snprintf(lease->endpoint, sizeof(lease->endpoint), "%s", request->endpoint);
	DL_APPEND(writer->leases, lease);
	writer->nleases++;
	return lease;
}

int vmsig_lease_acquire(
	vmsig_writer *writer, const vmsig_lease_request *request, vmsig_lease **ret_lease)
{
	vmsig_lease *lease;
	int r = request_check(writer, request);

	if (r)
		return -r;
	lease = lease_new(writer, request);
	if (!lease)
		return writer_fail(writer, -VMSIG_ERR_NO_MEMORY, "out of memory for a lease");
	*ret_lease = lease;
	return 0;
}

int vmsig_lease_release(vmsig_lease *lease)
{
	if (is_over(lease))
		return -VMSIG_ERR_NO_LEASE;
	lease->releasing = true;
	if (!lease->id && lease->asking == ASK_NONE)
		lease_end(lease, 0);
	return 0;
}

static void forget_events(vmsig_writer *writer, const vmsig_lease *lease)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < writer->events_count; i++) {
		vmsig_writer_event event =
			writer->events[(writer->events_head + i) % writer->events_size];

		if (event.lease == lease)
			continue;
		writer->events[(writer->events_head + kept++) % writer->events_size] = event;
	}
	writer->events_count = kept;
}

vmsig_lease *vmsig_lease_free(vmsig_lease *lease)
{
	vmsig_writer *writer = lease ? lease->writer : NULL;

	if (!lease)
		return NULL;
	/* What cannot be sent now ends with the connection's grace or the TTL. */
	if (!is_over(lease) && !lease->borrowed && lease->id && is_ours(lease) &&
		writer->link.phase == PHASE_READY && lease->asking != ASK_RELEASE)
		(void)!ask_release(lease, client_now());
	lease->phase = VMSIG_LEASE_OVER;
	writer_writes_drop_all(lease);
	forget_events(writer, lease);
	DL_DELETE(writer->leases, lease);
	writer->nleases--;
	free(lease->ranges);
	free(lease);
	return NULL;
}

void vmsig_lease_get(const vmsig_lease *lease, vmsig_lease_info *ret_info)
{
	*ret_info = (vmsig_lease_info){
		.id = lease->id,
		.token = lease->token,
		.endpoint = lease->endpoint,
		.endpoint_id = lease->endpoint_id,
		.epoch = lease->epoch,
		.phase = lease->phase,
		.error = -lease->error,
		.ttl_ms = lease->granted_ttl_ms,
		.deadline = lease->deadline,
		.in_flight = lease->nwrites,
		.bulk_max = lease->bulk_max,
	};
}

const char *vmsig_lease_state_name(uint32_t state)
{
	/* Indexed by the numbers of LeaseInfo.state in vmsig.proto. */
	static const char *const names[] = {"waiting", "storing", "active", "draining"};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}
