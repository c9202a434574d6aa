/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/client.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Work of one vmsig_process(), so that a broker that never stops cannot keep a holder's loop
 * from its other business. */
#define FRAMES_PER_TURN 64u
#define FILLS_PER_TURN 64u

static const struct chan_limits limits = {
	.frame_max = CHAN_FRAME_MAX,
	.tx_max = 256u << 10,
	.rx_fds_max = CHAN_FDS_PER_FRAME,
};

/* ---- identity ---- */

static int identity_path(vmsig *v, char path[PATH_MAX], const char *file)
{
	int n = snprintf(path, PATH_MAX, "%s/%s", v->identity_dir, file);

	if (n < 0 || n >= PATH_MAX)
		return client_fail(v, VMSIG_ERR_BAD_REQUEST, "the identity's path is too long");
	return 0;
}

int link_identity(vmsig *v, struct tls_ctx **ret_tls)
{
	char ca[PATH_MAX], cert[PATH_MAX], key[PATH_MAX], crl[PATH_MAX];
	struct tls_files files = {.ca = ca, .cert = cert, .key = key};

	if (identity_path(v, ca, "ca.pem") || identity_path(v, cert, "cert.pem") ||
		identity_path(v, key, "key.pem") || identity_path(v, crl, "crl.pem"))
		return VMSIG_ERR_BAD_REQUEST;
	/* Only a file that is not there means that nothing is revoked. */
	if (access(crl, F_OK) == 0 || errno != ENOENT)
		files.crl = crl;
	return tls_ctx_new(
		ret_tls, TLS_CLIENT, &files, IDENTITY_BROKER, v->error, sizeof(v->error));
}

/* ---- pauses ---- */

/* Half to all of the pause, so that a thousand holders do not come back in one moment. */
static uint32_t with_jitter(uint32_t ms)
{
	uint32_t random = 0;

	/* Without entropy yet, pauses without jitter are good enough. */
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		return ms;
	return ms / 2 + random % (ms - ms / 2 + 1);
}

static void pause_next(vmsig *v, int64_t now)
{
	struct client_link *link = &v->link;

	/* A connection that lived for a while is no part of a series of failures. */
	if (link->ready_at && now - link->ready_at >= (int64_t)v->backoff_max_ms * 1000000)
		link->pause_ms = v->backoff_min_ms;
	link->ready_at = 0;
	link->retry_at = client_after(now, with_jitter(link->pause_ms));
	link->pause_ms =
		link->pause_ms > v->backoff_max_ms / 2 ? v->backoff_max_ms : link->pause_ms * 2;
}

/* ---- ending ---- */

static void link_close(struct client_link *link)
{
	/* Closing the last descriptor takes the socket out of the epoll set. */
	link->chan = chan_free(link->chan);
	link->tls = tls_ctx_unref(link->tls);
	link->armed = 0;
	link->more = false;
}

/* The connection is over; v->error has the sentence. Returns what vmsig_process() returns. */
static int link_down(vmsig *v, int code)
{
	struct client_link *link = &v->link;
	bool was_ready = link->phase == PHASE_READY;
	vmsig_delivery *delivery;

	if (code < 0)
		code = -client_result(code);
	listing_fail(v, VMSIG_ERR_DISCONNECTED, v->error);
	link_close(link);
	subscription_all_reset(v);
	if (was_ready || link->told != code) {
		delivery = queue_add(&v->queue, VMSIG_EV_DISCONNECTED, "");
		delivery->error = -code;
		delivery_set_text(delivery, v->error);
	}
	link->told = code;
	if (v->flags & VMSIG_OPT_NO_RECONNECT) {
		link->phase = PHASE_FAILED;
		link->failed = code;
		return -code;
	}
	link->phase = PHASE_PAUSE;
	pause_next(v, client_now());
	return 0;
}

void link_deinit(vmsig *v)
{
	struct client_link *link = &v->link;

	if (link->chan) {
		/* Best effort: the broker also notices the end of the stream. */
		chan_shutdown(link->chan);
		if (chan_drain(link->chan))
			link->armed = 0;
	}
	link_close(link);
	if (link->epoll >= 0)
		close(link->epoll);
}

/* ---- connecting ---- */

static int connect_failed(vmsig *v, int error)
{
	switch (error) {
	case EACCES:
	case EPERM:
		return client_fail(v, VMSIG_ERR_FORBIDDEN,
			"%s: %s; this user may not use the broker's socket", v->socket_path,
			strerror(error));
	case ENOENT:
	case ECONNREFUSED:
		return client_fail(v, VMSIG_ERR_DISCONNECTED,
			"%s: %s; is vmsigd running, and is this its socket?", v->socket_path,
			strerror(error));
	case EAGAIN:
		return client_fail(v, VMSIG_ERR_BUSY, "%s: the broker has too many callers waiting",
			v->socket_path);
	default:
		return client_fail(v, VMSIG_ERR_IO, "%s: %s", v->socket_path, strerror(error));
	}
}

