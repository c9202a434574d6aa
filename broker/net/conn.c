/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection: what comes and goes over the channel; closing; and what it has queued, which is
 * charged to its tenant and to all.
 */
#include "broker/net/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <protobuf-c/protobuf-c.h>

#include "broker/error_text.h"
#include "broker/log.h"
#include "broker/net/state.h"
#include "proto/wire/pack.h"
#include "vmsig/vmsig_error.h"

/* Requests and records of larger ones, or ns if they are dear, before others have a turn. */
#define FRAMES_PER_PIECE 16
#define PIECE_NS 15000u
#define BUSY_RETRY_MS 20   /* after ETOOMANYREFS */
#define HEARD_AGAIN_MAX 8u /* reports of a readable socket that waits for its share's turn */

/* Of the connection's own account. */
enum { ANSWERS };

static const struct account_kind kind = {.owner = "connection",
	.slots = {[ANSWERS] = {"answers that were not read", "quota.pending",
			  "read them before asking again"}}};

/* ---- paying ---- */

void conn_begin_account(struct conn *conn)
{
	account_init(&conn->answers, &kind, "");
	charge_force(&conn->unread_answers, &conn->answers, ANSWERS, 0);
	charge_force(&conn->unread, &conn->conns->account, CONNS_UNREAD, 0);
}

void conn_pay(struct conn *conn, struct patron *patron)
{
	charge_force(&conn->of_tenant, &patron->account, PATRON_CONNECTIONS, 1);
	charge_force(&conn->unread_of_tenant, &patron->account, PATRON_UNREAD, conn->unread.amount);
}

void conn_unpay(struct conn *conn)
{
	charge_refund(&conn->of_tenant);
	charge_refund(&conn->unread_of_tenant);
}

/* What the connection has queued may have changed. */
static void note_unread(struct conn *conn)
{
	size_t unread = chan_output_bytes(conn->chan);

	charge_resize(&conn->unread, unread);
	charge_resize(&conn->unread_of_tenant, unread);
	conn->conns->is_overfull |=
		account_is_over(conn->unread.account, CONNS_UNREAD) ||
		(conn->unread_of_tenant.account &&
			account_is_over(conn->unread_of_tenant.account, PATRON_UNREAD));
}

/* ---- closing ---- */

static void dirty_remove(struct conn *conn)
{
	if (conn->is_dirty)
		DL_DELETE2(conn->conns->dirty, conn, dirty_prev, dirty_next);
	conn->is_dirty = false;
}

void conn_dirty(struct conn *conn)
{
	if (conn->is_dirty || !conn->phase)
		return;
	DL_APPEND2(conn->conns->dirty, conn, dirty_prev, dirty_next);
	conn->is_dirty = true;
}

/* Nobody else touches the channel while the crew has it. */
static void conn_ready(struct conn *conn)
{
	if (conn->phase && !conn->working)
		share_task_ready(&conn->task);
}

void conn_want_read(struct conn *conn)
{
	conn->wants_read = true;
	conn_ready(conn);
}

static void on_closed(uv_handle_t *handle)
{
	struct conn *conn = handle->data;
	struct conns *conns = conn->conns;

	chan_free(conn->chan);
	charge_refund(&conn->entry.of_all);
	DL_DELETE(conns->list, conn);
	free(conn);
	pulse_closed(conns->pulse);
}

/* Everything but the channel, which the crew may still have, and the descriptor. */
static void conn_leave(struct conn *conn)
{
	const struct conn_phase *phase = conn->phase;

	/* Nothing is sent any more, whatever the plane says to its end. */
	conn->phase = NULL;
	right_end(&conn->right);
	dirty_remove(conn);
	share_task_cancel(&conn->task);
	conn->share = share_unref(conn->share);
	phase->leave(conn);
	conn_unpay(conn);
	charge_refund(&conn->unread);
	charge_refund(&conn->unread_answers);
	account_deinit(&conn->answers);
	charge_refund(&conn->entry.unproven);
	charge_refund(&conn->entry.of_uid);
	conn->caller = NULL;
}

static void conn_finish(struct conn *conn)
{
	/* What can be said without waiting is said; the peer may be gone. */
	if (chan_established(conn->chan))
		chan_shutdown(conn->chan);
	(void)!chan_drain(conn->chan);
	uv_close((uv_handle_t *)&conn->poll, on_closed);
}

void conn_worked(struct conn *conn)
{
	conn->working = false;
	if (conn->phase)
		share_task_ready(&conn->task);
	else
		conn_finish(conn);
}

static bool is_open(const struct conn *conn);

void conn_close(struct conn *conn, int error, const char *why)
{
	enum log_level level = error == VMSIG_ERR_DISCONNECTED || error == VMSIG_ERR_SHUTTING_DOWN
				       ? LOG_LEVEL_DEBUG
				       : LOG_LEVEL_WARNING;

	if (!conn->phase)
		return;
	if (error != VMSIG_ERR_DISCONNECTED)
		metrics_errors_note(&conn->conns->counts.closed, error);
	if (level == LOG_LEVEL_DEBUG || conn_may_log(conn))
		log_at(level, "connection closed", CONN_WHO(conn),
			LOG_STR("error", error_name(error)),
			LOG_STR("why", why ? why : vmsig_error_text(error)));
	if (is_open(conn) && error != VMSIG_ERR_DISCONNECTED)
		conn->plane->farewell(conn, error, why);
	conn->ended_by = error;
	conn_leave(conn);
	if (!conn->working)
		conn_finish(conn);
}

