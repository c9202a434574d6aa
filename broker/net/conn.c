/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <protobuf-c/protobuf-c.h>

#include "broker/log.h"
#include "broker/net/state.h"
#include "vmsig/vmsig_error.h"

#define FILLS_PER_WAKE 4 /* reads per wake-up: 64 KiB each, then others have their turn */
#define BUSY_RETRY_MS 20 /* after ETOOMANYREFS */
#define SEND_STACK 4096  /* messages up to this are packed on the stack */

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

	uv_poll_t poll;
	int mask; /* what the poll handle watches */
	uv_work_t work;
	bool working; /* the pool has the channel: nobody else may touch it */
	int work_result;

	bool is_dirty, wants_turn;
	uint64_t handshake_by_ms, wake_at_ms; /* 0: none */
	uint64_t soft_since_ms;               /* over the soft limit since; 0: not */
	struct conn *prev, *next;
	struct conn *dirty_prev, *dirty_next;
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
	if (conn->plane_open)
		conn->plane->close(conn, conn->plane_state);
	conn->plane_open = false;
	if (conn->charge)
		conn->charge->connections--;
	conn->charge = NULL;
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
	log_at(level, "connection closed", CONN_WHO(conn),
		LOG_STR("error", error < 0 ? strerror(-error) : vmsig_error_name(error)),
		LOG_STR("why", why ? why : vmsig_error_text(error)));
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
	note_queue(conn);
	return watch(conn, UV_READABLE | (r == VMSIG_ERR_WOULD_BLOCK ? UV_WRITABLE : 0));
}

void conn_turn(struct conn *conn)
{
	int r = 0;

	dirty_remove(conn);
	if (conn->wants_turn && conn->state == CONN_OPEN && conn_has_room(conn)) {
		conn->wants_turn = false;
		r = conn->plane->writable(conn, conn->plane_state);
	}
	if (!r && conn->state == CONN_OPEN)
		r = flush(conn);
	if (r)
		conn_fail(conn, r);
}

/* ---- receiving ---- */

/* Every whole frame that is here. A plane may close the connection in the middle. */
static int take_frames(struct conn *conn)
{
	while (conn->state == CONN_OPEN) {
		const uint8_t *data;
		size_t len;
		int r = chan_recv(conn->chan, &data, &len);

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
	for (int i = 0; i < FILLS_PER_WAKE && conn->state == CONN_OPEN; i++) {
		int filled = chan_fill(conn->chan);
		int r;

		if (filled && filled != VMSIG_ERR_WOULD_BLOCK && filled != VMSIG_ERR_DISCONNECTED)
			return filled;
		/* What came before the end of the stream counts. */
		r = take_frames(conn);
		if (r)
			return r;
		if (filled)
			return filled == VMSIG_ERR_WOULD_BLOCK ? 0 : filled;
	}
	return 0;
}

/* ---- the handshake ---- */

/* Both, always: a stolen key used from another uid is refused, and so is the right uid
 * without a key. */
static int admit(struct conn *conn)
{
	const struct config *config = conn->net->config;
	const struct config_tenant *tenant = config_tenant_find(config, &conn->identity);

	if (!tenant || !config_tenant_has_uid(tenant, conn->cred.uid)) {
		log_warning(tenant ? "uid is not the tenant's" : "tenant is not in the policy",
			CONN_WHO(conn), LOG_STR("role", identity_role_name(conn->identity.role)),
			LOG_STR("serial", conn->identity.serial));
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

static int conn_established(struct conn *conn)
{
	int r = chan_peer_identity(conn->chan, &conn->identity);

	handshake_done(conn);
	conn->state = CONN_OPEN;
	if (!r)
		r = admit(conn);
	if (r)
		return r;
	if (over_quota(conn)) {
		log_warning("connection refused: quota", CONN_WHO(conn),
			LOG_STR("slot", "connections"),
			LOG_INT("limit", conn->tenant->tenant.quota.connections));
		return VMSIG_ERR_QUOTA;
	}
	r = conn->plane->open(conn, &conn->plane_state);
	if (r)
		return r;
	conn->plane_open = true;
	log_debug("connection opened", CONN_WHO(conn), LOG_STR("serial", conn->identity.serial));
	r = take_frames(conn);
	dirty_add(conn);
	return r;
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

void conn_accept(struct net *net, const struct plane_ops *plane, struct tls_ctx *tls, int fd)
{
	const struct chan_limits limits = {
		.frame_max = net->config->max_frame,
		.tx_max = net->config->tx_max,
		.rx_fds_max = plane->rx_fds,
	};
	struct conn *conn;

	if (net->nconns >= net->config->max_connections) {
		log_warning("connection refused: limits.connections is reached",
			LOG_STR("plane", plane->name),
			LOG_INT("limit", net->config->max_connections));
		close(fd);
		return;
	}
	conn = calloc(1, sizeof(*conn));
	if (!conn || chan_new(&conn->chan, tls, fd, &limits)) {
		log_warning("connection refused: out of memory", LOG_STR("plane", plane->name));
		close(fd);
		free(conn);
		return;
	}
	conn->net = net;
	conn->plane = plane;
	if (chan_peer_cred(conn->chan, &conn->cred) || uv_poll_init(net->loop, &conn->poll, fd)) {
		chan_free(conn->chan);
		free(conn);
		return;
	}
	conn->poll.data = conn;
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

void conn_reload(struct conn *conn, struct tls_ctx *tls)
{
	int r;

	/* The charges are new, whatever happens next. */
	conn->charge = NULL;
	if (conn->state != CONN_OPEN)
		return;
	r = chan_reverify(conn->chan, tls);
	if (r) {
		conn_fail(conn, r);
		return;
	}
	r = admit(conn);
	if (r) {
		conn_close(conn, r, "the new policy does not name this tenant with this uid");
		return;
	}
	conn->plane->policy(conn, conn->plane_state);
}
