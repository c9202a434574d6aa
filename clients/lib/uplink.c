/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/uplink.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clients/lib/dial.h"
#include "proto/utf8.h"
#include "proto/wire/feature.h"
#include "proto/wire/pack.h"
#include "proto/wire/unpack.h"
#include "proto/wire/vmsig.pb-c.h"

/* Work of one vmsig_process(), so that a broker that never stops cannot keep a holder's loop
 * from its other business. */
#define FRAMES_PER_TURN 64u
#define FILLS_PER_TURN 64u
/* Bytes of requests that are sent before all are there: the broker has work, and no larger buffer
 * is needed. */
#define RUN (64u << 10)

static const struct chan_limits limits = {
	.frame_max = CHAN_FRAME_MAX,
	.tx_max = 4u << 20,
	.rx_fds_max = CHAN_FDS_PER_FRAME,
};

#define PROTOCOL_VERSION 1u

/* The broker is believed what it says of guests, not how much of it there is: a page of 256
 * leases with 256 ranges each is the largest of its messages. */
static const struct unpack_budget budget = {.parts = 1u << 17, .bytes = 16u << 20};

int64_t client_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t client_after(int64_t now, uint32_t ms)
{
	int64_t at;

	return __builtin_add_overflow(now, (int64_t)ms * 1000000, &at) ? CLIENT_NEVER : at;
}

int client_result(int r)
{
	if (r >= 0)
		return -r;
	return r == -ENOMEM ? -VMSIG_ERR_NO_MEMORY : -VMSIG_ERR_IO;
}

void client_clean_text(char *to, size_t size, const char *text)
{
	utf8_clean(to, size, text);
}

int uplink_fail(struct uplink *link, int code, const char *format, ...)
{
	char text[sizeof(link->error)];
	va_list args;

	va_start(args, format);
	/* The old sentence may be one of the arguments. */
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	memcpy(link->error, text, sizeof(text));
	return code;
}

int uplink_refuse(const struct uplink *link, int r, char *error, size_t error_size)
{
	int result = client_result(r);

	if (error_size)
		snprintf(error, error_size, "%s",
			link && link->error[0] ? link->error : vmsig_error_text(result));
	return result;
}

int uplink_dispatch(
	const uplink_handler *handlers, size_t count, void *owner, const struct envelope *message)
{
	size_t kind = (size_t)message->body_case;

	/* A newer broker may have more to say. */
	return kind < count && handlers[kind] ? handlers[kind](owner, message) : 0;
}

static bool is_full(const struct uplink *link)
{
	return link->ops->is_full(link->owner);
}

/* ---- ending ---- */

static void pause_next(struct uplink *link, int64_t now)
{
	/* A connection that lived for a while is no part of a series of failures. */
	if (link->ready_at && now - link->ready_at >= (int64_t)link->backoff.max_ms * 1000000)
		backoff_reset(&link->backoff);
	link->ready_at = 0;
	link->retry_at = client_after(now, backoff_next(&link->backoff));
}

static void uplink_close(struct uplink *link)
{
	/* Closing the last descriptor takes the socket out of the epoll set. */
	link->chan = chan_free(link->chan);
	link->tls = tls_ctx_unref(link->tls);
	link->armed = 0;
	link->more = false;
}

/* The connection is over; link->error has the sentence. Returns what vmsig_process()
 * returns. */
static int uplink_down(struct uplink *link, int code)
{
	bool was_up = link->phase == PHASE_READY, news;

	if (code < 0)
		code = -client_result(code);
	news = was_up || link->told != code;
	uplink_close(link);
	link->told = code;
	/* The owner may look at the phase. */
	link->phase = link->settings.flags & VMSIG_OPT_NO_RECONNECT ? PHASE_FAILED : PHASE_PAUSE;
	link->failed = code;
	link->ops->down(link->owner, code, news);
	if (link->phase == PHASE_FAILED)
		return -code;
	pause_next(link, client_now());
	return 0;
}

int uplink_init(struct uplink *link, const struct uplink_ops *ops, void *owner,
	const vmsig_options *options)
{
	struct tls_ctx *tls = NULL;
	int r;

	*link = (struct uplink){.ops = ops, .owner = owner, .epoll = -1};
	r = settings_init(
		&link->settings, options, ops->default_socket, link->error, sizeof(link->error));
	if (r)
		return r;
	backoff_init(&link->backoff, link->settings.backoff_min_ms, link->settings.backoff_max_ms);
	/* Only to say now what is wrong with the files; each connection reads them anew. */
	r = settings_identity(&link->settings, &tls, link->error, sizeof(link->error));
	tls_ctx_unref(tls);
	if (r)
		return r;
	link->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (link->epoll < 0)
		return uplink_fail(link, -errno, "epoll: %s", strerror(errno));
	return 0;
}

