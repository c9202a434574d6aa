/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/planes/admin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "broker/auditor.h"
#include "broker/boot_clock.h"
#include "broker/planes/admin_client.h"
#include "broker/planes/lease_info.h"
#include "broker/store/audit.h"
#include "broker/write/desk.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

/* Of one client, that are not answered yet. */
#define QUESTIONS_MAX 8 /* about the log: each reads it */
#define RELOADS_MAX 4
#define REVOCATIONS_MAX 256 /* they wait for the disk, if that has to be asked */

/* One that waits for the log to be read. */
struct audit_asked {
	struct admin_client *client;
	struct audit_asked *prev, *next;
	struct audit_question *question;
	uint64_t request_id;
	struct charge charge;
};

/* One that waits for the end of a lease to be recorded. */
struct revoke_asked {
	struct desk_wait wait;
	struct admin_client *client;
	struct revoke_asked *prev, *next;
	uint64_t request_id;
	struct charge charge;
};

static const struct account_kind kind = {.owner = "connection",
	.slots = {[ADMIN_QUESTIONS] = {"questions without an answer", "the bound of questions",
			  "wait for one of them"},
		[ADMIN_REVOCATIONS] = {"revocations without an answer", "the bound of revocations",
			"wait for one of them"},
		[ADMIN_RELOADS] = {"reloads that are not done", "the bound of reloads",
			"wait for one of them"}}};

/* What the desk has cannot be had at the moment. */
static int refuse_without_desk(struct admin_client *client, uint64_t request_id)
{
	return dialect_error(client->base.conn, request_id, VMSIG_ERR_IO,
		client->services->write_missing(client->services->ctx));
}

static struct lease_viewer viewer_of(const struct admin_client *client)
{
	return (struct lease_viewer){
		.tenant = &conn_tenant(client->base.conn)->tenant, .is_admin = true};
}

static int on_list(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	const struct lease_viewer viewer = viewer_of(client);

	if (!client->desk)
		return refuse_without_desk(client, request->request_id);
	return lease_info_list(client->base.conn, client->desk, request->request_id,
		request->lease_list->after, &viewer, VMSIG__ADMIN_MESSAGE__BODY_LEASE_INFOS);
}

static void revoke_drop(struct revoke_asked *asked)
{
	DL_DELETE(asked->client->revokes, asked);
	desk_wait_cancel(&asked->wait);
	charge_refund(&asked->charge);
	charge_deinit(&asked->charge);
	free(asked);
}

static void on_ended(struct desk_wait *wait, int error, const char *detail)
{
	struct revoke_asked *asked = (struct revoke_asked *)(void *)wait;
	struct conn *conn = asked->client->base.conn;
	uint64_t request_id = asked->request_id;
	int r;

	revoke_drop(asked);
	r = dialect_answer(conn, request_id, error, detail);
	if (r)
		conn_close(conn, r, NULL);
}

/* Its answer comes when the end is recorded, or at once. */
static int revoke(struct revoke_asked *asked, uint64_t lease)
{
	struct admin_client *client = asked->client;
	struct conn *conn = client->base.conn;
	const struct desk_admin admin = admin_signature(client);
	uint64_t request_id = asked->request_id;
	bool later;
	int r = desk_revoke(client->desk, boot_clock_ns(), &admin, lease, &asked->wait, &later);

	if (later)
		return 0;
	revoke_drop(asked);
	return dialect_answer(conn, request_id, r, NULL);
}

static int on_revoke(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	const struct account_actor actor = admin_actor(client);
	struct account_refusal refusal;
	struct revoke_asked *asked;

	if (!client->desk)
		return refuse_without_desk(client, request->request_id);
	asked = calloc(1, sizeof(*asked));
	if (!asked)
		return dialect_error(client->base.conn, request->request_id, -ENOMEM, NULL);
	if (charge_take(&asked->charge, &client->account, ADMIN_REVOCATIONS, 1, &actor, &refusal)) {
		free(asked);
		return dialect_refusal(client->base.conn, request->request_id, &refusal);
	}
	asked->wait.done = on_ended;
	asked->client = client;
	asked->request_id = request->request_id;
	DL_APPEND(client->revokes, asked);
	return revoke(asked, request->lease_revoke->lease);
}

