/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define PARTING_US 5000000u /* for the manager to have what it was told last */
#define PINGS 3             /* within the time after which the manager loses patience */
#define TEXT_MAX (MANAGER_NAME_MAX + 64)

struct handed {
	int fd;            /* negative: taken */
	int lent;          /* a listening socket that was taken; negative: it is none */
	uint64_t since_ns; /* it is here, or here again; uv_hrtime() */
	char *name;
};

static struct {
	struct handed *handed;
	size_t nhanded;
	int fd; /* to the manager; negative: there is none */
	struct sockaddr_un addr;
	socklen_t addr_len;
	uv_timer_t ping;
	bool attached;
	pthread_mutex_t lock; /* of what was handed in */
} manager = {.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- what was handed in ---- */

static int take_handed(void)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	if (n < 0)
		return n;
	manager.handed = calloc((size_t)n + 1, sizeof(*manager.handed));
	if (!manager.handed)
		return -ENOMEM;
	for (int i = 0; i < n; i++)
		manager.handed[i] = (struct handed){.fd = SD_LISTEN_FDS_START + i,
			.lent = -1,
			.since_ns = uv_hrtime(),
			.name = names[i]};
	manager.nhanded = (size_t)n;
	free(names);
	return close_range((unsigned)(SD_LISTEN_FDS_START + n), ~0u, 0) < 0 ? -errno : 0;
}

static int take(struct handed *handed)
{
	int fd = handed->fd;

	handed->fd = -1;
	return fd;
}

int manager_take_socket(const char *path)
{
	int fd = -ENOENT;

	pthread_mutex_lock(&manager.lock);
	for (size_t i = 0; fd < 0 && i < manager.nhanded; i++) {
		struct handed *handed = &manager.handed[i];

		if (handed->fd >= 0 && sd_is_socket_unix(handed->fd, SOCK_STREAM, 1, path, 0) > 0)
			fd = handed->lent = take(handed);
	}
	pthread_mutex_unlock(&manager.lock);
	/* Whoever made it may have made it to wait. */
	if (fd >= 0)
		(void)fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
	return fd;
}

bool manager_lends_socket(int fd)
{
	bool lends = false;

	pthread_mutex_lock(&manager.lock);
	for (size_t i = 0; fd >= 0 && !lends && i < manager.nhanded; i++) {
		lends = manager.handed[i].lent == fd;
		if (lends)
			manager.handed[i].lent = -1;
	}
	pthread_mutex_unlock(&manager.lock);
	return lends;
}

/* ---- telling ---- */