void conn_fail(struct conn *conn, int error)
{
	const char *why = chan_error(conn->chan);

	conn_close(conn, error, why[0] ? why : NULL);
}

/* ---- sending ---- */

void conn_wake(struct conn *conn, uint64_t delay_ms)
{
	if (delay_ms) {
		conn->wake_at_ms = pulse_now_ms(conn->conns->pulse) + delay_ms;
		pulse_hurry(conn->conns->pulse);
		return;
	}
	conn->wants_turn = true;
	conn_ready(conn);
}

int conn_send(struct conn *conn, const void *message, const int *fds, size_t nfds)
{
	struct packed packed;
	int r;

	if (!is_open(conn))
		return VMSIG_ERR_DISCONNECTED;
	r = packed_init(&packed, message);
	if (r)
		return r;
	r = chan_send(conn->chan, packed.data, packed.len, fds, nfds);
	if (!r) {
		charge_resize(&conn->unread_answers, conn->unread_answers.amount + 1);
		conn->conns->counts.sent_bytes[conn->plane->door] += packed.len;
	}
	note_unread(conn);
	if (r == VMSIG_ERR_QUOTA && conn_may_log(conn))
		log_warning("client does not read", CONN_WHO(conn),
			LOG_STR("slot", "limits.send_queue"),
			LOG_INT("queued_bytes", chan_output_bytes(conn->chan)),
			LOG_INT("message_bytes", packed.len),
			LOG_INT("limit", conn->conns->config->tx_max));
	packed_deinit(&packed);
	conn_dirty(conn);
	return r;
}

