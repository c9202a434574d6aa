/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/gdb_link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clients/ctl/ctl.h"

#define WAITING 8 /* gdbs, while one is served */

static volatile sig_atomic_t ended;

static void on_end(int signum)
{
	(void)signum;
	ended = 1;
}

/* Whether the descriptor is ready before we are told to end: signals come while it waits, and only
 * then. */
static bool is_ready(const struct ctl_gdb_link *link, int fd, short events)
{
	struct pollfd pfd = {.fd = fd, .events = events};
	int n = 0;

	while (!ended && n <= 0)
		n = ppoll(&pfd, 1, NULL, &link->before);
	return !ended;
}

/* ---- the socket ---- */

static void catch_signals(struct ctl_gdb_link *link)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	const struct sigaction action = {.sa_handler = on_end};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		sigaction(signals[i], &action, NULL);
		sigaddset(&set, signals[i]);
	}
	sigprocmask(SIG_BLOCK, &set, &link->before);
}

/* Its mode is there before its name is: nobody else ever gets in. */
static int listen_on(int fd, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path))
		return ctl_fail(VMSIG_ERR_IO, "the name of a socket has at most %zu bytes: %s",
			sizeof(address.sun_path) - 1, path);
	memcpy(address.sun_path, path, strlen(path));
	if (fchmod(fd, S_IRUSR | S_IWUSR) == 0 &&
		bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
		if (listen(fd, WAITING) == 0)
			return EXIT_OK;
		unlink(path);
	}
	return ctl_fail(VMSIG_ERR_IO, "cannot listen on %s: %s", path,
		errno == EADDRINUSE ? "it is there already; name a new file, or remove it when "
				      "nobody listens there any more"
				    : strerror(errno));
}

int ctl_gdb_link_open(struct ctl_gdb_link *link, const char *path)
{
	int code;

	*link = (struct ctl_gdb_link){.path = path, .listening = -1, .fd = -1};
	if (!path)
		return EXIT_OK;
	link->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (link->listening < 0)
		return ctl_fail(VMSIG_ERR_IO, "cannot make a socket: %s", strerror(errno));
	code = listen_on(link->listening, path);
	if (code)
		close(link->listening);
	else
		catch_signals(link);
	return code;
}

static bool is_owner(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	if (cred.uid != geteuid())
		ctl_note("user %u may not look at the guest as user %u: sent away", cred.uid,
			geteuid());
	return cred.uid == geteuid();
}

bool ctl_gdb_link_next(struct ctl_gdb_link *link)
{
	while (is_ready(link, link->listening, POLLIN)) {
		link->fd = accept4(link->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (link->fd >= 0 && is_owner(link->fd))
			return true;
		ctl_gdb_link_drop(link);
	}
	return false;
}

void ctl_gdb_link_drop(struct ctl_gdb_link *link)
{
	if (link->fd >= 0)
		close(link->fd);
	link->fd = -1;
}

void ctl_gdb_link_close(struct ctl_gdb_link *link)
{
	ctl_gdb_link_drop(link);
	if (link->listening < 0)
		return;
	close(link->listening);
	unlink(link->path);
	sigprocmask(SIG_SETMASK, &link->before, NULL);
}

/* ---- bytes ---- */

static bool is_passing(int error)
{
	return error == EINTR || error == EAGAIN;
}

int ctl_gdb_link_take(
	const struct ctl_gdb_link *link, unsigned char *buf, size_t size, size_t *ret_len)
{
	int fd = link->path ? link->fd : STDIN_FILENO;
	ssize_t n;

	*ret_len = 0;
	do {
		if (link->path && !is_ready(link, fd, POLLIN))
			return EXIT_OK;
		n = read(fd, buf, size);
	} while (n < 0 && is_passing(errno));
	if (n >= 0)
		*ret_len = (size_t)n;
	else if (!link->path || errno != ECONNRESET)
		return ctl_fail(VMSIG_ERR_IO, "cannot read what gdb says: %s", strerror(errno));
	return EXIT_OK;
}

int ctl_gdb_link_put(const struct ctl_gdb_link *link, const char *bytes, size_t len)
{
	if (!link->path) {
		fwrite(bytes, 1, len, stdout);
		return ctl_flush();
	}
	while (len && is_ready(link, link->fd, POLLOUT)) {
		ssize_t n = send(link->fd, bytes, len, MSG_NOSIGNAL);

		if (n < 0 && is_passing(errno))
			continue;
		if (n < 0)
			return EXIT_OK; /* what it says next is that it has gone */
		bytes += n;
		len -= (size_t)n;
	}
	return EXIT_OK;
}
