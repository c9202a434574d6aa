/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/planes/write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "broker/boot_clock.h"
#include "broker/memwrite/memwrite.h"
#include "broker/planes/dialect.h"
#include "broker/planes/lease_info.h"
#include "broker/planes/services.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define NS_PER_MS 1000000u
/* A batch of MEMWRITE_OPS_MAX: each operation with its data, what it expects and a mask; the
 * envelope, and some room for what a newer client adds. */
#define PARTS_MAX (4u * MEMWRITE_OPS_MAX + 64u)
#define PART_BYTES 128u /* of memory, beside what is in the frame: the largest part is an op */

/* A request for a lease that has no answer yet. */
struct asked {
	uint64_t lease, request_id, since_ns;
	struct asked *next;
};

/* When a write came, by the number of its request: of those that are under way in greater numbers
 * some are not measured. */
#define TIMED 64u
struct timed {
	uint64_t request_id, since_ns;
	bool is_bulk;
};

struct write_client {
	struct plane_client base;
	struct desk *desk;
	struct desk_operator op;
	struct asked *asked;
	struct timed timed[TIMED];
};

/* What cannot be sent closes the connection when its turn comes. */
static void send_event(struct write_client *client, uint64_t request_id,
	Vmsig__WriteMessage__BodyCase body_case, void *body)
{
	int r = dialect_send(client->base.conn, request_id, (int)body_case, body);

	if (r)
		conn_close(client->base.conn, r, NULL);
}

static void send_error(
	struct write_client *client, uint64_t request_id, int error, const char *detail)
{
	int r = dialect_error(client->base.conn, request_id, error, detail);

	if (r)
		conn_close(client->base.conn, r, NULL);
}

static struct lease_viewer viewer_of(const struct write_client *client)
{
	return (struct lease_viewer){.tenant = &conn_tenant(client->base.conn)->tenant};
}

/* ---- requests ---- */

/* A call of the desk; what it said of that is for the client. */
static int failed(struct write_client *client, uint64_t request_id, int error)
{
	return dialect_error(client->base.conn, request_id, error, client->op.detail);
}

static int on_acquire(void *state, void *message)
{
	const Vmsig__WriteRequest *request = message;
	Vmsig__LeaseWaiting waiting = VMSIG__LEASE_WAITING__INIT;
	struct write_client *client = state;
	struct asked *asked = calloc(1, sizeof(*asked));
	bool waits = false;
	int r;

	if (!asked)
		return dialect_error(client->base.conn, request->request_id, -ENOMEM, NULL);
	r = desk_acquire(client->desk, boot_clock_ns(), &client->op, request->lease_acquire,
		&asked->lease, &waits);
	if (r) {
		free(asked);
		return failed(client, request->request_id, r);
	}
	asked->request_id = request->request_id;
	asked->since_ns = boot_clock_ns();
	LL_PREPEND(client->asked, asked);
	if (!waits)
		return 0;
	waiting.lease = asked->lease;
	return dialect_send(client->base.conn, request->request_id,
		VMSIG__WRITE_MESSAGE__BODY_LEASE_WAITING, &waiting);
}

static int on_renew(void *state, void *message)
{
	const Vmsig__WriteRequest *request = message;
	const Vmsig__LeaseRenew *renew = request->lease_renew;
	Vmsig__LeaseRenewed body = VMSIG__LEASE_RENEWED__INIT;
	struct write_client *client = state;
	int r = desk_renew(client->desk, boot_clock_ns(), &client->op, renew->lease, renew->token,
		&body.remaining_ms);

	if (r)
		return failed(client, request->request_id, r);
	body.lease = renew->lease;
	return dialect_send(client->base.conn, request->request_id,
		VMSIG__WRITE_MESSAGE__BODY_LEASE_RENEWED, &body);
}

static int on_release(void *state, void *message)
{
	const Vmsig__WriteRequest *request = message;
	const Vmsig__LeaseRelease *release = request->lease_release;
	struct write_client *client = state;
	bool later;
	int r = desk_release(client->desk, boot_clock_ns(), &client->op, request->request_id,
		release->lease, release->token, &later);

	if (later)
		return 0;
	return r ? failed(client, request->request_id, r)
		 : dialect_done(client->base.conn, request->request_id);
}

static int send_info(
	struct write_client *client, uint64_t request_id, const struct lease_view *lease)
{
	const char *name = desk_endpoint_name(client->desk, lease->endpoint);
	const struct lease_viewer viewer = viewer_of(client);
	Vmsig__LeaseInfo info;
	const struct selector_subject *subject =
		desk_endpoint_subject(client->desk, lease->endpoint);
	const struct grant_rule *rule =
		subject ? grant_write_rule(client->op.tenant, subject) : NULL;
	int r = lease_info_fill(&info, lease, name ? name : "", &viewer);

	if (r)
		return r;
	info.bulk_max = rule ? rule->bulk_max : 0;
	r = dialect_send(
		client->base.conn, request_id, VMSIG__WRITE_MESSAGE__BODY_LEASE_INFO, &info);
	lease_info_clear(&info);
	return r;
}