/* Records tell of every endpoint, and cannot be left out without breaking the chain. */
static int send_page(
	struct admin_client *client, uint64_t request_id, const struct audit_answer *answer)
{
	Vmsig__AuditRows body = VMSIG__AUDIT_ROWS__INIT;
	struct audit_head head = answer->head;
	int r = -ENOMEM;

	body.rows = calloc(answer->page.n + 1, sizeof(*body.rows));
	if (!body.rows)
		return r;
	for (size_t i = 0; i < answer->page.n; i++)
		body.rows[i] = &answer->page.rows[i];
	body.n_rows = answer->page.n;
	body.head = head.id;
	body.first = head.first;
	body.head_hash = (ProtobufCBinaryData){.data = head.hash, .len = AUDIT_HASH};
	body.anchor = (ProtobufCBinaryData){.data = head.anchor, .len = AUDIT_HASH};
	body.more = answer->page.page.more;
	body.next = body.more ? answer->page.page.next : 0;
	r = dialect_send(
		client->base.conn, request_id, VMSIG__ADMIN_MESSAGE__BODY_AUDIT_ROWS, &body);
	free(body.rows);
	return r;
}

static void asked_drop(struct audit_asked *asked)
{
	DL_DELETE(asked->client->asked, asked);
	charge_refund(&asked->charge);
	charge_deinit(&asked->charge);
	free(asked);
}

static void on_answered(void *arg, const struct audit_answer *answer)
{
	struct audit_asked *asked = arg;
	struct admin_client *client = asked->client;
	uint64_t request_id = asked->request_id;
	int r;

	asked_drop(asked);
	if (answer->result)
		r = dialect_error(client->base.conn, request_id, answer->result, NULL);
	else
		r = send_page(client, request_id, answer);
	if (r)
		conn_close(client->base.conn, r, NULL);
}

/* Whoever saw an answer finds its record. */
static int ask(struct admin_client *client, const Vmsig__AdminRequest *request)
{
	const struct services *services = client->services;
	const Vmsig__AuditQuery *body = request->audit_query;
	const struct audit_query query = {.after = body->after,
		.limit = body->limit,
		.newest = body->newest,
		.until = body->until,
		.from_ns = body->from_ns,
		.to_ns = body->to_ns,
		.kinds = body->kinds,
		.endpoint = journal_key(body->endpoint),
		.tenant = journal_key(body->tenant)};
	const struct account_actor actor = admin_actor(client);
	struct audit_asked *asked = calloc(1, sizeof(*asked));
	struct account_refusal refusal;
	int r;

	if (!asked)
		return dialect_error(client->base.conn, request->request_id, -ENOMEM, NULL);
	if (charge_take(&asked->charge, &client->account, ADMIN_QUESTIONS, 1, &actor, &refusal)) {
		free(asked);
		return dialect_refusal(client->base.conn, request->request_id, &refusal);
	}
	asked->client = client;
	asked->request_id = request->request_id;
	DL_APPEND(client->asked, asked);
	desk_settle(client->desk, boot_clock_ns());
	r = auditor_ask(services->audit, &query, on_answered, asked, &asked->question);
	if (!r)
		return 0;
	asked_drop(asked);
	return dialect_error(client->base.conn, request->request_id, r, NULL);
}

static int on_audit(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;

	if (!client->desk)
		return refuse_without_desk(client, request->request_id);
	if (!admin_sees_all(client))
		return dialect_error(client->base.conn, request->request_id, VMSIG_ERR_FORBIDDEN,
			"the audit log tells of every endpoint; the policy has to give this "
			"administrator endpoints: [\"*\"]");
	return ask(client, request);
}

/* There may be another desk, or none, at each request. */
static int check(void *state, const char **why)
{
	struct admin_client *client = state;

	client->desk = client->services->write;
	return 0;
}

/* A monitor may see how the broker does, and neither change anything nor learn who does what. */
#define LOOK (IDENTITY_ADMIN | IDENTITY_MONITOR)
#define ACT IDENTITY_ADMIN
/* A provider may offer guests, and nothing else. */
#define OFFER IDENTITY_PROVIDER

