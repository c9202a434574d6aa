/* SPDX-License-Identifier: Apache-2.0 */
/* The socket under a QMP connection; see link.h. */
#include "broker/adapters/qemu/link.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/net/passrights.h"
#include "broker/policy/share.h"
#include "vmsig/vmsig_error.h"

#define CHUNK (64u << 10)
#define REASON_MAX 300
#define PIECE_MESSAGES 16 /* an event takes some microseconds to parse and to act on */
#define PIECE_NS 200000u  /* and larger messages more */
/* What a piece costs that does not end for want of messages: no QEMU has so much to say for long,
 * and one that has is made to sleep rather than to fill each turn of the loop. */
#define PIECE_FEE_NS 1000000u
#define UNREAD_MS 10 /* its answer may be among the bytes that we have not read yet */

struct link_conn {
	struct link *link; /* NULL once it is over */
	uv_pipe_t pipe;
	uv_timer_t timer;
	uv_connect_t connect;
	uv_write_t write;
	char *writing; /* bytes that the kernel has not taken yet */
	unsigned handles;
	bool ready;
	bool silent; /* told so */
	bool paused; /* what was read comes first */
	struct share_task task;
	int place; /* O_PATH: the socket file */
	pid_t pid;
	struct qmp *qmp;
	struct link *owner; /* for `closing` */
	char chunk[CHUNK];
};

static void on_handle_closed(uv_handle_t *handle)
{
	struct link_conn *conn = handle->data;
	struct link *owner = conn->owner;

	if (--conn->handles)
		return;
	qmp_free(conn->qmp);
	free(conn->writing);
	if (conn->place >= 0)
		close(conn->place);
	free(conn);
	if (--owner->closing == 0 && owner->on_closed)
		owner->on_closed(owner->arg);
}

static void conn_end(struct link_conn *conn)
{
	conn->link->conn = NULL;
	conn->link->closing++;
	conn->link = NULL;
	share_task_cancel(&conn->task);
	uv_close((uv_handle_t *)&conn->pipe, on_handle_closed);
	uv_close((uv_handle_t *)&conn->timer, on_handle_closed);
}

static void conn_down(struct link_conn *conn, const char *reason)
{
	struct link *link = conn->link;
	char copy[REASON_MAX];

	snprintf(copy, sizeof(copy), "%s", reason);
	conn_end(conn);
	link->on_down(link->arg, copy);
}

static void conn_down_error(struct link_conn *conn, int r)
{
	const char *reason = qmp_reason(conn->qmp);

	conn_down(conn, *reason ? reason : strerror(r < 0 ? -r : ENOMEM));
}

static void arm_timer(struct link_conn *conn);

static bool has_unread(const struct link_conn *conn)
{
	uv_os_fd_t fd;
	char byte;

	return conn->paused || (uv_fileno((const uv_handle_t *)&conn->pipe, &fd) == 0 &&
				       recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0);
}

static void on_timer(uv_timer_t *timer)
{
	struct link_conn *conn = timer->data;
	struct link *link = conn->link;

	if (has_unread(conn)) {
		uv_timer_start(timer, on_timer, UNREAD_MS, 0);
		return;
	}
	if (!qmp_advance(conn->qmp, uv_now(timer->loop))) {
		arm_timer(conn);
		return;
	}
	conn->silent = true;
	link->on_silent(link->arg, qmp_reason(conn->qmp));
}

static void arm_timer(struct link_conn *conn)
{
	uint64_t deadline = qmp_deadline(conn->qmp);
	uint64_t now = uv_now(conn->timer.loop);

	if (deadline == UINT64_MAX)
		uv_timer_stop(&conn->timer);
	else
		uv_timer_start(&conn->timer, on_timer, deadline > now ? deadline - now : 0, 0);
}

static void flush(struct link_conn *conn);

static void on_written(uv_write_t *write, int status)
{
	struct link_conn *conn = write->data;

	free(conn->writing);
	conn->writing = NULL;
	/* An error shows up at the reading side with more to say. */
	if (conn->link && !status)
		flush(conn);
}

static void flush(struct link_conn *conn)
{
	uv_buf_t buf;
	const void *out;
	size_t len;

	arm_timer(conn);
	out = qmp_output(conn->qmp, &len);
	if (!len || conn->writing)
		return;
	conn->writing = malloc(len);
	if (!conn->writing)
		return; /* the command times out */
	memcpy(conn->writing, out, len);
	buf = uv_buf_init(conn->writing, (unsigned)len);
	conn->write.data = conn;
	if (uv_write(&conn->write, (uv_stream_t *)&conn->pipe, &buf, 1, on_written)) {
		free(conn->writing);
		conn->writing = NULL;
		return;
	}
	qmp_output_consumed(conn->qmp, len);
}

