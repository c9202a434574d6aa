/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is connected, on all planes, for administrators who see everything; and the end of
 * connections that they name.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log.h"
#include "broker/planes/admin_client.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define ROSTER_PAGE 512u /* connections in one answer, well inside of a frame */
#define DETAIL_MAX 256   /* names that are longer are nobody's */

static char *text(const char *words)
{
	return (char *)(uintptr_t)words;
}

static void info_pack(const struct conn_info *info, Vmsig__ClientInfo *packed)
{
	vmsig__client_info__init(packed);
	packed->client = info->id;
	packed->plane = text(info->plane);
	packed->role = text(info->role);
	packed->tenant = text(info->tenant);
	packed->serial = text(info->serial);
	packed->uid = info->uid;
	packed->pid = (uint32_t)info->pid;
	packed->age_ms = info->age_ms;
	packed->queued_bytes = info->queued_bytes;
}

int roster_on_list(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	struct conn *conn = client->base.conn;
	Vmsig__ClientInfos body = VMSIG__CLIENT_INFOS__INIT;
	Vmsig__ClientInfo *infos, **pointers;
	uint64_t cursor = request->client_list->after;
	struct conn_info info;
	int r = -ENOMEM;

	if (!admin_sees_all(client))
		return dialect_error(
			conn, request->request_id, VMSIG_ERR_FORBIDDEN, admin_all_needed());
	infos = calloc(ROSTER_PAGE, sizeof(*infos));
	pointers = calloc(ROSTER_PAGE, sizeof(*pointers));
	if (!infos || !pointers)
		goto out;
	while (body.n_clients < ROSTER_PAGE && conn_next(conn, &cursor, &info)) {
		info_pack(&info, &infos[body.n_clients]);
		pointers[body.n_clients] = &infos[body.n_clients];
		body.n_clients++;
	}
	body.clients = pointers;
	body.more = body.n_clients == ROSTER_PAGE;
	r = dialect_send(conn, request->request_id, VMSIG__ADMIN_MESSAGE__BODY_CLIENT_INFOS, &body);
out:
	free(infos);
	free(pointers);
	return r;
}

/* ---- disconnect ---- */

static bool fits(const Vmsig__Disconnect *wanted, const struct conn_info *info)
{
	return (!wanted->client || wanted->client == info->id) &&
	       (!wanted->tenant[0] || strcmp(wanted->tenant, info->tenant) == 0) &&
	       (!wanted->role[0] || strcmp(wanted->role, info->role) == 0) &&
	       (!wanted->uid_given || wanted->uid == info->uid);
}

static uint32_t disconnect(struct conn *conn, const Vmsig__Disconnect *wanted)
{
	struct conn_info info;
	uint64_t cursor = wanted->client ? wanted->client - 1 : 0;
	uint32_t count = 0;

	while (conn_next(conn, &cursor, &info)) {
		if (wanted->client && info.id != wanted->client)
			break;
		if (!info.is_self && fits(wanted, &info))
			count += conn_end(conn, info.id, "an administrator ended the connection");
	}
	return count;
}

/* Providers whose connection is lost already: nobody waits for it any more. */
static uint32_t cut_providers(const struct admin_client *client, const Vmsig__Disconnect *wanted)
{
	const struct services *services = client->services;
	const uid_t uid = wanted->uid;

	if (wanted->client || (wanted->role[0] && strcmp(wanted->role, "provider") != 0))
		return 0;
	return services->steward->providers_cut(services->ctx,
		wanted->tenant[0] ? wanted->tenant : NULL, wanted->uid_given ? &uid : NULL);
}

/* Who was meant, as `vmsigctl disconnect` has it. */
static void describe(const Vmsig__Disconnect *wanted, uint32_t count, char *buf, size_t size)
{
	size_t len = (size_t)snprintf(buf, size, "connections: %u; of", count);

	if (wanted->client && len < size)
		len += (size_t)snprintf(buf + len, size - len, " client %" PRIu64, wanted->client);
	if (wanted->tenant[0] && len < size)
		len += (size_t)snprintf(buf + len, size - len, " tenant %s", wanted->tenant);
	if (wanted->role[0] && len < size)
		len += (size_t)snprintf(buf + len, size - len, " role %s", wanted->role);
	if (wanted->uid_given && len < size)
		snprintf(buf + len, size - len, " uid %u", wanted->uid);
}

static void record(
	const struct admin_client *client, const Vmsig__Disconnect *wanted, uint32_t count)
{
	char detail[DETAIL_MAX];

	describe(wanted, count, detail, sizeof(detail));
	admin_record(client, &(struct desk_deed){.kind = VMSIG__AUDIT_RECORD__KIND__DISCONNECTED,
				     .endpoint = "",
				     .detail = detail});
}

int roster_on_disconnect(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	const Vmsig__Disconnect *wanted = request->disconnect;
	struct admin_client *client = state;
	struct conn *conn = client->base.conn;
	Vmsig__Disconnected body = VMSIG__DISCONNECTED__INIT;

	if (!admin_sees_all(client))
		return dialect_error(
			conn, request->request_id, VMSIG_ERR_FORBIDDEN, admin_all_needed());
	if (!wanted->client && !wanted->tenant[0] && !wanted->role[0] && !wanted->uid_given)
		return dialect_error(conn, request->request_id, VMSIG_ERR_BAD_REQUEST,
			"nobody is named; give a client, a tenant, a role or a uid");
	body.clients = disconnect(conn, wanted) + cut_providers(client, wanted);
	record(client, wanted, body.clients);
	log_info("connections were ended by an administrator",
		LOG_STR("tenant", conn_tenant(conn)->tenant.name), LOG_INT("uid", conn_uid(conn)),
		LOG_INT("count", body.clients));
	return dialect_send(
		conn, request->request_id, VMSIG__ADMIN_MESSAGE__BODY_DISCONNECTED, &body);
}
