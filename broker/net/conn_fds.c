/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptors that a connection's client sends: whether it may, and how they come in. */
#include <stddef.h>

#include "broker/log.h"
#include "broker/net/conn.h"
#include "broker/net/state.h"
#include "vmsig/vmsig_error.h"

int conn_take_fds(struct conn *conn, const struct chan_fd_claim *claims, size_t n, int *ret_fds)
{
	return chan_take_fds(conn->chan, claims, n, ret_fds);
}

bool conn_has_fds(const struct conn *conn)
{
	return chan_pending_fds(conn->chan) > 0;
}

bool conn_sends_fds(struct conn *conn)
{
	bool sends = conn->right.sends;

	/* What kept it from them may be over: then the next one gets through. */
	if (!sends)
		(void)!conn_update_rights(conn);
	return sends;
}

int conn_update_rights(struct conn *conn)
{
	bool wanted = false;

	for (size_t i = 0; conn->plane->takes_fds && i < conn->tenant->nrules; i++)
		wanted |= conn->tenant->rules[i].bulk_max > 0;
	if (conn->plane->takes_fds && conn->tenant->role == IDENTITY_PROVIDER)
		wanted = true;
	return right_update(&conn->right, wanted);
}

static void fetched(struct right *right, int error, unsigned foreign)
{
	struct conn *conn = (struct conn *)((char *)right - offsetof(struct conn, right));

	if (foreign && conn_may_log(conn))
		log_warning("a client sent descriptors that are no memfds", CONN_WHO(conn),
			LOG_INT("count", foreign));
	if (error == VMSIG_ERR_PROTOCOL)
		conn_close(conn, error,
			conn->plane->door == NET_DOOR_ADMIN
				? "RAM comes in memfds or files of a tmpfs, at most 16 a message, "
				  "and nothing else"
				: "bulk data comes in one memfd a message, and nothing else");
	else if (error)
		conn_fail(conn, error);
	else
		conn_want_read(conn);
}

void conn_begin_rights(struct conn *conn)
{
	right_begin(&conn->right, &conn->conns->rights, conn->chan, conn->cred.uid, fetched);
}

int conn_fetch_rights(struct conn *conn)
{
	const char *why = NULL;

	if (right_fetch(&conn->right, &why)) {
		conn_close(conn, VMSIG_ERR_PROTOCOL, why);
		return 0;
	}
	/* Failed already. Else the answer wakes it. */
	return conn->phase ? conn_watch(conn, conn->mask & ~UV_READABLE) : 0;
}
