/* SPDX-License-Identifier: Apache-2.0 */
/* What planes ask of a connection: whose it is, who is at its other end, what may be said of it. */
#include "broker/log.h"
#include "broker/net/conn.h"
#include "broker/net/state.h"

void *conn_user(const struct conn *conn)
{
	return conn->conns->user;
}

void *conn_plane_state(const struct conn *conn)
{
	return conn->plane_state;
}

const struct plane_ops *conn_plane(const struct conn *conn)
{
	return conn->plane;
}

const struct grant_tenant *conn_tenant(const struct conn *conn)
{
	return conn->tenant;
}

uid_t conn_uid(const struct conn *conn)
{
	return conn->cred.uid;
}

pid_t conn_pid(const struct conn *conn)
{
	return conn->cred.pid;
}

bool conn_was_lost(const struct conn *conn)
{
	return conn->ended_by == VMSIG_ERR_DISCONNECTED ||
	       conn->ended_by == VMSIG_ERR_SHUTTING_DOWN;
}

const char *conn_serial(const struct conn *conn)
{
	return conn->identity.serial;
}

bool conn_has_room(const struct conn *conn)
{
	return chan_output_bytes(conn->chan) < conn->conns->config->tx_soft;
}

bool conn_may_log(struct conn *conn)
{
	struct conns *conns = conn->conns;

	return caller_may_log(&conns->callers, conn->caller, pulse_now_ns(conns->pulse));
}

void conn_log_refusal(struct conn *conn, const struct account_refusal *refusal)
{
	if (conn_may_log(conn))
		log_warning("refused: quota", CONN_WHO(conn), ACCOUNT_REFUSAL_FIELDS(refusal));
}

struct account_actor conn_actor(const struct conn *conn)
{
	return (struct account_actor){.tenant = conn->tenant ? conn->tenant->tenant.name : NULL,
		.uid = conn->cred.uid,
		.pid = conn->cred.pid};
}