static void deliver(struct link_conn *conn, struct qmp_message *message)
{
	struct link *link = conn->link;

	if (conn->silent) {
		conn->silent = false;
		if (conn->ready)
			link->on_voice(link->arg);
	}
	if (!conn->link)
		return;
	if (message->kind == QMP_READY) {
		conn->ready = true;
		link->on_ready(link->arg, conn->pid);
	} else if (message->kind != QMP_GREETING && message->kind != QMP_STALE) {
		link->on_message(link->arg, message);
	}
}

/* The callbacks may end the connection. */
static int drain(struct link_conn *conn, unsigned *ret_messages)
{
	uint64_t until_ns = uv_hrtime() + PIECE_NS;
	struct qmp_message message;

	for (*ret_messages = 0; *ret_messages < PIECE_MESSAGES && conn->link; ++*ret_messages) {
		int r;

		if (*ret_messages && uv_hrtime() > until_ns)
			return 0;
		r = qmp_next(conn->qmp, uv_now(conn->pipe.loop), &message);
		if (r)
			return r;
		deliver(conn, &message);
		qmp_message_clear(&message);
	}
	return 0;
}

static int go_on_reading(struct link_conn *conn);

static void on_piece(struct share_task *task)
{
	struct link_conn *conn =
		(struct link_conn *)((char *)task - offsetof(struct link_conn, task));
	unsigned messages;
	int r = drain(conn, &messages);

	if (!conn->link)
		return;
	if (messages == PIECE_MESSAGES)
		share_charge(task->share, PIECE_FEE_NS);
	if (r == 0)
		share_task_ready(task);
	if (r == VMSIG_ERR_WOULD_BLOCK) {
		flush(conn);
		r = go_on_reading(conn);
	}
	if (r)
		conn_down_error(conn, r);
}

/* At most one chunk was read, and no more is. */
void link_hurry(struct link *link)
{
	struct link_conn *conn = link->conn;
	unsigned messages;
	int r = 0;

	if (!conn || !conn->paused)
		return;
	while (!r && conn->link)
		r = drain(conn, &messages);
	if (!conn->link)
		return;
	if (r != VMSIG_ERR_WOULD_BLOCK) {
		conn_down_error(conn, r);
		return;
	}
	flush(conn);
	conn->paused = false;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct link_conn *conn = handle->data;

	*buf = uv_buf_init(conn->chunk, sizeof(conn->chunk));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct link_conn *conn = stream->data;
	int r;

	if (n == 0)
		return;
	if (n < 0) {
		conn_down(conn, n == UV_EOF ? "QEMU closed its QMP socket" : uv_strerror((int)n));
		return;
	}
	r = qmp_feed(conn->qmp, buf->base, (size_t)n);
	if (r) {
		conn_down_error(conn, r);
		return;
	}
	conn->paused = true;
	uv_read_stop(stream);
	share_task_ready(&conn->task);
}

static int go_on_reading(struct link_conn *conn)
{
	conn->paused = false;
	return uv_read_start((uv_stream_t *)&conn->pipe, on_alloc, on_read);
}

static pid_t peer_pid(uv_pipe_t *pipe)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	uv_os_fd_t fd;

	if (uv_fileno((uv_handle_t *)pipe, &fd) ||
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return 0;
	return cred.pid;
}

/* EAGAIN is what unix(7) calls a full backlog: somebody has the socket, and others wait. */
static void connect_reason(const struct link *link, int r, char reason[static REASON_MAX])
{
	if (r == UV_EAGAIN)
		snprintf(reason, REASON_MAX,
			"QMP socket %s is taken, and others wait for it as well: it serves one "
			"client at a time, so give vmsigd a -qmp socket of its own",
			link->path);
	else
		snprintf(reason, REASON_MAX, "cannot connect to QMP socket %s: %s", link->path,
			uv_strerror(r));
}

static void on_connected(uv_connect_t *connect, int status)
{
	struct link_conn *conn = connect->data;
	char reason[REASON_MAX];
	int r = status;

	if (!conn->link)
		return;
	if (!r)
		r = go_on_reading(conn);
	if (r) {
		connect_reason(conn->link, r, reason);
		conn_down(conn, reason);
		return;
	}
	conn->pid = peer_pid(&conn->pipe);
	arm_timer(conn);
}