void uplink_deinit(struct uplink *link)
{
	if (link->chan) {
		/* Best effort: the broker also notices the end of the stream. */
		chan_shutdown(link->chan);
		if (chan_drain(link->chan))
			link->armed = 0;
	}
	uplink_close(link);
	if (link->epoll >= 0)
		close(link->epoll);
	settings_deinit(&link->settings);
}

/* ---- connecting ---- */

static int uid_check(struct uplink *link)
{
	struct ucred cred;
	int r;

	if (!(link->settings.flags & VMSIG_OPT_PIN_UID))
		return 0;
	r = chan_peer_cred(link->chan, &cred);
	if (r)
		return r;
	if (cred.uid != link->settings.broker_uid)
		return uplink_fail(link, VMSIG_ERR_UNAUTHENTICATED,
			"%s: the broker runs as uid %u, expected was %u",
			link->settings.socket_path, cred.uid, link->settings.broker_uid);
	return 0;
}

/* On failure uplink_down() cleans up what is there. */
static int uplink_connect(struct uplink *link, int64_t now)
{
	struct epoll_event event = {.events = EPOLLIN};
	int fd = -1, r;

	r = settings_identity(&link->settings, &link->tls, link->error, sizeof(link->error));
	if (r)
		return r;
	r = dial_connect(link->settings.socket_path, &fd, link->error, sizeof(link->error));
	if (r)
		return r;
	r = chan_new(&link->chan, link->tls, fd, &limits);
	if (r) {
		close(fd);
		return uplink_fail(link, r, "out of memory for a connection");
	}
	r = uid_check(link);
	if (r)
		return r;
	if (epoll_ctl(link->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return uplink_fail(link, VMSIG_ERR_IO, "epoll: %s", strerror(errno));
	link->armed = EPOLLIN;
	link->phase = PHASE_HANDSHAKE;
	link->deadline = client_after(now, link->settings.connect_timeout_ms);
	link->last_id = 0;
	return 0;
}

/* ---- sending ---- */

static int packed_send(
	struct uplink *link, const ProtobufCMessage *message, const int *fds, size_t nfds)
{
	struct packed packed;
	int r = packed_init(&packed, message);

	if (r)
		return r;
	r = chan_send(link->chan, packed.data, packed.len, fds, nfds);
	packed_deinit(&packed);
	return r;
}

int uplink_request(struct uplink *link, int body_case, void *body, const int *fds, size_t nfds,
	uint64_t *ret_id)
{
	size_t before = chan_output_bytes(link->chan);
	struct envelope request;
	int r;

	envelope_init(&request, link->ops->request, link->last_id + 1, body_case, body);
	r = packed_send(link, &request.base, fds, nfds);
	if (r)
		return r;
	/* What fails now fails again when all is written. */
	if (chan_output_bytes(link->chan) / RUN > before / RUN)
		(void)!chan_drain(link->chan);
	*ret_id = ++link->last_id;
	return 0;
}

/* ---- hello ---- */

static int hello_send(struct uplink *link)
{
	Vmsig__Hello body = VMSIG__HELLO__INIT;
	char software[] = "libvmsig/" VMSIG_VERSION;
	uint64_t id;

	body.version = PROTOCOL_VERSION;
	body.features = FEATURE_RAM_FILES | FEATURE_TAKEN_UNSAID;
	body.software = software;
	return uplink_request(link, ENVELOPE_HELLO, &body, NULL, 0, &id);
}

static int on_hello(struct uplink *link, const Vmsig__Hello *hello)
{
	if (hello->version != PROTOCOL_VERSION)
		return uplink_fail(link, VMSIG_ERR_UNSUPPORTED,
			"the broker speaks version %u of the protocol, this library version %u",
			hello->version, PROTOCOL_VERSION);
	client_clean_text(link->software, sizeof(link->software), hello->software);
	link->phase = PHASE_READY;
	link->ready_at = client_now();
	link->told = 0;
	link->number++;
	link->ops->up(link->owner);
	return 0;
}

/* An error in answer to our hello, or instead of one, is the broker's refusal. */
static int on_refusal(struct uplink *link, const Vmsig__Error *error)
{
	char text[CLIENT_TEXT_MAX + 1];

	client_clean_text(text, sizeof(text), error->detail);
	return uplink_fail(link,
		error->code && error->code <= INT16_MAX ? (int)error->code : VMSIG_ERR_PROTOCOL,
		"the broker refused the connection: %s", text);
}

static int frame_dispatch(struct uplink *link, const struct envelope *message)
{
	bool is_hello = message->body_case == ENVELOPE_HELLO;

	if (link->phase == PHASE_READY)
		return is_hello ? uplink_fail(
					  link, VMSIG_ERR_PROTOCOL, "the broker says hello twice")
				: link->ops->take(link->owner, message);
	if (is_hello)
		return on_hello(link, message->body);
	if (message->body_case == ENVELOPE_ERROR)
		return on_refusal(link, message->body);
	return uplink_fail(link, VMSIG_ERR_PROTOCOL, "the broker says something before hello");
}

static int take_frame(struct uplink *link, const uint8_t *data, size_t len)
{
	ProtobufCMessage *message;
	int r = unpack_message(&message, link->ops->message, &budget, data, len);

	if (r < 0)
		return uplink_fail(link, VMSIG_ERR_NO_MEMORY,
			"out of memory for a message of %zu bytes from the broker", len);
	if (r)
		return uplink_fail(link, VMSIG_ERR_PROTOCOL,
			r == VMSIG_ERR_PROTOCOL
				? "the broker sent %zu bytes that are not a message"
				: "the broker sent a message of %zu bytes with more in it than "
				  "any that it may send",
			len);
	r = frame_dispatch(link, (const struct envelope *)(const void *)message);
	unpack_free(message);
	return r;
}

/* ---- one turn ---- */

static int chan_failed(struct uplink *link, int r)
{
	const char *why = chan_error(link->chan);
	bool greeted = link->phase == PHASE_READY;

	if (!why[0])
		why = r < 0 ? strerror(-r) : vmsig_error_text(r);
	if (r == VMSIG_ERR_DISCONNECTED && !greeted)
		return uplink_fail(link, r,
			"%s before it said hello; its log says why (does its policy name this "
			"certificate with uid %u?)",
			why, geteuid());
	return uplink_fail(link, r, "%s", why);
}

static int turn_handshake(struct uplink *link)
{
	int r = chan_handshake(link->chan);

	if (r)
		return r == VMSIG_ERR_WOULD_BLOCK ? r : chan_failed(link, r);
	r = chan_peer_identity(link->chan, &link->broker);
	if (r == 0)
		r = hello_send(link);
	if (r)
		return chan_failed(link, r);
	link->phase = PHASE_HELLO;
	return 0;
}

static int turn_frame(struct uplink *link)
{
	const uint8_t *data;
	size_t len;
	int r = chan_recv(link->chan, &data, &len);

	if (r)
		return r == VMSIG_ERR_WOULD_BLOCK ? r : chan_failed(link, r);
	return take_frame(link, data, len);
}

static int turn_fill(struct uplink *link, bool *eof)
{
	int r = *eof ? VMSIG_ERR_WOULD_BLOCK : chan_fill(link->chan);

	if (r == VMSIG_ERR_DISCONNECTED) {
		/* What came before the end is still to be read, then the channel says so. */
		*eof = true;
		return 0;
	}
	if (r && r != VMSIG_ERR_WOULD_BLOCK)
		return chan_failed(link, r);
	return r;
}

/* Takes what has come until there is no more, no room, or enough for one turn. */
static int uplink_read(struct uplink *link)
{
	unsigned frames = 0, fills = 0;
	bool eof = false;
	int r;

	link->more = true;
	while (frames < FRAMES_PER_TURN && fills < FILLS_PER_TURN && !is_full(link)) {
		r = link->phase == PHASE_HANDSHAKE ? turn_handshake(link) : turn_frame(link);
		if (r == 0) {
			frames++;
			continue;
		}
		if (r != VMSIG_ERR_WOULD_BLOCK)
			return r;
		/* Whoever polls by level is told of what is behind descriptors, if there is any. */
		if (!(fills++ && (chan_took_all(link->chan) || (link->polled && frames))))
			r = turn_fill(link, &eof);
		if (r == VMSIG_ERR_WOULD_BLOCK) {
			link->more = false;
			return 0;
		}
		if (r)
			return r;
	}
	return 0;
}

static int uplink_write(struct uplink *link)
{
	int r = chan_drain(link->chan);

	/* BUSY concerns descriptors, and a holder sends none. The end of the connection is
	 * found where it is read, behind what the broker said before. */
	if (r == 0 || r == VMSIG_ERR_WOULD_BLOCK || r == VMSIG_ERR_BUSY ||
		r == VMSIG_ERR_DISCONNECTED)
		return 0;
	return chan_failed(link, r);
}

static int overdue(struct uplink *link, int64_t now)
{
	if (link->more)
		return 0;
	if (link->phase != PHASE_READY)
		return link->deadline > now ? 0
					    : uplink_fail(link, VMSIG_ERR_TIMEOUT,
						      "%s: the broker did not answer within %u ms; "
						      "is this its socket, and does it run?",
						      link->settings.socket_path,
						      link->settings.connect_timeout_ms);
	if (link->ops->is_overdue(link->owner, now))
		return uplink_fail(link, VMSIG_ERR_TIMEOUT,
			"the broker did not answer a request within %u ms",
			link->settings.request_timeout_ms);
	return 0;
}

/* A full queue stops reading; the holder's vmsig_next() makes room. */
static int uplink_arm(struct uplink *link)
{
	uint32_t want = is_full(link) ? 0 : EPOLLIN;
	struct epoll_event event;
	int op;

	if (want && chan_has_output(link->chan))
		want |= EPOLLOUT;
	if (want == link->armed)
		return 0;
	event = (struct epoll_event){.events = want};
	op = !want ? EPOLL_CTL_DEL : link->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	if (epoll_ctl(link->epoll, op, chan_socket(link->chan), &event) < 0)
		return uplink_fail(link, VMSIG_ERR_IO, "epoll: %s", strerror(errno));
	link->armed = want;
	return 0;
}

static int uplink_turn(struct uplink *link)
{
	int64_t now;
	int r, w;

	r = uplink_read(link);
	now = client_now();
	if (r == 0 && link->phase == PHASE_READY)
		r = link->ops->due(link->owner, now);
	/* Also after a failure: TLS may have an alert for the broker's log. */
	w = uplink_write(link);
	if (r)
		return r;
	if (w)
		return w;
	r = overdue(link, now);
	return r ? r : uplink_arm(link);
}

int uplink_process(struct uplink *link)
{
	int64_t now = client_now();
	int r = 0;

	if (link->phase == PHASE_FAILED)
		return -link->failed;
	if (link->phase == PHASE_PAUSE) {
		if (is_full(link) || link->retry_at > now)
			return 0;
		r = uplink_connect(link, now);
	}
	if (r == 0 && !(is_full(link) && !link->armed))
		r = uplink_turn(link);
	return r ? uplink_down(link, r) : 0;
}

int uplink_send(struct uplink *link)
{
	int r;

	if (link->phase != PHASE_READY || link->more || is_full(link))
		return uplink_process(link);
	link->unread = true;
	r = link->ops->due(link->owner, client_now());
	if (!r)
		r = uplink_write(link);
	if (!r)
		r = uplink_arm(link);
	return r ? uplink_down(link, r) : 0;
}

int64_t uplink_deadline(const struct uplink *link)
{
	if (link->phase == PHASE_FAILED || is_full(link))
		return CLIENT_NEVER;
	if (link->phase == PHASE_PAUSE) {
		int64_t own = link->ops->deadline(link->owner);

		return own < link->retry_at ? own : link->retry_at;
	}
	/* Room was made since reading stopped, or a turn was long enough. */
	if (link->more || !link->armed)
		return 0;
	/* A request was queued since the last turn, and nobody has tried to write it. */
	if (chan_has_output(link->chan) && !(link->armed & EPOLLOUT))
		return 0;
	if (link->phase != PHASE_READY)
		return link->deadline;
	return link->ops->deadline(link->owner);
}

/* ---- waiting ---- */

int64_t uplink_until(int timeout_ms)
{
	return timeout_ms < 0 ? CLIENT_NEVER : client_after(client_now(), (uint32_t)timeout_ms);
}

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT, "poll(2) takes what is armed");

/* Polls the socket itself: that costs less than to poll the epoll set it is in. */
int uplink_step(struct uplink *link, int64_t until)
{
	struct pollfd pfd = {
		.fd = link->armed ? chan_socket(link->chan) : -1, .events = (short)link->armed};
	bool is_up = link->phase == PHASE_READY, unread = link->unread;
	int64_t deadline = uplink_deadline(link), now = client_now();
	struct timespec wait;
	int r;

	link->unread = false;
	if (until <= now && !unread)
		return uplink_fail(link, VMSIG_ERR_TIMEOUT, "nothing came in time%s%s",
			link->error[0] && !is_up ? "; not connected: " : "",
			is_up ? "" : link->error);
	if (until < deadline)
		deadline = until;
	if (deadline > now) {
		wait.tv_sec = (deadline - now) / 1000000000;
		wait.tv_nsec = (deadline - now) % 1000000000;
		/* EINTR is a wake-up like any other: the caller's loop goes on. */
		if (ppoll(&pfd, 1, deadline == CLIENT_NEVER ? NULL : &wait, NULL) < 0 &&
			errno != EINTR)
			return uplink_fail(link, VMSIG_ERR_IO, "poll: %s", strerror(errno));
	}
	link->polled = true;
	r = -uplink_process(link);
	link->polled = false;
	return r;
}
