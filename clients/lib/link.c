/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/link.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Work of one vmsig_process(), so that a broker that never stops cannot keep a holder's loop
 * from its other business. */
#define FRAMES_PER_TURN 64u
#define FILLS_PER_TURN 64u

static const struct chan_limits limits = {
	.frame_max = CHAN_FRAME_MAX,
	.tx_max = 4u << 20,
	.rx_fds_max = CHAN_FDS_PER_FRAME,
};

#define CONNECT_TIMEOUT_MS 10000u
#define REQUEST_TIMEOUT_MS 10000u
#define BACKOFF_MIN_MS 100u
#define BACKOFF_MAX_MS 10000u

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
	size_t i;

	for (i = 0; i + 1 < size && text[i]; i++) {
		unsigned char c = (unsigned char)text[i];

		to[i] = c < 0x20 || c == 0x7f ? '?' : text[i];
	}
	to[i] = '\0';
}

int link_fail(struct client_link *link, int code, const char *format, ...)
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

static bool is_full(const struct client_link *link)
{
	return link->ops->is_full(link->owner);
}

/* ---- identity ---- */

static int identity_path(struct client_link *link, char path[PATH_MAX], const char *file)
{
	int n = snprintf(path, PATH_MAX, "%s/%s", link->identity_dir, file);

	if (n < 0 || n >= PATH_MAX)
		return link_fail(link, VMSIG_ERR_BAD_REQUEST, "the identity's path is too long");
	return 0;
}