/* A QEMU that was taken over may send descriptors, which read(2) has the kernel drop on this
 * thread, and the last close of some waits for their owner. A kernel that knows the option
 * refuses them; it must be on before QEMU can accept. */
static void open_socket(uv_pipe_t *pipe)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return; /* libuv tries again, and says why not */
	(void)!passrights_set(fd, false);
	if (uv_pipe_open(pipe, fd))
		close(fd);
}

typedef int (*qmp_begin_fn)(struct qmp **ret_qmp, const struct qmp_limits *limits, uint64_t now_ms);

static int conn_new(struct link_conn **ret_conn, struct link *link, qmp_begin_fn begin)
{
	const struct qmp_limits limits = {
		.timeout_ms = link->timeout_ms, .max_message = link->max_message};
	struct link_conn *conn = calloc(1, sizeof(*conn));
	int r = conn ? begin(&conn->qmp, &limits, uv_now(link->loop)) : -ENOMEM;

	if (r) {
		free(conn);
		return r;
	}
	r = uv_pipe_init(link->loop, &conn->pipe, 0);
	if (r) {
		qmp_free(conn->qmp);
		free(conn);
		return r;
	}
	(void)uv_timer_init(link->loop, &conn->timer); /* cannot fail */
	*ret_conn = conn;
	return 0;
}

/* Takes over `place`, which may be -1. */
static int conn_begin(struct link *link, int place, qmp_begin_fn begin)
{
	struct link_conn *conn;
	int r = conn_new(&conn, link, begin);

	if (r) {
		if (place >= 0)
			close(place);
		return r;
	}
	conn->place = place;
	conn->handles = 2;
	share_task_init(&conn->task, link->share, on_piece);
	conn->link = conn->owner = link;
	conn->pipe.data = conn->timer.data = conn->connect.data = conn;
	link->conn = conn;
	return 0;
}

int link_open(struct link *link, int place)
{
	struct link_conn *conn;
	char path[64];
	int r = conn_begin(link, place, qmp_new);

	if (r)
		return r;
	conn = link->conn;
	open_socket(&conn->pipe);
	/* Whatever the name means by now, it is this socket. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", place);
	uv_pipe_connect(&conn->connect, &conn->pipe, path, on_connected);
	return 0;
}

int link_resume(struct link *link, int place, int fd)
{
	struct link_conn *conn;
	int r = conn_begin(link, place, qmp_resume);

	if (r) {
		close(fd);
		return r;
	}
	conn = link->conn;
	r = uv_pipe_open(&conn->pipe, fd);
	if (r)
		close(fd);
	else
		r = go_on_reading(conn);
	if (r) {
		conn_end(conn);
		return r;
	}
	conn->pid = peer_pid(&conn->pipe);
	flush(conn);
	return 0;
}

bool link_settle(struct link *link)
{
	struct link_conn *conn = link->conn;

	if (!link_ready(link) || conn->paused || conn->writing || !qmp_is_settled(conn->qmp))
		return false;
	uv_read_stop((uv_stream_t *)&conn->pipe);
	return true;
}

int link_attach(struct link *link, int socket)
{
	struct link_conn *conn;
	int r = conn_begin(link, -1, qmp_new);

	if (r) {
		close(socket);
		return r;
	}
	conn = link->conn;
	r = uv_pipe_open(&conn->pipe, socket);
	if (r)
		close(socket);
	else
		r = go_on_reading(conn);
	if (r)
		conn_end(conn);
	else
		arm_timer(conn);
	return r;
}

int link_place(const struct link *link)
{
	return link->conn ? link->conn->place : -1;
}

void link_close(struct link *link)
{
	if (link->conn)
		conn_end(link->conn);
}

bool link_ready(const struct link *link)
{
	return link->conn && link->conn->ready && !link->conn->silent;
}

int link_fd(const struct link *link)
{
	uv_os_fd_t fd;

	if (!link->conn || uv_fileno((const uv_handle_t *)&link->conn->pipe, &fd))
		return -1;
	return fd;
}

int link_command(struct link *link, const char *name, json_t *arguments, uint64_t *ret_id)
{
	int r;

	if (!link_ready(link)) {
		json_decref(arguments);
		return VMSIG_ERR_NOT_READY;
	}
	r = qmp_command(link->conn->qmp, name, arguments, uv_now(link->loop), ret_id);
	if (!r)
		flush(link->conn);
	return r;
}