static int socket_connect(vmsig *v, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, r;

	if (strlen(v->socket_path) >= sizeof(address.sun_path))
		return client_fail(v, VMSIG_ERR_BAD_REQUEST,
			"%s: longer than the %zu bytes of a "
			"socket's path",
			v->socket_path, sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, v->socket_path, strlen(v->socket_path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return client_fail(v, VMSIG_ERR_IO, "socket: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		r = connect_failed(v, errno);
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int uid_check(vmsig *v)
{
	struct ucred cred;
	int r;

	if (!(v->flags & VMSIG_OPT_PIN_UID))
		return 0;
	r = chan_peer_cred(v->link.chan, &cred);
	if (r)
		return r;
	if (cred.uid != v->broker_uid)
		return client_fail(v, VMSIG_ERR_UNAUTHENTICATED,
			"%s: the broker runs as uid %u, expected was %u", v->socket_path, cred.uid,
			v->broker_uid);
	return 0;
}

/* On failure link_down() cleans up what is there. */
static int link_connect(vmsig *v, int64_t now)
{
	struct client_link *link = &v->link;
	struct epoll_event event = {.events = EPOLLIN};
	int fd = -1, r;

	r = link_identity(v, &link->tls);
	if (r)
		return r;
	r = socket_connect(v, &fd);
	if (r)
		return r;
	r = chan_new(&link->chan, link->tls, fd, &limits);
	if (r) {
		close(fd);
		return client_fail(v, r, "out of memory for a connection");
	}
	r = uid_check(v);
	if (r)
		return r;
	if (epoll_ctl(link->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return client_fail(v, VMSIG_ERR_IO, "epoll: %s", strerror(errno));
	link->armed = EPOLLIN;
	link->phase = PHASE_HANDSHAKE;
	link->deadline = client_after(now, v->connect_timeout_ms);
	link->last_id = 0;
	return 0;
}

/* ---- sending ---- */

int link_request(vmsig *v, Vmsig__CtxRequest *request, uint64_t *ret_id)
{
	uint8_t stack[512];
	uint8_t *data = stack;
	size_t len;
	int r;

	request->request_id = v->link.last_id + 1;
	len = vmsig__ctx_request__get_packed_size(request);
	if (len > sizeof(stack))
		return VMSIG_ERR_BAD_REQUEST;
	len = vmsig__ctx_request__pack(request, data);
	r = chan_send(v->link.chan, data, len, NULL, 0);
	if (r)
		return r;
	*ret_id = ++v->link.last_id;
	return 0;
}

/* ---- one turn ---- */

static int chan_failed(vmsig *v, int r)
{
	const char *why = chan_error(v->link.chan);
	bool greeted = v->link.phase == PHASE_READY;

	if (!why[0])
		why = r < 0 ? strerror(-r) : vmsig_error_text(r);
	if (r == VMSIG_ERR_DISCONNECTED && !greeted)
		return client_fail(v, r,
			"%s before it said hello; its log says why (does its policy name this "
			"certificate with uid %u?)",
			why, geteuid());
	return client_fail(v, r, "%s", why);
}

static int turn_handshake(vmsig *v)
{
	struct client_link *link = &v->link;
	int r = chan_handshake(link->chan);

	if (r)
		return r == VMSIG_ERR_WOULD_BLOCK ? r : chan_failed(v, r);
	r = chan_peer_identity(link->chan, &link->broker);
	if (r == 0)
		r = receive_hello_send(v);
	if (r)
		return chan_failed(v, r);
	link->phase = PHASE_HELLO;
	return 0;
}

static int turn_frame(vmsig *v)
{
	const uint8_t *data;
	size_t len;
	int r = chan_recv(v->link.chan, &data, &len);

	if (r)
		return r == VMSIG_ERR_WOULD_BLOCK ? r : chan_failed(v, r);
	return receive_frame(v, data, len);
}

static int turn_fill(vmsig *v, bool *eof)
{
	int r = *eof ? VMSIG_ERR_WOULD_BLOCK : chan_fill(v->link.chan);

	if (r == VMSIG_ERR_DISCONNECTED) {
		/* What came before the end is still to be read, then the channel says so. */
		*eof = true;
		return 0;
	}
	if (r && r != VMSIG_ERR_WOULD_BLOCK)
		return chan_failed(v, r);
	return r;
}

/* Takes what has come until there is no more, no room, or enough for one turn. */
static int link_read(vmsig *v)
{
	struct client_link *link = &v->link;
	unsigned frames = 0, fills = 0;
	bool eof = false;
	int r;

	link->more = true;
	while (frames < FRAMES_PER_TURN && fills < FILLS_PER_TURN && !queue_is_full(&v->queue)) {
		r = link->phase == PHASE_HANDSHAKE ? turn_handshake(v) : turn_frame(v);
		if (r == 0) {
			frames++;
			continue;
		}
		if (r != VMSIG_ERR_WOULD_BLOCK)
			return r;
		fills++;
		r = turn_fill(v, &eof);
		if (r == VMSIG_ERR_WOULD_BLOCK) {
			link->more = false;
			return 0;
		}
		if (r)
			return r;
	}
	return 0;
}

static int link_write(vmsig *v)
{
	int r = chan_drain(v->link.chan);

	/* BUSY concerns descriptors, and a holder sends none. The end of the connection is
	 * found where it is read, behind what the broker said before. */
	if (r == 0 || r == VMSIG_ERR_WOULD_BLOCK || r == VMSIG_ERR_BUSY ||
		r == VMSIG_ERR_DISCONNECTED)
		return 0;
	return chan_failed(v, r);
}

static int overdue(vmsig *v, int64_t now)
{
	struct client_link *link = &v->link;

	if (link->more)
		return 0;
	if (link->phase != PHASE_READY)
		return link->deadline > now ? 0
					    : client_fail(v, VMSIG_ERR_TIMEOUT,
						      "%s: the broker did not answer within %u ms",
						      v->socket_path, v->connect_timeout_ms);
	if ((v->listing.request_id && v->listing.until <= now) || subscription_all_overdue(v, now))
		return client_fail(v, VMSIG_ERR_TIMEOUT,
			"the broker did not answer a request within %u ms", v->request_timeout_ms);
	return 0;
}

/* A full queue stops reading; the holder's vmsig_next() makes room. */
static int link_arm(vmsig *v)
{
	struct client_link *link = &v->link;
	uint32_t want = queue_is_full(&v->queue) ? 0 : EPOLLIN;
	struct epoll_event event;
	int op;

	if (want && chan_has_output(link->chan))
		want |= EPOLLOUT;
	if (want == link->armed)
		return 0;
	event = (struct epoll_event){.events = want};
	op = !want ? EPOLL_CTL_DEL : link->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	if (epoll_ctl(link->epoll, op, chan_socket(link->chan), &event) < 0)
		return client_fail(v, VMSIG_ERR_IO, "epoll: %s", strerror(errno));
	link->armed = want;
	return 0;
}

static int link_turn(vmsig *v)
{
	int64_t now;
	int r, w;

	r = link_read(v);
	now = client_now();
	if (r == 0 && v->link.phase == PHASE_READY)
		r = subscription_all_ask(v, now);
	/* Also after a failure: TLS may have an alert for the broker's log. */
	w = link_write(v);
	if (r)
		return r;
	if (w)
		return w;
	r = overdue(v, now);
	return r ? r : link_arm(v);
}

int link_process(vmsig *v)
{
	struct client_link *link = &v->link;
	int64_t now = client_now();
	int r = 0;

	if (link->phase == PHASE_FAILED)
		return -link->failed;
	if (link->phase == PHASE_PAUSE) {
		if (queue_is_full(&v->queue) || link->retry_at > now)
			return 0;
		r = link_connect(v, now);
	}
	if (r == 0 && !(queue_is_full(&v->queue) && !link->armed))
		r = link_turn(v);
	return r ? link_down(v, r) : 0;
}

int64_t link_deadline(const vmsig *v)
{
	const struct client_link *link = &v->link;
	int64_t deadline;

	if (link->phase == PHASE_FAILED || queue_is_full(&v->queue))
		return CLIENT_NEVER;
	if (link->phase == PHASE_PAUSE)
		return link->retry_at;
	/* Room was made since reading stopped, or a turn was long enough. */
	if (link->more || !link->armed)
		return 0;
	/* A request was queued since the last turn, and nobody has tried to write it. */
	if (chan_has_output(link->chan) && !(link->armed & EPOLLOUT))
		return 0;
	if (link->phase != PHASE_READY)
		return link->deadline;
	deadline = subscription_all_deadline(v);
	if (v->listing.request_id && v->listing.until < deadline)
		deadline = v->listing.until;
	return deadline;
}
