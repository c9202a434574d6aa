/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <protobuf-c/protobuf-c.h>

#include "broker/log.h"
#include "broker/net/state.h"
#include "vmsig/vmsig_error.h"

#define FILLS_PER_WAKE 4   /* reads per wake-up: 64 KiB each, then others have their turn */
#define FRAMES_PER_WAKE 32 /* the same for requests */
#define BUSY_RETRY_MS 20   /* after ETOOMANYREFS */
#define SEND_STACK 4096    /* messages up to this are packed on the stack */

enum conn_state { CONN_HANDSHAKE, CONN_OPEN, CONN_CLOSING };

struct conn {
	struct net *net;
	const struct plane_ops *plane;
	struct chan *chan;
	enum conn_state state;
	void *plane_state;
	bool plane_open;

	struct ucred cred;
	struct identity identity;
	const struct config_tenant *tenant;
	struct charge *charge; /* NULL: not charged */
	struct uid_account *uid_account;
	bool stale; /* the certificate was verified before a reload, not after */

	uv_poll_t poll;
	int mask; /* what the poll handle watches */
	uv_work_t work;
	bool working; /* the pool has the channel: nobody else may touch it */
	int work_result;

	bool is_dirty, wants_turn, has_backlog, yields;
	uint32_t unread;                      /* messages queued since the queue was empty last */
	uint64_t handshake_by_ms, wake_at_ms; /* 0: none */
	uint64_t soft_since_ms;               /* over the soft limit since; 0: not */
	struct conn *prev, *next;
	struct conn *dirty_prev, *dirty_next;
	struct conn *backlog_prev, *backlog_next;
};

/* ---- looking ---- */

struct net *conn_net(struct conn *conn)
{
	return conn->net;
}

const struct config_tenant *conn_tenant(const struct conn *conn)
{
	return conn->tenant;
}

const struct identity *conn_identity(const struct conn *conn)
{
	return &conn->identity;
}

uid_t conn_uid(const struct conn *conn)
{
	return conn->cred.uid;
}

pid_t conn_pid(const struct conn *conn)
{
	return conn->cred.pid;
}

struct chan *conn_chan(struct conn *conn)
{
	return conn->chan;
}

const struct plane_ops *conn_plane(const struct conn *conn)
{
	return conn->plane;
}

struct conn *conn_next(const struct conn *conn)
{
	return conn->next;
}

bool conn_has_room(const struct conn *conn)
{
	return chan_output_bytes(conn->chan) < conn->net->config->tx_soft;
}

/* Who, for log records. The name is empty before the handshake. */
#define CONN_WHO(conn)                                                                             \
	LOG_STR("plane", (conn)->plane->name), LOG_STR("tenant", (conn)->identity.name),           \
		LOG_INT("uid", (conn)->cred.uid), LOG_INT("pid", (conn)->cred.pid)

/* ---- closing ---- */

static void dirty_remove(struct conn *conn)
{
	if (conn->is_dirty)
		DL_DELETE2(conn->net->dirty, conn, dirty_prev, dirty_next);
	conn->is_dirty = false;
}

static void dirty_add(struct conn *conn)
{
	if (conn->is_dirty || conn->state == CONN_CLOSING)
		return;
	DL_APPEND2(conn->net->dirty, conn, dirty_prev, dirty_next);
	conn->is_dirty = true;
}

static void backlog_remove(struct conn *conn)
{
	if (conn->has_backlog)
		DL_DELETE2(conn->net->backlog, conn, backlog_prev, backlog_next);
	conn->has_backlog = false;
}

static void backlog_add(struct conn *conn)
{
	if (!conn->has_backlog)
		DL_APPEND2(conn->net->backlog, conn, backlog_prev, backlog_next);
	conn->has_backlog = true;
	net_hurry(conn->net);
}

static void handshake_done(struct conn *conn)
{
	conn->handshake_by_ms = 0;
	conn->net->nhandshakes--;
}

static void on_closed(uv_handle_t *handle)
{
	struct conn *conn = handle->data;
	struct net *net = conn->net;

	chan_free(conn->chan);
	net->nconns--;
	DL_DELETE(net->conns, conn);
	free(conn);
	net_handle_closed(net);
}

/* Everything but the channel, which the pool may still have. */
static void conn_leave(struct conn *conn)
{
	if (conn->state == CONN_HANDSHAKE)
		handshake_done(conn);
	conn->state = CONN_CLOSING;
	dirty_remove(conn);
	backlog_remove(conn);
	if (conn->plane_open)
		conn->plane->close(conn, conn->plane_state);
	conn->plane_open = false;
	if (conn->charge)
		conn->charge->connections--;
	conn->charge = NULL;
	net_refund_uid(conn->net, conn->uid_account);
	conn->uid_account = NULL;
}

