/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An administrator has the configuration read again, and hears what changed, or which line of the
 * file is wrong.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <utlist.h>

#include "broker/boot_clock.h"
#include "broker/config/compare.h"
#include "broker/planes/admin_client.h"
#include "broker/planes/steward.h"
#include "proto/wire/identity.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define DETAIL_MAX 512 /* of a record; where in the file something is wrong comes first */

/* One that waits for it. Whoever has gone meanwhile is recorded all the same. */
struct renew_asked {
	struct steward_reload base;
	const struct services *services;
	struct admin_client *client; /* NULL: it has gone */
	struct renew_asked *prev, *next;
	uint64_t request_id;
	struct charge charge;

	/* Who it was. */
	char tenant[IDENTITY_NAME_MAX + 1], serial[IDENTITY_SERIAL_MAX + 1];
	uint32_t uid, pid;
};

static char *text(const char *words)
{
	return (char *)(uintptr_t)words;
}

static void asked_leave(struct admin_client *client, struct renew_asked *asked)
{
	DL_DELETE(client->renewals, asked);
	charge_refund(&asked->charge);
	asked->client = NULL;
}

static void asked_sign(struct renew_asked *asked, const struct conn *conn)
{
	snprintf(asked->tenant, sizeof(asked->tenant), "%s", conn_tenant(conn)->tenant.name);
	snprintf(asked->serial, sizeof(asked->serial), "%s", conn_serial(conn));
	asked->uid = conn_uid(conn);
	asked->pid = (uint32_t)conn_pid(conn);
}

/* ---- the answer ---- */

struct renew_answer {
	Vmsig__Reloaded body;
	Vmsig__Change changes[COMPARE_CHANGES_MAX], *change_pointers[COMPARE_CHANGES_MAX];
	Vmsig__ChangeCount counts[COMPARE_SECTIONS], *count_pointers[COMPARE_SECTIONS];
};

static void changes_pack(const struct compare_result *result, struct renew_answer *answer)
{
	for (size_t i = 0; i < result->nchanges; i++) {
		const struct compare_change *change = &result->changes[i];
		Vmsig__Change *packed = &answer->changes[i];

		vmsig__change__init(packed);
		packed->section = text(compare_section_name(change->section));
		packed->kind = (Vmsig__Change__Kind)change->kind;
		packed->name = text(change->name);
		packed->detail = text(change->detail);
		answer->change_pointers[i] = packed;
	}
	answer->body.changes = answer->change_pointers;
	answer->body.n_changes = result->nchanges;
}

static void counts_pack(const struct compare_result *result, struct renew_answer *answer)
{
	for (int section = 0; section < COMPARE_SECTIONS; section++) {
		const uint32_t *counts = result->counts[section];
		Vmsig__ChangeCount *packed = &answer->counts[section];

		vmsig__change_count__init(packed);
		packed->section = text(compare_section_name((enum compare_section)section));
		packed->added = counts[COMPARE_ADDED];
		packed->removed = counts[COMPARE_REMOVED];
		packed->changed = counts[COMPARE_CHANGED];
		answer->count_pointers[section] = packed;
	}
	answer->body.counts = answer->count_pointers;
	answer->body.n_counts = COMPARE_SECTIONS;
}

static int send_changes(
	struct admin_client *client, uint64_t request_id, const struct compare_result *result)
{
	struct renew_answer *answer = calloc(1, sizeof(*answer));
	struct steward_status status = {0};
	int r;

	if (!answer)
		return -ENOMEM;
	vmsig__reloaded__init(&answer->body);
	client->services->steward->status(client->services->ctx, &status);
	answer->body.file = text(status.config);
	changes_pack(result, answer);
	counts_pack(result, answer);
	r = dialect_send(
		client->base.conn, request_id, VMSIG__ADMIN_MESSAGE__BODY_RELOADED, &answer->body);
	free(answer);
	return r;
}

/* What changed, in numbers; for a text as long as ours may be. */
static void describe(const struct compare_result *changes, char *buf, size_t size)
{
	size_t len = 0;

	for (int section = 0; section < COMPARE_SECTIONS; section++) {
		const uint32_t *counts = changes->counts[section];

		if (len < size && (counts[COMPARE_ADDED] || counts[COMPARE_REMOVED] ||
					  counts[COMPARE_CHANGED]))
			len += (size_t)snprintf(buf + len, size - len,
				"%s%s: %u added, %u removed, %u changed", len ? "; " : "",
				compare_section_name((enum compare_section)section),
				counts[COMPARE_ADDED], counts[COMPARE_REMOVED],
				counts[COMPARE_CHANGED]);
	}
	if (!len)
		snprintf(buf, size, "the configuration is the same");
}

static void record(
	struct renew_asked *asked, int error, const char *why, const struct compare_result *changes)
{
	const struct tenant tenant = {.name = asked->tenant};
	const struct desk_admin admin = {
		.tenant = &tenant, .serial = asked->serial, .uid = asked->uid, .pid = asked->pid};
	struct desk *desk = asked->services->write;
	char detail[DETAIL_MAX];

	if (error)
		snprintf(detail, sizeof(detail), "%s", why ? why : "");
	else
		describe(changes, detail, sizeof(detail));
	if (desk)
		desk_note_deed(desk, boot_clock_ns(), &admin,
			&(struct desk_deed){.kind = VMSIG__AUDIT_RECORD__KIND__RELOADED,
				.endpoint = "",
				.outcome = error > 0 ? error
					   : error   ? VMSIG_ERR_NO_MEMORY
						     : 0,
				.detail = detail});
}

static void on_done(struct steward_reload *base, int error, const char *why,
	const struct compare_result *changes)
{
	struct renew_asked *asked = (struct renew_asked *)(void *)base;
	struct admin_client *client = asked->client;
	uint64_t request_id = asked->request_id;
	int r;

	if (client)
		asked_leave(client, asked);
	/* The desk has closed by then. */
	if (error != VMSIG_ERR_SHUTTING_DOWN)
		record(asked, error, why, changes);
	free(asked);
	if (!client)
		return;
	r = error ? dialect_error(client->base.conn, request_id, error, why)
		  : send_changes(client, request_id, changes);
	if (r)
		conn_close(client->base.conn, r, NULL);
}

/* ---- the request ---- */

int renew_on_reload(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	struct conn *conn = client->base.conn;
	const struct account_actor actor = admin_actor(client);
	struct account_refusal refusal;
	struct renew_asked *asked;

	if (!admin_sees_all(client))
		return dialect_error(
			conn, request->request_id, VMSIG_ERR_FORBIDDEN, admin_all_needed());
	asked = calloc(1, sizeof(*asked));
	if (!asked)
		return -ENOMEM;
	if (charge_take(&asked->charge, &client->account, ADMIN_RELOADS, 1, &actor, &refusal)) {
		free(asked);
		return dialect_refusal(conn, request->request_id, &refusal);
	}
	asked->base.done = on_done;
	asked->services = client->services;
	asked->client = client;
	asked_sign(asked, conn);
	asked->request_id = request->request_id;
	DL_APPEND(client->renewals, asked);
	client->services->steward->reload(client->services->ctx, &asked->base);
	return 0;
}

void renew_forget(struct admin_client *client)
{
	while (client->renewals)
		asked_leave(client, client->renewals);
}
