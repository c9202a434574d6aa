/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Providers: what they offer, its resets and its end. Words and descriptors are handed on as they
 * came; the shell judges them.
 */
#include "broker/planes/admin_client.h"
#include "broker/planes/steward.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define FILES_MAX CHAN_FDS_OF_CLIENT
#define SEGMENTS_MAX 64u /* that a request may have; a real guest has two or three */

static void record(
	const struct admin_client *client, Vmsig__AuditRecord__Kind kind, const char *name)
{
	conn_act(client->base.conn, PATRON_DEED);
	admin_record(client,
		&(struct desk_deed){.kind = kind, .endpoint = name, .detail = "by its provider"});
}

static void on_answer(struct steward_provider *who, uint64_t request_id, const char *name,
	int error, const char *why, bool resumed)
{
	struct admin_client *client = PROVIDER_CLIENT(who);
	struct conn *conn = client->base.conn;
	Vmsig__Provided body = VMSIG__PROVIDED__INIT;
	int r;

	body.resumed = resumed;
	if (!error)
		record(client, VMSIG__AUDIT_RECORD__KIND__ENDPOINT_ADDED, name);
	r = error ? dialect_error(conn, request_id, error, why)
		  : dialect_send(conn, request_id, VMSIG__ADMIN_MESSAGE__BODY_PROVIDED, &body);
	if (r)
		conn_close(conn, r, NULL);
}

void provide_begin(struct admin_client *client)
{
	client->provider.answer = on_answer;
}

/* The descriptors that the message announces; those that the kernel has left out are missed by the
 * shell. */
static int take_files(struct conn *conn, const Vmsig__Provide *body, int *fds, size_t *ret_n)
{
	struct chan_fd_claim claims[FILES_MAX];

	*ret_n = 0;
	if (!conn_sends_fds(conn) && !conn_has_fds(conn))
		return 0;
	if (body->n_files > FILES_MAX)
		return VMSIG_ERR_PROTOCOL;
	for (size_t i = 0; i < body->n_files; i++) {
		const Vmsig__Descriptor *file = body->files[i];

		if (file->purpose != VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM)
			return VMSIG_ERR_PROTOCOL;
		claims[i] = (struct chan_fd_claim){.dev = file->dev,
			.ino = file->ino,
			.size = file->size,
			.access = file->access};
	}
	*ret_n = body->n_files;
	return body->n_files ? conn_take_fds(conn, claims, body->n_files, fds) : 0;
}

static void segments_copy(const Vmsig__Provide *body, vmsig_memseg segs[static SEGMENTS_MAX])
{
	for (size_t i = 0; i < body->n_segments && i < SEGMENTS_MAX; i++)
		segs[i] = (vmsig_memseg){.gpa = body->segments[i]->gpa,
			.len = body->segments[i]->len,
			.file_off = body->segments[i]->file_off};
}

int provide_on_provide(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	const struct services *services = client->services;
	struct conn *conn = client->base.conn;
	const Vmsig__Provide *body = request->provide;
	vmsig_memseg segs[SEGMENTS_MAX];
	int fds[FILES_MAX], r;
	struct steward_wish wish = {.tenant = &conn_tenant(conn)->tenant,
		.kernel = {.name = body->name, .kcr3 = body->kcr3, .levels = body->levels},
		.low = body->low,
		.segs = segs,
		.nseg = body->n_segments,
		.writable = body->writable,
		.uid = conn_uid(conn),
		.fds = fds};

	if (body->n_segments > SEGMENTS_MAX)
		return dialect_cut_off(conn, "RAM has more than 64 segments");
	r = take_files(conn, body, fds, &wish.nfds);
	if (r)
		return r;
	segments_copy(body, segs);
	services->steward->provide(services->ctx, &wish, &client->provider, request->request_id);
	return 0;
}

int provide_on_invalidate(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	const struct services *services = client->services;
	const Vmsig__ProvideInvalidate *body = request->provide_invalidate;
	const struct steward_kernel kernel = {
		.name = body->name, .kcr3 = body->kcr3, .levels = body->levels};
	int r = services->steward->provide_invalidate(services->ctx, &client->provider, &kernel);

	if (!r)
		record(client, VMSIG__AUDIT_RECORD__KIND__INVALIDATED, body->name);
	return dialect_answer(client->base.conn, request->request_id, r, NULL);
}

int provide_on_end(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	const struct services *services = client->services;
	const char *name = request->provide_end->name;
	int r = services->steward->provide_end(services->ctx, &client->provider, name);

	if (!r)
		record(client, VMSIG__AUDIT_RECORD__KIND__ENDPOINT_REMOVED, name);
	return dialect_answer(client->base.conn, request->request_id, r, NULL);
}

void provide_forget(struct admin_client *client)
{
	const struct services *services = client->services;

	services->steward->provider_left(
		services->ctx, &client->provider, conn_was_lost(client->base.conn));
}