static const struct request_rule rules[] = {
	[VMSIG__ADMIN_REQUEST__BODY_LEASE_LIST] = {on_list, true, ACT},
	[VMSIG__ADMIN_REQUEST__BODY_LEASE_REVOKE] = {on_revoke, true, ACT},
	[VMSIG__ADMIN_REQUEST__BODY_AUDIT_QUERY] = {on_audit, true, ACT},
	[VMSIG__ADMIN_REQUEST__BODY_STATUS_QUERY] = {report_on_status, true, LOOK},
	[VMSIG__ADMIN_REQUEST__BODY_STATS_QUERY] = {report_on_stats, true, LOOK},
	[VMSIG__ADMIN_REQUEST__BODY_CLIENT_LIST] = {roster_on_list, true, ACT},
	[VMSIG__ADMIN_REQUEST__BODY_DISCONNECT] = {roster_on_disconnect, true, ACT},
	[VMSIG__ADMIN_REQUEST__BODY_HOSTED_LIST] = {hosting_on_list, true, LOOK},
	[VMSIG__ADMIN_REQUEST__BODY_ENDPOINT_ADD] = {hosting_on_add, true, ACT},
	[VMSIG__ADMIN_REQUEST__BODY_ENDPOINT_REMOVE] = {hosting_on_remove, true, ACT},
	[VMSIG__ADMIN_REQUEST__BODY_ENDPOINT_INVALIDATE] = {hosting_on_invalidate, true, ACT},
	[VMSIG__ADMIN_REQUEST__BODY_RELOAD] = {renew_on_reload, true, ACT},
	[VMSIG__ADMIN_REQUEST__BODY_FLEET_QUERY] = {bump_on_query, true, LOOK},
	[VMSIG__ADMIN_REQUEST__BODY_FLEET_BUMP] = {bump_on_bump, true, ACT},
	[VMSIG__ADMIN_REQUEST__BODY_PROVIDE] = {provide_on_provide, true, OFFER},
	[VMSIG__ADMIN_REQUEST__BODY_PROVIDE_INVALIDATE] = {provide_on_invalidate, true, OFFER},
	[VMSIG__ADMIN_REQUEST__BODY_PROVIDE_END] = {provide_on_end, true, OFFER},
};

static struct histogram *duration(struct services *services)
{
	return &services->counts.admin;
}

static const struct dialect dialect = {
	.request = &vmsig__admin_request__descriptor,
	.message = &vmsig__admin_message__descriptor,
	.rules = rules,
	.nrules = sizeof(rules) / sizeof(rules[0]),
	.check = check,
	.duration = duration,
	/* One request with one text in it, or a guest with 16 files and 64 segments; and unknown
	 * fields of a newer client. */
	.budget = {.parts = 128, .bytes = 16384},
};

/* ---- plane ---- */

static int client_open(struct conn *conn, void **ret_state)
{
	struct admin_client *client = calloc(1, sizeof(*client));

	if (!client)
		return -ENOMEM;
	client->base.conn = conn;
	client->services = conn_user(conn);
	account_init(&client->account, &kind, "");
	account_set_limit(&client->account, ADMIN_QUESTIONS, QUESTIONS_MAX);
	account_set_limit(&client->account, ADMIN_REVOCATIONS, REVOCATIONS_MAX);
	account_set_limit(&client->account, ADMIN_RELOADS, RELOADS_MAX);
	provide_begin(client);
	convoy_begin(&client->convoy, conn);
	*ret_state = client;
	return 0;
}

static void client_close(struct conn *conn, void *state)
{
	struct admin_client *client = state;

	renew_forget(client);
	convoy_end(&client->convoy);
	provide_forget(client);
	/* One that is dropped is not the first any more, which the analyser does not see through.
	 */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	while (client->asked) {
		auditor_forget(client->asked->question);
		asked_drop(client->asked);
	}
	while (client->revokes)
		revoke_drop(client->revokes);
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	account_deinit(&client->account);
	free(client);
}

static int client_writable(struct conn *conn, void *state)
{
	return convoy_answer(&((struct admin_client *)state)->convoy);
}

const struct plane_ops admin_plane = {
	.name = "admin",
	.dialect = &dialect,
	.door = NET_DOOR_ADMIN,
	.roles = IDENTITY_ADMIN | IDENTITY_MONITOR | IDENTITY_PROVIDER,
	.takes_fds = true,
	.frame_max = PLANE_SMALL_FRAME,
	.open = client_open,
	.frame = dialect_frame,
	.writable = client_writable,
	.close = client_close,
	.farewell = dialect_farewell,
};