static int on_resume(void *state, void *message)
{
	const Vmsig__WriteRequest *request = message;
	const Vmsig__LeaseResume *resume = request->lease_resume;
	struct write_client *client = state;
	struct lease_view lease;
	int r = desk_resume(
		client->desk, boot_clock_ns(), &client->op, resume->lease, resume->token);

	if (!r && !desk_lease_find(client->desk, resume->lease, &lease))
		r = VMSIG_ERR_NO_LEASE;
	if (r)
		return failed(client, request->request_id, r);
	return send_info(client, request->request_id, &lease);
}

static int on_list(void *state, void *message)
{
	const Vmsig__WriteRequest *request = message;
	struct write_client *client = state;
	const struct lease_viewer viewer = viewer_of(client);

	return lease_info_list(client->base.conn, client->desk, request->request_id,
		request->lease_list->after, &viewer, VMSIG__WRITE_MESSAGE__BODY_LEASE_INFOS);
}

/* The descriptor that the message announces. */
static int take_fd(struct write_client *client, const Vmsig__CmdMemwrite *body, int *ret_fd)
{
	const Vmsig__Descriptor *data = body->bulk ? body->bulk->data : NULL;
	struct chan_fd_claim claim;

	/* The kernel or the client has left it out: the desk says why it may not be there. */
	if (!data || (!conn_sends_fds(client->base.conn) && !conn_has_fds(client->base.conn)))
		return 0;
	if (data->purpose != VMSIG__DESCRIPTOR__PURPOSE__WRITE_DATA)
		return VMSIG_ERR_PROTOCOL;
	claim = (struct chan_fd_claim){
		.dev = data->dev, .ino = data->ino, .size = data->size, .access = data->access};
	return conn_take_fds(client->base.conn, &claim, 1, ret_fd);
}

static int on_memwrite(void *state, void *message)
{
	Vmsig__WriteRequest *request = message;
	struct write_client *client = state;
	uint64_t now_ns = boot_clock_ns();
	int fd = -1, r = take_fd(client, request->memwrite, &fd);

	if (r)
		return r;
	client->timed[request->request_id % TIMED] =
		(struct timed){.request_id = request->request_id,
			.since_ns = now_ns,
			.is_bulk = request->memwrite->bulk != NULL};
	/* The desk keeps it, with the data in it, until there is an outcome. */
	unpack_ref(request);
	desk_write(client->desk, now_ns, &client->op, request, fd);
	return 0;
}

/* To the desk, once there is one. */
static int attach(struct write_client *client)
{
	const struct services *services = conn_user(client->base.conn);
	int r = 0;

	if (services->write && !client->desk)
		r = desk_operator_open(services->write, &client->op);
	if (!r)
		client->desk = services->write;
	return r;
}

static int check(void *state, const char **why)
{
	struct write_client *client = state;
	const struct services *services = conn_user(client->base.conn);
	int r = attach(client);

	if (r || client->desk)
		return r;
	*why = services->write_missing(services->ctx);
	return VMSIG_ERR_IO;
}

static const struct request_rule rules[] = {
	[VMSIG__WRITE_REQUEST__BODY_LEASE_ACQUIRE] = {on_acquire, true},
	[VMSIG__WRITE_REQUEST__BODY_LEASE_RENEW] = {on_renew, true},
	[VMSIG__WRITE_REQUEST__BODY_LEASE_RELEASE] = {on_release, true},
	[VMSIG__WRITE_REQUEST__BODY_LEASE_RESUME] = {on_resume, true},
	[VMSIG__WRITE_REQUEST__BODY_LEASE_LIST] = {on_list, true},
	[VMSIG__WRITE_REQUEST__BODY_MEMWRITE] = {on_memwrite, true},
};

static const struct dialect dialect = {
	.request = &vmsig__write_request__descriptor,
	.message = &vmsig__write_message__descriptor,
	.rules = rules,
	.nrules = sizeof(rules) / sizeof(rules[0]),
	.check = check,
	.budget = {.parts = PARTS_MAX, .bytes = PARTS_MAX * PART_BYTES},
};

/* ---- what the desk tells ---- */

/* The number of the request that the lease was asked for with; 0 when it has its answer. */
static uint64_t asked_take(struct write_client *client, uint64_t lease, bool granted)
{
	struct services *services = conn_user(client->base.conn);
	struct asked *asked;
	uint64_t request_id;

	LL_SEARCH_SCALAR(client->asked, asked, lease, lease);
	if (!asked)
		return 0;
	request_id = asked->request_id;
	if (granted)
		histogram_add(&services->counts.lease, boot_clock_ns() - asked->since_ns);
	LL_DELETE(client->asked, asked);
	free(asked);
	return request_id;
}

static void tell_granted(void *state, const struct lease_view *lease)
{
	struct write_client *client = state;
	uint64_t request_id = asked_take(client, lease->id, true);
	int r = request_id ? send_info(client, request_id, lease) : 0;

	if (r)
		conn_close(client->base.conn, r, NULL);
}