static void conn_finish(struct conn *conn)
{
	/* What can be said without waiting is said; the peer may be gone. */
	if (chan_established(conn->chan))
		chan_shutdown(conn->chan);
	(void)!chan_drain(conn->chan);
	uv_close((uv_handle_t *)&conn->poll, on_closed);
}

void conn_close(struct conn *conn, int error, const char *why)
{
	enum log_level level = error == VMSIG_ERR_DISCONNECTED || error == VMSIG_ERR_SHUTTING_DOWN
				       ? LOG_LEVEL_DEBUG
				       : LOG_LEVEL_WARNING;

	if (conn->state == CONN_CLOSING)
		return;
	if (level == LOG_LEVEL_DEBUG || net_may_log(conn->net))
		log_at(level, "connection closed", CONN_WHO(conn),
			LOG_STR("error", error < 0 ? strerror(-error) : vmsig_error_name(error)),
			LOG_STR("why", why ? why : vmsig_error_text(error)));
	if (conn->state == CONN_OPEN && error != VMSIG_ERR_DISCONNECTED)
		conn->plane->farewell(conn, error, why);
	conn_leave(conn);
	if (!conn->working)
		conn_finish(conn);
}

static void conn_fail(struct conn *conn, int error)
{
	const char *why = chan_error(conn->chan);

	conn_close(conn, error, why[0] ? why : NULL);
}

/* ---- sending ---- */

void conn_wake(struct conn *conn, uint64_t delay_ms)
{
	if (delay_ms) {
		conn->wake_at_ms = uv_now(conn->net->loop) + delay_ms;
		return;
	}
	conn->wants_turn = true;
	dirty_add(conn);
}

