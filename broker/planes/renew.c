/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An administrator has the configuration read again, and hears what changed, or which line of the
 * file is wrong.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <utlist.h>

#include "broker/config/compare.h"
#include "broker/planes/admin_client.h"
#include "broker/planes/steward.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define DETAIL_MAX 512 /* of a record; where in the file something is wrong comes first */

/* One that waits for it. */
struct renew_asked {
	struct steward_reload base;
	struct admin_client *client;
	struct renew_asked *prev, *next;
	uint64_t request_id;
	struct charge charge;
};

static char *text(const char *words)
{
	return (char *)(uintptr_t)words;
}

static void asked_drop(struct renew_asked *asked)
{
	DL_DELETE(asked->client->renewals, asked);
	charge_refund(&asked->charge);
	free(asked);
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

static void record(const struct admin_client *client, int error, const char *why,
	const struct compare_result *changes)
{
	char detail[DETAIL_MAX];

	if (error)
		snprintf(detail, sizeof(detail), "%s", why ? why : "");
	else
		describe(changes, detail, sizeof(detail));
	admin_record(client, &(struct desk_deed){.kind = VMSIG__AUDIT_RECORD__KIND__RELOADED,
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

	asked_drop(asked);
	record(client, error, why, changes);
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
	asked->client = client;
	asked->request_id = request->request_id;
	DL_APPEND(client->renewals, asked);
	client->services->steward->reload(client->services->ctx, &asked->base);
	return 0;
}

void renew_forget(struct admin_client *client)
{
	/* One that is dropped is not the first any more, which the analyser does not see through.
	 */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	while (client->renewals) {
		client->services->steward->forget(client->services->ctx, &client->renewals->base);
		asked_drop(client->renewals);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
}
