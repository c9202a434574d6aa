/* SPDX-License-Identifier: Apache-2.0 */
/* The connections that there are, as administrators see them: one after the other, by their ids. */
#include "broker/net/conn.h"
#include "broker/net/state.h"
#include "vmsig/vmsig_error.h"

#define NS_PER_MS 1000000u

static struct conn *find_above(const struct conns *conns, uint64_t id)
{
	struct conn *conn;

	/* New ones are last. */
	DL_FOREACH (conns->list, conn) {
		if (conn->id > id && conn->phase)
			return conn;
	}
	return NULL;
}

static void info_fill(const struct conn *conn, struct conn_info *ret_info)
{
	uint64_t now_ns = pulse_now_ns(conn->conns->pulse);

	*ret_info = (struct conn_info){.id = conn->id,
		.plane = conn->plane->name,
		.role = conn->tenant ? identity_role_name(conn->identity.role) : "",
		.tenant = conn->identity.name,
		.serial = conn->identity.serial,
		.uid = conn->cred.uid,
		.pid = conn->cred.pid,
		.age_ms = (now_ns - conn->since_ns) / NS_PER_MS,
		.queued_bytes = conn->unread.amount};
}

bool conn_next(const struct conn *asker, uint64_t *cursor, struct conn_info *ret_info)
{
	const struct conn *conn = find_above(asker->conns, *cursor);

	if (!conn)
		return false;
	info_fill(conn, ret_info);
	ret_info->is_self = conn == asker;
	*cursor = conn->id;
	return true;
}

uint32_t conn_count(const struct conn *asker)
{
	return (uint32_t)account_used(&asker->conns->account, CONNS_ALL);
}

bool conn_end(struct conn *asker, uint64_t id, const char *why)
{
	struct conn *conn = find_above(asker->conns, id - 1);

	if (!conn || conn->id != id)
		return false;
	conn_close(conn, VMSIG_ERR_FORBIDDEN, why);
	return true;
}