int conn_send(struct conn *conn, const void *message, const int *fds, size_t nfds)
{
	uint8_t stack[SEND_STACK], *buf = stack;
	size_t len = protobuf_c_message_get_packed_size(message);
	int r;

	if (conn->state != CONN_OPEN)
		return VMSIG_ERR_DISCONNECTED;
	if (len > sizeof(stack)) {
		buf = malloc(len);
		if (!buf)
			return -ENOMEM;
	}
	protobuf_c_message_pack(message, buf);
	r = chan_send(conn->chan, buf, len, fds, nfds);
	conn->unread += !r;
	if (r == VMSIG_ERR_QUOTA && net_may_log(conn->net))
		log_warning("client does not read", CONN_WHO(conn),
			LOG_STR("slot", "limits.send_queue"),
			LOG_INT("queued_bytes", chan_output_bytes(conn->chan)),
			LOG_INT("message_bytes", len), LOG_INT("limit", conn->net->config->tx_max));
	if (buf != stack)
		free(buf);
	dirty_add(conn);
	return r;
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* Each change costs two system calls in libuv's epoll: only when it is one. */
static int watch(struct conn *conn, int mask)
{
	int r;

	if (mask == conn->mask)
		return 0;
	r = mask ? uv_poll_start(&conn->poll, mask, on_poll) : uv_poll_stop(&conn->poll);
	if (!r)
		conn->mask = mask;
	return r;
}

static void note_queue(struct conn *conn)
{
	if (conn_has_room(conn))
		conn->soft_since_ms = 0;
	else if (!conn->soft_since_ms)
		conn->soft_since_ms = uv_now(conn->net->loop);
}

static int flush(struct conn *conn)
{
	int r = chan_drain(conn->chan);

	if (r == VMSIG_ERR_BUSY) {
		/* Too many descriptors in flight on the host; nobody's fault who is here. */
		conn_wake(conn, BUSY_RETRY_MS);
		return 0;
	}
	if (r && r != VMSIG_ERR_WOULD_BLOCK)
		return r;
	if (!r)
		conn->unread = 0;
	note_queue(conn);
	return watch(conn, UV_READABLE | (r == VMSIG_ERR_WOULD_BLOCK ? UV_WRITABLE : 0));
}

void conn_yield(struct conn *conn)
{
	conn->yields = true;
}

bool conn_may_answer(struct conn *conn, uint32_t pending)
{
	if (conn->unread >= pending) {
		/* A pipeline is no sin while the client reads. What fails fails again later. */
		(void)!flush(conn);
	}
	return conn->unread < pending;
}

/* A revoked certificate serves nobody, but thousands of them are not verified in one turn of
 * the loop: each when its connection's turn has come. */
static int reverify(struct conn *conn)
{
	if (!conn->stale)
		return 0;
	conn->stale = false;
	return chan_reverify(conn->chan, net_tls(conn->net, conn->plane));
}

void conn_turn(struct conn *conn)
{
	int r;

	dirty_remove(conn);
	r = reverify(conn);
	if (!r && conn->wants_turn && conn->state == CONN_OPEN && conn_has_room(conn)) {
		conn->wants_turn = false;
		r = conn->plane->writable(conn, conn->plane_state);
	}
	if (!r && conn->state == CONN_OPEN)
		r = flush(conn);
	if (r)
		conn_fail(conn, r);
}

/* ---- receiving ---- */

/* The whole frames that are here, up to a fair share: then others have their turn. A plane
 * may close the connection in the middle. */
static int take_frames(struct conn *conn)
{
	for (int i = 0; conn->state == CONN_OPEN; i++) {
		const uint8_t *data;
		size_t len;
		int r;

		if (i == FRAMES_PER_WAKE || conn->yields) {
			conn->yields = false;
			backlog_add(conn);
			return VMSIG_ERR_BUSY;
		}
		r = chan_recv(conn->chan, &data, &len);
		if (r)
			return r == VMSIG_ERR_WOULD_BLOCK ? 0 : r;
		r = conn->plane->frame(conn, conn->plane_state, data, len);
		if (r)
			return r;
	}
	return 0;
}

static int receive(struct conn *conn)
{
	int r = reverify(conn);

	if (r)
		return r;
	for (int i = 0; i < FILLS_PER_WAKE && conn->state == CONN_OPEN; i++) {
		int filled = chan_fill(conn->chan);

		if (filled && filled != VMSIG_ERR_WOULD_BLOCK && filled != VMSIG_ERR_DISCONNECTED)
			return filled;
		/* What came before the end of the stream counts. */
		r = take_frames(conn);
		if (r)
			return r == VMSIG_ERR_BUSY ? 0 : r;
		if (filled)
			return filled == VMSIG_ERR_WOULD_BLOCK ? 0 : filled;
	}
	return 0;
}

void conn_continue(struct conn *conn)
{
	int r;

	backlog_remove(conn);
	r = receive(conn);
	if (r)
		conn_fail(conn, r);
}

/* ---- the handshake ---- */

/* Both, always: a stolen key used from another uid is refused, and so is the right uid
 * without a key. */
static int admit(struct conn *conn, const char **ret_why)
{
	const struct config *config = conn->net->config;
	const struct config_tenant *tenant = config_tenant_find(config, &conn->identity);

	if (!tenant || !config_tenant_has_uid(tenant, conn->cred.uid)) {
		*ret_why = tenant ? "the policy does not list this uid for the tenant; add it to "
				    "'uids' or connect as one of them"
				  : "the policy has no such tenant in this role; add it to "
				    "'tenants'";
		return VMSIG_ERR_UNAUTHENTICATED;
	}
	conn->tenant = tenant;
	conn->charge = &conn->net->charges[tenant - config->tenants];
	conn->charge->connections++;
	return 0;
}

static bool over_quota(const struct conn *conn)
{
	return conn->charge->connections > conn->tenant->tenant.quota.connections;
}

/* Everything that must hold before the plane hears of the connection. */
static int conn_enter(struct conn *conn, char *why, size_t why_size)
{
	const char *reason = "";
	int r = chan_peer_identity(conn->chan, &conn->identity);

	if (!r) {
		r = reverify(conn);
		reason = chan_error(conn->chan);
	}
	if (!r)
		r = admit(conn, &reason);
	snprintf(why, why_size, "%s", reason);
	if (r)
		return r;
	if (over_quota(conn)) {
		snprintf(why, why_size,
			"the tenant has its %u connections open; close one or raise "
			"quota.connections",
			conn->tenant->tenant.quota.connections);
		return VMSIG_ERR_QUOTA;
	}
	return conn->plane->open(conn, &conn->plane_state);
}

static int conn_established(struct conn *conn)
{
	char why[192];
	int r;

	handshake_done(conn);
	conn->state = CONN_OPEN;
	r = conn_enter(conn, why, sizeof(why));
	if (r) {
		conn_close(conn, r, why[0] ? why : NULL);
		return 0;
	}
	conn->plane_open = true;
	log_debug("connection opened", CONN_WHO(conn), LOG_STR("serial", conn->identity.serial));
	r = take_frames(conn);
	dirty_add(conn);
	return r == VMSIG_ERR_BUSY ? 0 : r;
}

static void on_work(uv_work_t *work)
{
	struct conn *conn = work->data;

	conn->work_result = chan_handshake(conn->chan);
}

static void on_worked(uv_work_t *work, int status)
{
	struct conn *conn = work->data;
	int r = conn->work_result;

	conn->working = false;
	if (conn->state == CONN_CLOSING) {
		conn_finish(conn);
		return;
	}
	if (r && r != VMSIG_ERR_WOULD_BLOCK) {
		conn_fail(conn, r);
		return;
	}
	r = r ? 0 : conn_established(conn);
	if (!r && conn->state != CONN_CLOSING)
		r = flush(conn);
	if (r)
		conn_fail(conn, r);
}

/* The signature and the verification cost about 0.7 ms: not on the loop. Nothing watches the
 * socket meanwhile, so only the pool touches the channel. */
static int handshake_step(struct conn *conn)
{
	int r = chan_fill(conn->chan);

	if (r == VMSIG_ERR_WOULD_BLOCK)
		return flush(conn);
	if (r)
		return r;
	r = watch(conn, 0);
	if (r)
		return r;
	conn->work.data = conn;
	r = uv_queue_work(conn->net->loop, &conn->work, on_work, on_worked);
	conn->working = !r;
	return r;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct conn *conn = poll->data;
	int r = 0;

	/* libuv has stopped the handle. */
	if (status < 0)
		conn->mask = 0;
	/* An error status does not mean that there is nothing to read: libuv reports EBADF for
	 * a peer that closed with our bytes unread. Reading tells. */
	if (conn->state == CONN_HANDSHAKE)
		r = handshake_step(conn);
	else if (status < 0 || (events & UV_READABLE))
		r = receive(conn);
	if (!r && conn->state == CONN_OPEN && (events & UV_WRITABLE)) {
		conn->wants_turn = true;
		dirty_add(conn);
	}
	if (r)
		conn_fail(conn, r);
}

/* NULL when there is no memory or the socket has no peer any more; the socket stays open. */
static struct conn *conn_new(
	struct net *net, const struct plane_ops *plane, struct tls_ctx *tls, int fd)
{
	const struct chan_limits limits = {
		.frame_max = net->config->max_frame,
		.tx_max = net->config->tx_max,
		.rx_fds_max = plane->rx_fds,
	};
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->net = net;
	conn->plane = plane;
	conn->poll.data = conn;
	if (chan_new(&conn->chan, tls, fd, &limits)) {
		free(conn);
		return NULL;
	}
	return conn;
}

/* Before any work is done for it. */
static int check_limits(struct conn *conn)
{
	struct net *net = conn->net;
	const char *slot = "connections of the uid";
	uint32_t limit = net->config->max_connections;
	int r = chan_peer_cred(conn->chan, &conn->cred);

	if (!r && net->nconns >= limit) {
		slot = "limits.connections";
		r = VMSIG_ERR_QUOTA;
	}
	if (!r)
		r = net_charge_uid(net, conn->cred.uid, &conn->uid_account, &limit);
	if (r == VMSIG_ERR_QUOTA && net_may_log(net))
		log_warning("connection refused: quota", CONN_WHO(conn), LOG_STR("slot", slot),
			LOG_INT("limit", limit));
	return r;
}

void conn_accept(struct net *net, const struct plane_ops *plane, struct tls_ctx *tls, int fd)
{
	struct conn *conn = conn_new(net, plane, tls, fd);

	if (!conn) {
		close(fd);
		return;
	}
	if (check_limits(conn) || uv_poll_init(net->loop, &conn->poll, fd)) {
		net_refund_uid(net, conn->uid_account);
		chan_free(conn->chan);
		free(conn);
		return;
	}
	conn->handshake_by_ms = uv_now(net->loop) + net->config->handshake_timeout_ms;
	net->nhandles++;
	net->nconns++;
	net->nhandshakes++;
	DL_APPEND(net->conns, conn);
	if (watch(conn, UV_READABLE))
		conn_close(conn, VMSIG_ERR_INTERNAL, "cannot watch the socket");
}

/* ---- time and policy ---- */

void conn_tick(struct conn *conn, uint64_t now_ms)
{
	const struct config *config = conn->net->config;

	if (conn->handshake_by_ms && now_ms >= conn->handshake_by_ms) {
		conn_close(conn, VMSIG_ERR_TIMEOUT, "the handshake took too long");
	} else if (conn->soft_since_ms && now_ms - conn->soft_since_ms >= config->soft_ms) {
		log_warning("client does not read", CONN_WHO(conn),
			LOG_INT("queued_bytes", chan_output_bytes(conn->chan)),
			LOG_INT("limit", config->tx_soft));
		conn_close(conn, VMSIG_ERR_QUOTA, "the send queue was full for too long");
	} else if (conn->wake_at_ms && now_ms >= conn->wake_at_ms) {
		conn->wake_at_ms = 0;
		conn_wake(conn, 0);
	}
}

void conn_reload(struct conn *conn)
{
	const char *why = NULL;
	int r;

	/* The charges are new, whatever happens next. */
	conn->charge = NULL;
	conn->stale = true;
	if (conn->state != CONN_OPEN)
		return;
	r = admit(conn, &why);
	if (r) {
		conn_close(conn, r, why);
		return;
	}
	backlog_add(conn);
	conn->plane->policy(conn, conn->plane_state);
}