static int link_identity(struct client_link *link, struct tls_ctx **ret_tls)
{
	char ca[PATH_MAX], cert[PATH_MAX], key[PATH_MAX], crl[PATH_MAX];
	struct tls_files files = {.ca = ca, .cert = cert, .key = key};

	if (identity_path(link, ca, "ca.pem") || identity_path(link, cert, "cert.pem") ||
		identity_path(link, key, "key.pem") || identity_path(link, crl, "crl.pem"))
		return VMSIG_ERR_BAD_REQUEST;
	/* Only a file that is not there means that nothing is revoked. */
	if (access(crl, F_OK) == 0 || errno != ENOENT)
		files.crl = crl;
	return tls_ctx_new(
		ret_tls, TLS_CLIENT, &files, IDENTITY_BROKER, link->error, sizeof(link->error));
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

static void pause_next(struct client_link *link, int64_t now)
{

	/* A connection that lived for a while is no part of a series of failures. */
	if (link->ready_at && now - link->ready_at >= (int64_t)link->backoff_max_ms * 1000000)
		link->pause_ms = link->backoff_min_ms;
	link->ready_at = 0;
	link->retry_at = client_after(now, with_jitter(link->pause_ms));
	link->pause_ms = link->pause_ms > link->backoff_max_ms / 2 ? link->backoff_max_ms
								   : link->pause_ms * 2;
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

/* The connection is over; link->error has the sentence. Returns what vmsig_process()
 * returns. */
static int link_down(struct client_link *link, int code)
{
	bool was_up = link->phase == PHASE_READY, news;

	if (code < 0)
		code = -client_result(code);
	news = was_up || link->told != code;
	link_close(link);
	link->told = code;
	/* The owner may look at the phase. */
	link->phase = link->flags & VMSIG_OPT_NO_RECONNECT ? PHASE_FAILED : PHASE_PAUSE;
	link->failed = code;
	link->ops->down(link->owner, code, news);
	if (link->phase == PHASE_FAILED)
		return -code;
	pause_next(link, client_now());
	return 0;
}

static uint32_t or_default(uint32_t value, uint32_t standard)
{
	return value ? value : standard;
}

static int options_check(struct client_link *link, const vmsig_options *options)
{
	if (!options->identity_dir || !options->identity_dir[0])
		return link_fail(link, VMSIG_ERR_BAD_REQUEST,
			"no identity: name the directory with key.pem, cert.pem and ca.pem");
	if (options->flags & ~(uint32_t)(VMSIG_OPT_NO_RECONNECT | VMSIG_OPT_PIN_UID))
		return link_fail(
			link, VMSIG_ERR_BAD_REQUEST, "unknown option flags 0x%x", options->flags);
	if (link->backoff_max_ms < link->backoff_min_ms)
		return link_fail(link, VMSIG_ERR_BAD_REQUEST,
			"the longest pause (%u ms) is below the shortest (%u ms)",
			link->backoff_max_ms, link->backoff_min_ms);
	return 0;
}

static int options_copy(struct client_link *link, const vmsig_options *options)
{
	const char *path = options->socket_path;

	link->flags = options->flags;
	link->broker_uid = options->broker_uid;
	link->connect_timeout_ms = or_default(options->connect_timeout_ms, CONNECT_TIMEOUT_MS);
	link->request_timeout_ms = or_default(options->request_timeout_ms, REQUEST_TIMEOUT_MS);
	link->backoff_min_ms = or_default(options->backoff_min_ms, BACKOFF_MIN_MS);
	link->backoff_max_ms = or_default(options->backoff_max_ms,
		link->backoff_min_ms > BACKOFF_MAX_MS ? link->backoff_min_ms : BACKOFF_MAX_MS);
	link->pause_ms = link->backoff_min_ms;
	link->socket_path = strdup(path ? path : link->ops->default_socket);
	link->identity_dir = strdup(options->identity_dir ? options->identity_dir : "");
	return link->socket_path && link->identity_dir ? 0 : -ENOMEM;
}

int link_init(struct client_link *link, const struct link_ops *ops, void *owner,
	const vmsig_options *options)
{
	struct tls_ctx *tls = NULL;
	int r;

	*link = (struct client_link){.ops = ops, .owner = owner, .epoll = -1};
	r = options_copy(link, options);
	if (r)
		return r;
	r = options_check(link, options);
	if (r)
		return r;
	/* Only to say now what is wrong with the files; each connection reads them anew. */
	r = link_identity(link, &tls);
	tls_ctx_unref(tls);
	if (r)
		return r;
	link->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (link->epoll < 0)
		return link_fail(link, -errno, "epoll: %s", strerror(errno));
	return 0;
}

void link_deinit(struct client_link *link)
{

	if (link->chan) {
		/* Best effort: the broker also notices the end of the stream. */
		chan_shutdown(link->chan);
		if (chan_drain(link->chan))
			link->armed = 0;
	}
	link_close(link);
	if (link->epoll >= 0)
		close(link->epoll);
	free(link->socket_path);
	free(link->identity_dir);
}

/* ---- connecting ---- */

static int connect_failed(struct client_link *link, int error)
{
	switch (error) {
	case EACCES:
	case EPERM:
		return link_fail(link, VMSIG_ERR_FORBIDDEN,
			"%s: %s; this user may not use the broker's socket", link->socket_path,
			strerror(error));
	case ENOENT:
	case ECONNREFUSED:
		return link_fail(link, VMSIG_ERR_DISCONNECTED,
			"%s: %s; is vmsigd running, and is this its socket?", link->socket_path,
			strerror(error));
	case EAGAIN:
		return link_fail(link, VMSIG_ERR_BUSY,
			"%s: the broker has too many callers waiting", link->socket_path);
	default:
		return link_fail(link, VMSIG_ERR_IO, "%s: %s", link->socket_path, strerror(error));
	}
}

static int socket_connect(struct client_link *link, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, r;

	if (strlen(link->socket_path) >= sizeof(address.sun_path))
		return link_fail(link, VMSIG_ERR_BAD_REQUEST,
			"%s: longer than the %zu bytes of a "
			"socket's path",
			link->socket_path, sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, link->socket_path, strlen(link->socket_path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return link_fail(link, VMSIG_ERR_IO, "socket: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		r = connect_failed(link, errno);
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int uid_check(struct client_link *link)
{
	struct ucred cred;
	int r;

	if (!(link->flags & VMSIG_OPT_PIN_UID))
		return 0;
	r = chan_peer_cred(link->chan, &cred);
	if (r)
		return r;
	if (cred.uid != link->broker_uid)
		return link_fail(link, VMSIG_ERR_UNAUTHENTICATED,
			"%s: the broker runs as uid %u, expected was %u", link->socket_path,
			cred.uid, link->broker_uid);
	return 0;
}

/* On failure link_down() cleans up what is there. */
static int link_connect(struct client_link *link, int64_t now)
{
	struct epoll_event event = {.events = EPOLLIN};
	int fd = -1, r;

	r = link_identity(link, &link->tls);
	if (r)
		return r;
	r = socket_connect(link, &fd);
	if (r)
		return r;
	r = chan_new(&link->chan, link->tls, fd, &limits);
	if (r) {
		close(fd);
		return link_fail(link, r, "out of memory for a connection");
	}
	r = uid_check(link);
	if (r)
		return r;
	if (epoll_ctl(link->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return link_fail(link, VMSIG_ERR_IO, "epoll: %s", strerror(errno));
	link->armed = EPOLLIN;
	link->phase = PHASE_HANDSHAKE;
	link->deadline = client_after(now, link->connect_timeout_ms);
	link->last_id = 0;
	return 0;
}

/* ---- sending ---- */

static int packed_send(
	struct client_link *link, const ProtobufCMessage *message, const int *fds, size_t nfds)
{
	uint8_t stack[512], *data = stack;
	size_t len = protobuf_c_message_get_packed_size(message);
	int r;

	if (len > sizeof(stack)) {
		data = malloc(len);
		if (!data)
			return -ENOMEM;
	}
	protobuf_c_message_pack(message, data);
	r = chan_send(link->chan, data, len, fds, nfds);
	if (data != stack)
		free(data);
	return r;
}

int link_request(struct client_link *link, int body_case, void *body, const int *fds, size_t nfds,
	uint64_t *ret_id)
{
	struct envelope request;
	int r;

	envelope_init(&request, link->ops->request, link->last_id + 1, body_case, body);
	r = packed_send(link, &request.base, fds, nfds);
	if (r)
		return r;
	*ret_id = ++link->last_id;
	return 0;
}

/* ---- one turn ---- */

static int chan_failed(struct client_link *link, int r)
{
	const char *why = chan_error(link->chan);
	bool greeted = link->phase == PHASE_READY;

	if (!why[0])
		why = r < 0 ? strerror(-r) : vmsig_error_text(r);
	if (r == VMSIG_ERR_DISCONNECTED && !greeted)
		return link_fail(link, r,
			"%s before it said hello; its log says why (does its policy name this "
			"certificate with uid %u?)",
			why, geteuid());
	return link_fail(link, r, "%s", why);
}

static int turn_handshake(struct client_link *link)
{
	int r = chan_handshake(link->chan);

	if (r)
		return r == VMSIG_ERR_WOULD_BLOCK ? r : chan_failed(link, r);
	r = chan_peer_identity(link->chan, &link->broker);
	if (r == 0)
		r = link_hello_send(link);
	if (r)
		return chan_failed(link, r);
	link->phase = PHASE_HELLO;
	return 0;
}

static int turn_frame(struct client_link *link)
{
	const uint8_t *data;
	size_t len;
	int r = chan_recv(link->chan, &data, &len);

	if (r)
		return r == VMSIG_ERR_WOULD_BLOCK ? r : chan_failed(link, r);
	return link_take_frame(link, data, len);
}

static int turn_fill(struct client_link *link, bool *eof)
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
static int link_read(struct client_link *link)
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
		fills++;
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

static int link_write(struct client_link *link)
{
	int r = chan_drain(link->chan);

	/* BUSY concerns descriptors, and a holder sends none. The end of the connection is
	 * found where it is read, behind what the broker said before. */
	if (r == 0 || r == VMSIG_ERR_WOULD_BLOCK || r == VMSIG_ERR_BUSY ||
		r == VMSIG_ERR_DISCONNECTED)
		return 0;
	return chan_failed(link, r);
}

static int overdue(struct client_link *link, int64_t now)
{

	if (link->more)
		return 0;
	if (link->phase != PHASE_READY)
		return link->deadline > now ? 0
					    : link_fail(link, VMSIG_ERR_TIMEOUT,
						      "%s: the broker did not answer within %u ms; "
						      "is this its socket, and does it run?",
						      link->socket_path, link->connect_timeout_ms);
	if (link->ops->is_overdue(link->owner, now))
		return link_fail(link, VMSIG_ERR_TIMEOUT,
			"the broker did not answer a request within %u ms",
			link->request_timeout_ms);
	return 0;
}

/* A full queue stops reading; the holder's vmsig_next() makes room. */
static int link_arm(struct client_link *link)
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
		return link_fail(link, VMSIG_ERR_IO, "epoll: %s", strerror(errno));
	link->armed = want;
	return 0;
}

static int link_turn(struct client_link *link)
{
	int64_t now;
	int r, w;

	r = link_read(link);
	now = client_now();
	if (r == 0 && link->phase == PHASE_READY)
		r = link->ops->due(link->owner, now);
	/* Also after a failure: TLS may have an alert for the broker's log. */
	w = link_write(link);
	if (r)
		return r;
	if (w)
		return w;
	r = overdue(link, now);
	return r ? r : link_arm(link);
}

int link_process(struct client_link *link)
{
	int64_t now = client_now();
	int r = 0;

	if (link->phase == PHASE_FAILED)
		return -link->failed;
	if (link->phase == PHASE_PAUSE) {
		if (is_full(link) || link->retry_at > now)
			return 0;
		r = link_connect(link, now);
	}
	if (r == 0 && !(is_full(link) && !link->armed))
		r = link_turn(link);
	return r ? link_down(link, r) : 0;
}

int64_t link_deadline(const struct client_link *link)
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

int64_t link_until(int timeout_ms)
{
	return timeout_ms < 0 ? CLIENT_NEVER : client_after(client_now(), (uint32_t)timeout_ms);
}

int link_step(struct client_link *link, int64_t until)
{
	struct pollfd pfd = {.fd = link->epoll, .events = link->armed ? POLLIN : 0};
	bool is_up = link->phase == PHASE_READY;
	int64_t deadline = link_deadline(link), now = client_now();
	struct timespec wait;

	if (until <= now)
		return link_fail(link, VMSIG_ERR_TIMEOUT, "nothing came in time%s%s",
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
			return link_fail(link, VMSIG_ERR_IO, "poll: %s", strerror(errno));
	}
	return -link_process(link);
}