/* Not sd_notify(3), which waits while the manager's queue is full. */
static void open_way(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len >= sizeof(manager.addr.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	manager.addr.sun_family = AF_UNIX;
	memcpy(manager.addr.sun_path, path, len);
	if (path[0] == '@')
		manager.addr.sun_path[0] = '\0';
	manager.addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	manager.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int tell(const char *text, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
			     .cmsg_level = SOL_SOCKET,
			     .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_name = &manager.addr,
		.msg_namelen = manager.addr_len};

	if (manager.fd < 0)
		return -ENOENT;
	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	return sendmsg(manager.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

void manager_tell(const char *text)
{
	(void)!tell(text, -1);
}

/* ---- what is kept ---- */

int manager_keep(const char *name, int fd)
{
	char text[TEXT_MAX];

	if (strlen(name) >= MANAGER_NAME_MAX)
		return -ENAMETOOLONG;
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
	return tell(text, fd);
}

static void remove_kept(const char *name)
{
	char text[TEXT_MAX];

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	(void)!tell(text, -1);
}

/* KIND/OWNER/REST; false: it is none of ours, a listening socket for example. */
static bool split(const char *name, char kind[static MANAGER_NAME_MAX],
	char owner[static MANAGER_NAME_MAX], char rest[static MANAGER_NAME_MAX])
{
	/* NOLINTNEXTLINE(cert-err34-c): texts, within their bounds */
	return strlen(name) < MANAGER_NAME_MAX &&
	       sscanf(name, "%255[^/]/%255[^/]/%255s", kind, owner, rest) == 3;
}

static bool is_of(const struct handed *handed, const char *kind, const char *rest)
{
	char its_kind[MANAGER_NAME_MAX], owner[MANAGER_NAME_MAX], its_rest[MANAGER_NAME_MAX];

	return handed->fd >= 0 && split(handed->name, its_kind, owner, its_rest) &&
	       strcmp(its_kind, kind) == 0 && strcmp(its_rest, rest) == 0;
}

int manager_take(const char *kind, const char *rest, char ret_name[static MANAGER_NAME_MAX])
{
	int fd = -ENOENT;

	pthread_mutex_lock(&manager.lock);
	for (size_t i = 0; fd < 0 && i < manager.nhanded; i++) {
		struct handed *handed = &manager.handed[i];

		if (!is_of(handed, kind, rest))
			continue;
		snprintf(ret_name, MANAGER_NAME_MAX, "%s", handed->name);
		fd = take(handed);
	}
	pthread_mutex_unlock(&manager.lock);
	if (fd >= 0)
		remove_kept(ret_name);
	return fd;
}

/* Its place is still there. */
void manager_return(const char *name, int fd)
{
	bool done = false;

	pthread_mutex_lock(&manager.lock);
	for (size_t i = 0; !done && i < manager.nhanded; i++) {
		struct handed *handed = &manager.handed[i];

		done = handed->fd < 0 && strcmp(handed->name, name) == 0;
		if (!done)
			continue;
		handed->fd = fd;
		handed->since_ns = uv_hrtime();
	}
	pthread_mutex_unlock(&manager.lock);
	if (!done)
		close(fd);
}

/* A connection: the manager's copy would keep it open until it comes to that. */
static void let_go(struct handed *handed)
{
	int fd = take(handed);

	remove_kept(handed->name);
	(void)shutdown(fd, SHUT_RDWR);
	close(fd);
}

void manager_drop(const char *kind, const char *owner)
{
	char prefix[MANAGER_NAME_MAX];
	int len = snprintf(prefix, sizeof(prefix), "%s/%s/", kind, owner);

	pthread_mutex_lock(&manager.lock);
	for (size_t i = 0; i < manager.nhanded; i++) {
		struct handed *handed = &manager.handed[i];

		if (handed->fd >= 0 && strncmp(handed->name, prefix, (size_t)len) == 0)
			let_go(handed);
	}
	pthread_mutex_unlock(&manager.lock);
}

void manager_sift(bool (*wanted)(void *ctx, const char *kind, const char *owner), void *ctx)
{
	pthread_mutex_lock(&manager.lock);
	for (size_t i = 0; i < manager.nhanded; i++) {
		char kind[MANAGER_NAME_MAX], owner[MANAGER_NAME_MAX], rest[MANAGER_NAME_MAX];
		struct handed *handed = &manager.handed[i];

		if (handed->fd >= 0 && split(handed->name, kind, owner, rest) &&
			!wanted(ctx, kind, owner))
			let_go(handed);
	}
	pthread_mutex_unlock(&manager.lock);
}

void manager_forget(uint64_t before_ns)
{
	char kind[MANAGER_NAME_MAX], owner[MANAGER_NAME_MAX], rest[MANAGER_NAME_MAX];

	pthread_mutex_lock(&manager.lock);
	for (size_t i = 0; i < manager.nhanded; i++) {
		struct handed *handed = &manager.handed[i];

		if (handed->fd >= 0 && handed->since_ns < before_ns &&
			split(handed->name, kind, owner, rest))
			let_go(handed);
	}
	pthread_mutex_unlock(&manager.lock);
}

/* ---- life ---- */

int manager_begin(void)
{
	int r = take_handed();

	if (!r)
		open_way();
	return r;
}

static void on_ping(uv_timer_t *timer)
{
	manager_tell("WATCHDOG=1");
}

int manager_attach(uv_loop_t *loop)
{
	uint64_t us = 0, ms;
	int r = uv_timer_init(loop, &manager.ping);

	if (r)
		return r;
	manager.attached = true;
	if (sd_watchdog_enabled(0, &us) <= 0)
		return 0;
	ms = us / 1000 / PINGS;
	return uv_timer_start(&manager.ping, on_ping, 0, ms ? ms : 1);
}

void manager_detach(void)
{
	if (manager.attached)
		uv_close((uv_handle_t *)&manager.ping, NULL);
	manager.attached = false;
}

void manager_end(void)
{
	if (manager.fd >= 0) {
		(void)!sd_notify_barrier(0, PARTING_US);
		close(manager.fd);
	}
	manager.fd = -1;
	for (size_t i = 0; i < manager.nhanded; i++) {
		if (manager.handed[i].fd >= 0)
			close(manager.handed[i].fd);
		free(manager.handed[i].name);
	}
	free(manager.handed);
	manager.handed = NULL;
	manager.nhanded = 0;
}
