/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/porter_door.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/net/closer.h"
#include "broker/sandbox/sandbox.h"
#include "proto/standard.h"
#include "vmsig/vmsig_error.h"

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(PORTER_FDS_ROOM * sizeof(int))];
};

int porter_send(int fd, const void *data, size_t len, const int *fds, size_t nfds, int flags)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union control control = {0};
	ssize_t n;

	if (nfds) {
		struct cmsghdr *c = &control.align;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	do {
		n = sendmsg(fd, &msg, flags | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

ssize_t porter_receive(int fd, void *data, size_t size, int *fds, size_t *ret_nfds, bool *ret_cut)
{
	struct iovec iov = {.iov_base = data, .iov_len = size};
	union control control;
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	size_t nfds = 0;
	ssize_t n;

	do {
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		if (count > PORTER_FDS_ROOM - nfds)
			count = PORTER_FDS_ROOM - nfds;
		memcpy(fds + nfds, CMSG_DATA(c), count * sizeof(int));
		nfds += count;
	}
	*ret_nfds = nfds;
	*ret_cut = msg.msg_flags & MSG_CTRUNC;
	return n;
}

/* ---- the process ---- */

static int way; /* to the broker; of the only door that a process has */

static void on_stuck(void *ctx, uid_t uid, unsigned count)
{
	const struct porter_answer answer = {.kind = PORTER_STUCK, .uid = uid, .count = count};

	(void)!porter_send(way, &answer, offsetof(struct porter_answer, data), NULL, 0, 0);
}

/* Neither a socket nor a file of any file system has seals. */
static unsigned count_foreign(const int *fds, size_t nfds)
{
	unsigned foreign = 0;

	for (size_t i = 0; i < nfds; i++)
		foreign += fcntl(fds[i], F_GET_SEALS) < 0;
	return nfds > PORTER_FDS_MAX ? (unsigned)nfds : foreign;
}

static int receive_result(ssize_t n, bool cut)
{
	if (n > 0)
		return cut ? -EMFILE : 0;
	if (n == 0 || n == -ECONNRESET || n == -EPIPE)
		return VMSIG_ERR_DISCONNECTED;
	return n == -EAGAIN ? VMSIG_ERR_WOULD_BLOCK : (int)n;
}

/* What can be stuck for ever has threads of its own: everybody's sockets and memfds do not wait
 * behind it. */
struct closers {
	struct closer *usual, *foreign;
};

static void answer_nothing(struct porter_answer *answer, int result)
{
	answer->result = result;
	answer->len = 0;
	(void)!porter_send(way, answer, offsetof(struct porter_answer, data), NULL, 0, 0);
}

/* No descriptor was free for the client's socket. */
static void turn_down(const struct porter_order *order)
{
	struct porter_answer answer = {.kind = PORTER_RECEIVED, .id = order->id, .uid = order->uid};

	answer_nothing(&answer, -EMFILE);
}

/* Nothing is closed here: a client's socket may have more in it. */
static void serve(const struct closers *closers, const struct porter_order *order, int client)
{
	static struct porter_answer answer;
	int fds[PORTER_FDS_ROOM];
	size_t nfds = 0;
	bool cut = false;
	ssize_t n = porter_receive(client, answer.data, sizeof(answer.data), fds, &nfds, &cut);
	int r;

	answer.kind = PORTER_RECEIVED;
	answer.id = order->id;
	answer.uid = order->uid;
	answer.result = receive_result(n, cut);
	answer.len = n > 0 ? (uint32_t)n : 0;
	answer.count = count_foreign(fds, nfds);
	r = answer.result
		    ? answer.result
		    : porter_send(way, &answer, offsetof(struct porter_answer, data) + answer.len,
			      fds, answer.count ? 0 : nfds, 0);
	if (r)
		answer_nothing(&answer, r);
	for (size_t i = 0; i < nfds; i++)
		closer_give(answer.count ? closers->foreign : closers->usual, fds[i], order->uid);
	closer_give(closers->usual, client, order->uid);
}

/* What ends the broker's process group is for the broker, which ends this. */
static void ignore_signals(void)
{
	static const int signums[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

	for (size_t i = 0; i < sizeof(signums) / sizeof(signums[0]); i++)
		signal(signums[i], SIG_IGN);
}

/* Not even the log: who waits for its end waits for the broker, not for this. */
static void close_others(int fd)
{
	close_range(0, (unsigned)fd - 1, 0);
	close_range((unsigned)fd + 1, ~0u, 0);
	if (standard_secure())
		_exit(1);
}

void porter_door(int fd)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};
	struct closers closers;

	prctl(PR_SET_DUMPABLE, 0);
	ignore_signals();
	close_others(fd);
	prctl(PR_SET_NAME, "vmsig-porter");
	way = fd;
	if (sandbox_shut(SANDBOX_PORTER))
		_exit(1);
	if (closer_new(&closers.usual, NULL, NULL) || closer_new(&closers.foreign, on_stuck, NULL))
		_exit(1);
	for (;;) {
		struct porter_order order;
		int fds[PORTER_FDS_ROOM];
		size_t nfds = 0;
		bool cut = false;
		ssize_t n = porter_receive(fd, &order, sizeof(order), fds, &nfds, &cut);

		if (n == -EAGAIN)
			poll(&poller, 1, -1);
		else if (n == sizeof(order) && nfds == 1)
			serve(&closers, &order, fds[0]);
		else if (n == sizeof(order))
			turn_down(&order);
		else if (n <= 0)
			_exit(0);
	}
}
