/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "broker/log.h"
#include "broker/net/closer.h"
#include "broker/net/passrights.h"
#include "broker/net/porter.h"
#include "broker/net/state.h"
#include "vmsig/vmsig_error.h"

/*
 * Descriptors that clients send: who may, how they come in, and who closes what is left.
 *
 * The kernel refuses them on every listener, and so on every new connection. Only an admitted
 * operator who may send bulk data gets the right to, and loses it when a reload takes bulk away.
 * What it sends is received by the porter, which lets memfds through.
 *
 * Before Linux 6.16 the kernel cannot refuse. Then each read looks first, on every plane: bytes
 * that bring descriptors stay in the socket, and the connection ends unless it is such an
 * operator's. Either way a socket that may hold descriptors is closed by the closer.
 */

void rights_listen(struct net *net, int fd)
{
	net->kernel_refuses = passrights_set(fd, false) == 0;
}

void rights_close(struct net *net, int fd, uid_t uid)
{
	if (net->kernel_refuses)
		close(fd);
	else
		closer_give(net->closer, fd, uid);
}

static void dispose(void *ctx, int fd)
{
	struct conn *conn = ctx;

	if (conn->holds_rights)
		closer_give(conn->net->closer, fd, conn->cred.uid);
	else
		close(fd);
}

void rights_begin(struct conn *conn)
{
	conn->holds_rights = !conn->net->kernel_refuses;
	if (conn->holds_rights)
		chan_look_for_fds(conn->chan);
	chan_dispose(conn->chan, dispose, conn);
}

static bool may_send(const struct conn *conn)
{
	const struct config_tenant *tenant = conn->tenant;

	if (!conn->plane->takes_fds || !porter_serves(conn->net->porter, conn->cred.uid))
		return false;
	for (size_t i = 0; i < tenant->nrules; i++) {
		if (tenant->rules[i].bulk_max)
			return true;
	}
	return false;
}

int rights_update(struct conn *conn)
{
	bool may = may_send(conn);
	int r = 0;

	if (may == conn->sends_rights)
		return 0;
	if (may) {
		/* Before the kernel lets the first one in. What it has let in stays there when
		 * the right is taken away. */
		conn->holds_rights = conn->fetches_rights = true;
		chan_look_for_fds(conn->chan);
	}
	if (conn->net->kernel_refuses)
		r = passrights_set(chan_socket(conn->chan), may);
	conn->sends_rights = may && !r;
	return r;
}

bool conn_sends_fds(struct conn *conn)
{
	bool sends = conn->sends_rights;

	/* What kept it from them may be over: then the next one gets through. */
	if (!sends)
		(void)!rights_update(conn);
	return sends;
}

/* ---- receiving ---- */

static int take(struct conn *conn, const struct porter_catch *catch)
{
	if (catch->result && catch->result != VMSIG_ERR_WOULD_BLOCK)
		return catch->result;
	if (!catch->foreign)
		return chan_give(conn->chan, catch->data, catch->len, catch->fds, catch->nfds);
	if (conn_may_log(conn))
		log_warning("a client sent descriptors that are no memfds", CONN_WHO(conn),
			LOG_INT("count", catch->foreign));
	return VMSIG_ERR_PROTOCOL;
}

static void on_fetched(struct porter_request *request, const struct porter_catch *catch)
{
	struct conn *conn = request->data;
	int r = take(conn, catch);

	if (r == VMSIG_ERR_PROTOCOL)
		conn_close(conn, r, "bulk data comes in one memfd a message, and nothing else");
	else if (r)
		conn_fail(conn, r);
	else
		conn_want_read(conn);
}

int rights_fetch(struct conn *conn)
{
	const char *why = NULL;

	if (!conn->fetches_rights || !conn->net->porter)
		why = "the peer sent descriptors, which it may not";
	else if (chan_pending_fds(conn->chan) >= CHAN_FDS_PER_FRAME)
		why = "the peer sent more descriptors than one message may have";
	if (why) {
		conn_close(conn, VMSIG_ERR_PROTOCOL, why);
		return 0;
	}
	conn->fetch.done = on_fetched;
	conn->fetch.data = conn;
	conn->fetch.socket = chan_socket(conn->chan);
	conn->fetch.uid = conn->cred.uid;
	porter_ask(conn->net->porter, &conn->fetch);
	/* Failed already. Else the answer wakes it. */
	if (conn->state == CONN_CLOSING)
		return 0;
	return conn_watch(conn, conn->mask & ~UV_READABLE);
}

bool rights_fetching(const struct conn *conn)
{
	return conn->fetch.id != 0;
}

void rights_end(struct conn *conn)
{
	if (conn->net->porter)
		porter_cancel(conn->net->porter, &conn->fetch);
}
