/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "broker/log.h"
#include "broker/manager.h"
#include "broker/net/closer.h"
#include "broker/net/lobby.h"
#include "vmsig/vmsig_error.h"

#define BACKLOG 1024   /* the kernel caps it at net.core.somaxconn */
#define ACCEPT_BATCH 4 /* per wake-up: a storm of them leaves most of the time to others */
/* Then no more, however few: one that is refused takes longer than one that waits. */
#define ACCEPT_NS 15000u
#define NOBODY ((uid_t)-1)

static int spare_open(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Out of descriptors: frees one to accept the client and drop it, so that it learns of it
 * and the listening socket does not stay readable for ever. */
static void shed(struct listener *listener)
{
	int fd;

	if (listener->spare >= 0)
		close(listener->spare);
	fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		rights_close(&listener->lobby->conns->rights, fd, NOBODY);
	listener->spare = spare_open();
}

static void listener_pause(struct listener *listener)
{
	if (!listener->paused)
		uv_poll_stop(&listener->poll);
	listener->paused = true;
	pulse_hurry(listener->lobby->conns->pulse);
}

static bool is_exhaustion(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct listener *listener = poll->data;
	struct conns *conns = listener->lobby->conns;
	uint64_t until_ns = uv_hrtime() + ACCEPT_NS;

	for (int i = 0; i < ACCEPT_BATCH && (!i || uv_hrtime() < until_ns); i++) {
		int fd;

		if (closer_pending(conns->rights.closer) > CLOSER_QUEUE / 2) {
			listener_pause(listener);
			return;
		}
		fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			lobby_accept(listener->lobby, listener->plane, fd);
			continue;
		}
		if (is_exhaustion(errno)) {
			if (caller_may_log(&conns->callers, NULL, pulse_now_ns(conns->pulse)))
				log_warning("cannot accept a client and dropped it; raise "
					    "RLIMIT_NOFILE",
					LOG_STR("plane", listener->plane->name),
					LOG_STR("error", strerror(errno)));
			shed(listener);
			listener_pause(listener);
		}
		return;
	}
}

bool listener_resume(struct listener *listener)
{
	if (listener->paused && !uv_is_closing((uv_handle_t *)&listener->poll) &&
		uv_poll_start(&listener->poll, UV_READABLE, on_readable) == 0)
		listener->paused = false;
	return listener->paused;
}

/* ---- opening ---- */

static bool is_alive(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool alive;

	if (fd < 0)
		return true;
	alive = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN;
	close(fd);
	return alive;
}

/* A socket file that a killed broker has left is removed; anything else stays. */
static int clear_stale(const struct sockaddr_un *addr)
{
	struct stat st;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode) || is_alive(addr))
		return -EADDRINUSE;
	return unlink(addr->sun_path) < 0 ? -errno : 0;
}

pid_t listener_other(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct ucred cred = {.pid = 0};
	socklen_t len = sizeof(cred);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || strlen(path) >= sizeof(addr.sun_path))
		goto out;
	memcpy(addr.sun_path, path, strlen(path));
	/* Whoever listens is known once it is connected. */
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0 &&
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		cred.pid = 0;
out:
	if (fd >= 0)
		close(fd);
	return cred.pid;
}

int listener_make_folder(const char *path)
{
	char copy[PATH_MAX];
	struct stat st;
	const char *dir;

	snprintf(copy, sizeof(copy), "%s", path);
	dir = dirname(copy);
	if (stat(dir, &st) == 0)
		return 0;
	/* Clients of other uids have to get through to the socket, whatever the umask. */
	if (mkdir(dir, 0755) < 0 || chmod(dir, 0755) < 0)
		return -errno;
	return 0;
}

/* Nobody can connect to what is not listened on: the mode is set before that. */
static int bind_path(int fd, const char *path, mode_t mode)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int r;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path));
	r = listener_make_folder(path);
	if (!r)
		r = clear_stale(&addr);
	if (r)
		return r;
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	if (chmod(path, mode) == 0)
		return 0;
	r = -errno;
	unlink(path);
	return r;
}

int listener_bind(const struct config_listen *where, int *ret_fd, char *error, size_t error_size)
{
	int r, fd = manager_take_socket(where->path);

	if (fd >= 0) {
		*ret_fd = fd;
		return 0;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : bind_path(fd, where->path, where->mode);

	if (!r) {
		*ret_fd = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	snprintf(error, error_size, "cannot listen on %s: %s%s", where->path, strerror(-r),
		r == -EADDRINUSE ? "; another broker or plane answers there, or it is no socket"
		: r == -EACCES ? "; a socket in a folder that had none comes with the next start, "
				 "since the running broker is fenced in"
			       : "");
	return r;
}

static void listener_free(struct listener *listener)
{
	/* Who has not been accepted yet may have sent descriptors. */
	if (listener->fd >= 0)
		rights_close(&listener->lobby->conns->rights, listener->fd, NOBODY);
	if (listener->spare >= 0)
		close(listener->spare);
	free(listener->path);
	free(listener);
}

/* Descriptors are refused before anybody can connect. */
static int listen_on(struct listener *listener, int fd)
{
	int r;

	rights_listen(&listener->lobby->conns->rights, fd);
	r = listen(fd, BACKLOG) < 0
		    ? -errno
		    : uv_poll_init(listener->lobby->conns->pulse->loop, &listener->poll, fd);
	if (!r)
		listener->fd = fd;
	return r;
}

int listener_open(struct listener **ret_listener, struct lobby *lobby,
	const struct config_listen *where, const struct plane_ops *plane, int fd)
{
	struct pulse *pulse = lobby->conns->pulse;
	struct listener *listener = calloc(1, sizeof(*listener));
	int r;

	if (!listener)
		return -ENOMEM;
	listener->lobby = lobby;
	listener->plane = plane;
	listener->path = strdup(where->path);
	listener->mode = where->mode;
	listener->fd = -1;
	listener->spare = spare_open();
	r = listener->path ? listen_on(listener, fd) : -ENOMEM;
	if (r) {
		listener_free(listener);
		return r;
	}
	pulse_opened(pulse);
	listener->poll.data = listener;
	listener->paused = true;
	if (listener_resume(listener))
		pulse_hurry(pulse);
	*ret_listener = listener;
	return 0;
}

void listener_set_mode(struct listener *listener, mode_t mode)
{
	if (mode == listener->mode)
		return;
	if (chmod(listener->path, mode) < 0)
		log_error("cannot change the mode of a socket; its clients may be other ones than "
			  "the configuration says",
			LOG_STR("path", listener->path), LOG_STR("error", strerror(errno)));
	else
		listener->mode = mode;
}

static void on_closed(uv_handle_t *handle)
{
	struct listener *listener = handle->data;
	struct pulse *pulse = listener->lobby->conns->pulse;

	listener_free(listener);
	pulse_closed(pulse);
}

void listener_close(struct listener *listener)
{
	/* The service manager's is there for the next broker. */
	if (!manager_lends_socket(listener->fd))
		unlink(listener->path);
	uv_close((uv_handle_t *)&listener->poll, on_closed);
}