/* Why a request for a lease failed, where the error alone does not say it. */
static const char *refusal_text(enum vmsig_error reason)
{
	switch (reason) {
	case VMSIG_ERR_OK:
		return "the request was withdrawn";
	case VMSIG_ERR_TIMEOUT:
		return "the conflicting lease was not given back within the waiting time";
	case VMSIG_ERR_IO:
		return "the broker cannot record it; its log says why";
	case VMSIG_ERR_QUOTA:
		return "when its turn came the tenant held all that 'leases' of its write rule "
		       "allows; release one, or raise 'leases'";
	default:
		return NULL;
	}
}

static void tell_refused(void *state, const struct lease_view *lease)
{
	struct write_client *client = state;
	uint64_t request_id = asked_take(client, lease->id, false);
	int error = lease->reason ? (int)lease->reason : VMSIG_ERR_LEASE_REVOKED;

	if (request_id)
		send_error(client, request_id, error, refusal_text(lease->reason));
}

static void tell_notice(void *state, const struct lease_view *lease)
{
	Vmsig__LeaseNotice body = VMSIG__LEASE_NOTICE__INIT;
	uint64_t now_ns = boot_clock_ns();

	body.lease = lease->id;
	if (lease->revoke_at_ns != UINT64_MAX && lease->revoke_at_ns > now_ns)
		body.revoke_in_ms = (uint32_t)((lease->revoke_at_ns - now_ns) / NS_PER_MS);
	send_event(state, 0, VMSIG__WRITE_MESSAGE__BODY_LEASE_NOTICE, &body);
}

static void tell_ended(void *state, const struct lease_view *lease)
{
	Vmsig__LeaseEnded body = VMSIG__LEASE_ENDED__INIT;
	struct write_client *client = state;
	uint64_t request_id = asked_take(client, lease->id, false);

	body.lease = lease->id;
	body.reason = (uint32_t)lease->reason;
	if (lease->reason == VMSIG_ERR_MOVED)
		body.host = (char *)(uintptr_t)desk_endpoint_host(client->desk, lease->endpoint);
	/* Taken back before it was told of. */
	if (request_id)
		send_error(client, request_id, (int)lease->reason, refusal_text(lease->reason));
	else
		send_event(client, 0, VMSIG__WRITE_MESSAGE__BODY_LEASE_ENDED, &body);
}

static void tell_released(void *state, uint64_t request_id, int error, const char *detail)
{
	struct write_client *client = state;
	int r = dialect_answer(client->base.conn, request_id, error, detail);

	if (r)
		conn_close(client->base.conn, r, NULL);
}

static void note_written(struct write_client *client, uint64_t request_id)
{
	struct services *services = conn_user(client->base.conn);
	struct timed *timed = &client->timed[request_id % TIMED];

	if (timed->request_id == request_id && timed->since_ns)
		histogram_add(timed->is_bulk ? &services->counts.bulk : &services->counts.write,
			boot_clock_ns() - timed->since_ns);
	timed->since_ns = 0;
}

static void tell_written(void *state, uint64_t request_id, const Vmsig__WriteResult *result)
{
	note_written(state, request_id);
	send_event(state, request_id, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT,
		(void *)(uintptr_t)result);
}

static void tell_rejected(void *state, uint64_t request_id, int error, const char *detail)
{
	send_error(state, request_id, error, detail);
}

const struct desk_events write_plane_events = {
	.granted = tell_granted,
	.refused = tell_refused,
	.notice = tell_notice,
	.ended = tell_ended,
	.released = tell_released,
	.written = tell_written,
	.rejected = tell_rejected,
};

/* ---- plane ---- */

static int client_open(struct conn *conn, void **ret_state)
{
	struct write_client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return -ENOMEM;
	client->base.conn = conn;
	client->op = (struct desk_operator){.tenant = conn_tenant(conn),
		.uid = conn_uid(conn),
		.pid = (uint32_t)conn_pid(conn),
		.client = client};
	snprintf(client->op.serial, sizeof(client->op.serial), "%s", conn_serial(conn));
	r = attach(client);
	if (r) {
		free(client);
		return r;
	}
	*ret_state = client;
	return 0;
}

static void client_policy(struct conn *conn, void *state)
{
	struct write_client *client = state;

	client->op.tenant = conn_tenant(conn);
}

static void client_close(struct conn *conn, void *state)
{
	struct write_client *client = state;
	struct asked *asked, *next;

	if (client->desk)
		desk_operator_close(client->desk, boot_clock_ns(), &client->op);
	LL_FOREACH_SAFE (client->asked, asked, next)
		free(asked);
	free(client);
}

const struct plane_ops write_plane = {
	.name = "write",
	.dialect = &dialect,
	.door = NET_DOOR_WRITE,
	.roles = IDENTITY_OPERATOR,
	.takes_fds = true,
	.open = client_open,
	.frame = dialect_frame,
	.policy = client_policy,
	.close = client_close,
	.farewell = dialect_farewell,
};