bool conn_is_read(const struct conn *conn)
{
	return chan_is_read(conn->chan);
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* Each change costs two system calls in libuv's epoll: only when it is one. */
int conn_watch(struct conn *conn, int mask)
{
	int r;

	if (mask == conn->mask)
		return 0;
	r = mask ? uv_poll_start(&conn->poll, mask, on_poll) : uv_poll_stop(&conn->poll);
	if (!r)
		conn->mask = mask;
	return r;
}

static bool turn_is_due(const struct conn *conn)
{
	return conn->wants_turn && is_open(conn) && conn_has_room(conn);
}

static void note_queue(struct conn *conn)
{
	if (!conn_has_room(conn)) {
		if (!conn->soft_since_ms)
			conn->soft_since_ms = pulse_now_ms(conn->conns->pulse);
		pulse_hurry(conn->conns->pulse);
		return;
	}
	conn->soft_since_ms = 0;
	if (conn->is_choked)
		conn_want_read(conn);
	conn->is_choked = false;
	if (turn_is_due(conn))
		conn_ready(conn);
}

/* Who does not read is not read from. What waits for its share's turn need not be reported
 * again, but to say so costs more than to hear it once. */
static int readable_mask(const struct conn *conn)
{
	if (conn->is_choked || right_fetching(&conn->right))
		return 0;
	return conn->wants_read ? conn->mask & UV_READABLE : UV_READABLE;
}

int conn_flush(struct conn *conn)
{
	int r = chan_drain(conn->chan);

	note_unread(conn);
	if (r == VMSIG_ERR_BUSY) {
		/* Too many descriptors in flight on the host; nobody's fault who is here. The
		 * socket may well be writable: that would wake us for nothing, at once. */
		conn_wake(conn, BUSY_RETRY_MS);
		return conn_watch(conn, readable_mask(conn));
	}
	if (r && r != VMSIG_ERR_WOULD_BLOCK)
		return r;
	if (!r)
		charge_resize(&conn->unread_answers, 0);
	note_queue(conn);
	return conn_watch(
		conn, readable_mask(conn) | (r == VMSIG_ERR_WOULD_BLOCK ? UV_WRITABLE : 0));
}

int conn_may_answer(struct conn *conn, struct account_refusal *ret_refusal)
{
	const struct account_actor actor = conn_actor(conn);

	account_set_limit(&conn->answers, ANSWERS, conn->tenant->tenant.quota.pending);
	if (!account_has_room(&conn->answers, ANSWERS, 1)) {
		/* A pipeline is no sin while the client reads. What fails fails again later. */
		(void)!conn_flush(conn);
	}
	if (account_has_room(&conn->answers, ANSWERS, 1))
		return 0;
	*ret_refusal = account_refuse(&conn->answers, ANSWERS, 1, &actor);
	return VMSIG_ERR_QUOTA;
}

/* A revoked certificate serves nobody, but thousands of them are not verified in one turn of
 * the loop: each when its connection's turn has come. */
int conn_reverify(struct conn *conn)
{
	if (!conn->stale)
		return 0;
	conn->stale = false;
	return chan_reverify(conn->chan, tls_set_find(&conn->conns->tls, conn->plane));
}

void conn_send_queued(struct conn *conn)
{
	struct share_scope scope;
	int r;

	dirty_remove(conn);
	share_enter(&scope, conn->conns->shares, conn->share);
	r = conn_reverify(conn);
	if (!r)
		r = conn_flush(conn);
	if (r)
		conn_fail(conn, r);
	(void)share_leave(&scope);
}

/* ---- receiving ---- */

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
				  "and "
				  "nothing else"
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

/* What is here, up to a piece's worth: a large frame takes several. A plane may close the
 * connection in the middle. */
static int take_frames(struct conn *conn)
{
	uint64_t until_ns = uv_hrtime() + PIECE_NS;

	for (int i = 0; is_open(conn); i++) {
		const uint8_t *data;
		size_t len;
		int r;

		if (i == FRAMES_PER_PIECE || (i && uv_hrtime() > until_ns) ||
			!conn_has_room(conn)) {
			conn->has_frames = true;
			conn_want_read(conn);
			return 0;
		}
		r = chan_recv_piece(conn->chan, &data, &len);
		if (r == VMSIG_ERR_BUSY)
			continue;
		if (r)
			return r == VMSIG_ERR_WOULD_BLOCK ? 0 : r;
		conn->conns->counts.frames[conn->plane->door]++;
		r = conn->plane->frame(conn, conn->plane_state, data, len);
		if (r)
			return r;
	}
	return 0;
}

static int receive(struct conn *conn)
{
	int r = conn_has_room(conn) ? 0 : conn_flush(conn), filled;

	conn->wants_read = false;
	conn->heard_again = 0;
	if (r)
		return r;
	if (!conn_has_room(conn)) {
		conn->is_choked = true;
		return 0;
	}
	/* What is here comes first: a read costs as much as some requests. */
	filled = right_fetching(&conn->right) || conn->has_frames ? VMSIG_ERR_WOULD_BLOCK
								  : chan_fill(conn->chan);
	conn->has_frames = false;
	if (filled && filled != VMSIG_ERR_WOULD_BLOCK && filled != VMSIG_ERR_BUSY &&
		filled != VMSIG_ERR_DISCONNECTED)
		return filled;
	/* What came before the end of the stream, or before descriptors, counts. */
	r = take_frames(conn);
	if (r || conn->wants_read || !is_open(conn))
		return r;
	if (filled == VMSIG_ERR_BUSY)
		return conn_fetch_rights(conn);
	return filled == VMSIG_ERR_DISCONNECTED ? filled : 0;
}

/* ---- a piece of work ---- */

static int work(struct conn *conn)
{
	int r = conn_reverify(conn);

	if (!r && turn_is_due(conn)) {
		conn->wants_turn = false;
		if (conn->plane->writable)
			r = conn->plane->writable(conn, conn->plane_state);
	}
	if (!r && is_open(conn) && conn->wants_read)
		r = receive(conn);
	conn_dirty(conn);
	return r;
}

/* What the plane has of it. */
static void leave_plane(struct conn *conn)
{
	if (conn->plane_open)
		conn->plane->close(conn, conn->plane_state);
	conn->plane_open = false;
}

static const struct conn_phase open_phase = {.run = work, .leave = leave_plane};

static bool is_open(const struct conn *conn)
{
	return conn->phase == &open_phase;
}

void conn_open(struct conn *conn)
{
	conn->phase->leave(conn);
	conn->phase = &open_phase;
}

void conn_run(struct share_task *task)
{
	struct conn *conn = (struct conn *)((char *)task - offsetof(struct conn, task));
	int r = conn->phase->run(conn);

	if (r)
		conn_fail(conn, r);
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
	if (status < 0 || (events & UV_READABLE)) {
		/* It has been waiting since it was heard before. Turns are short, and to stop
		 * listening costs more than to hear it some more times. */
		if (conn->wants_read && ++conn->heard_again == HEARD_AGAIN_MAX)
			r = conn_watch(conn, conn->mask & ~UV_READABLE);
		conn_want_read(conn);
	}
	if (events & UV_WRITABLE)
		conn_dirty(conn);
	if (r)
		conn_fail(conn, r);
}

/* ---- time ---- */

bool conn_tick(struct conn *conn, uint64_t now_ms)
{
	const struct config *config = conn->conns->config;

	if (conn->handshake.by_ms && now_ms >= conn->handshake.by_ms) {
		conn_close(conn, VMSIG_ERR_TIMEOUT, "the handshake took too long");
	} else if (conn->soft_since_ms && now_ms - conn->soft_since_ms >= config->soft_ms) {
		if (conn_may_log(conn))
			log_warning("client does not read", CONN_WHO(conn),
				LOG_INT("queued_bytes", chan_output_bytes(conn->chan)),
				LOG_INT("limit", config->tx_soft));
		conn_close(conn, VMSIG_ERR_QUOTA, "the send queue was full for too long");
	} else if (conn->wake_at_ms && now_ms >= conn->wake_at_ms) {
		conn->wake_at_ms = 0;
		conn_wake(conn, 0);
	}
	return conn->phase && (conn->handshake.by_ms || conn->soft_since_ms || conn->wake_at_ms);
}
