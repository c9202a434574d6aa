/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/wire.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(WIRE_FDS_ROOM * sizeof(int))];
};

void wire_init(struct wire *wire, int fd, size_t rx_fds_max)
{
	*wire = (struct wire){.fd = fd, .rx_fds_max = rx_fds_max};
}

static void wire_dispose(struct wire *wire, int fd)
{
	if (wire->disposal.close)
		wire->disposal.close(wire->disposal.ctx, fd);
	else
		close(fd);
}

void wire_drop_received(struct wire *wire)
{
	while (wire->rx_fds.len) {
		int fd;

		fdqueue_pop(&wire->rx_fds, &fd, 1);
		wire_dispose(wire, fd);
	}
}

void wire_deinit(struct wire *wire)
{
	wire_drop_received(wire);
	fdqueue_deinit(&wire->tx_fds);
	buffer_deinit(&wire->buffers.rx);
	buffer_deinit(&wire->buffers.tx);
	if (wire->fd >= 0)
		wire_dispose(wire, wire->fd);
	wire->fd = -1;
}

uint64_t wire_tx_end(const struct wire *wire)
{
	return wire->tx_sent + wire->buffers.tx.len;
}

static int wire_protocol_error(struct wire *wire, const char *error)
{
	wire_drop_received(wire);
	wire->error = error;
	return VMSIG_ERR_PROTOCOL;
}

/* Collects the descriptors of one received message. The kernel has installed every one that
 * the control buffer names, so each must end in the queue or be closed. */
static int wire_take_control(struct wire *wire, struct msghdr *msg)
{
	size_t total = 0;
	int r = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		int fds[WIRE_FDS_ROOM];
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		if (n > WIRE_FDS_ROOM)
			n = WIRE_FDS_ROOM;
		total += n;
		memcpy(fds, CMSG_DATA(c), n * sizeof(int));
		if (r == 0)
			r = fdqueue_push(&wire->rx_fds, 0, fds, n);
		for (size_t i = 0; r && i < n; i++)
			wire_dispose(wire, fds[i]);
	}
	if (msg->msg_flags & MSG_CTRUNC)
		return wire_protocol_error(
			wire, "the peer sent descriptors, and none was free here (RLIMIT_NOFILE)");
	if (total && !wire->rx_fds_max)
		return wire_protocol_error(wire, "the peer sent descriptors, which it may not");
	if (total > wire->rx_fds_max)
		return wire_protocol_error(
			wire, "the peer sent more descriptors than fit one message");
	return r;
}

static int wire_recv_error(struct wire *wire, int error)
{
	switch (error) {
	case EAGAIN:
		return VMSIG_ERR_WOULD_BLOCK;
	case ECONNRESET:
	case EPIPE:
		wire->eof = true;
		wire->error = "the peer closed the connection with our data unread";
		return VMSIG_ERR_DISCONNECTED;
	default:
		return -error;
	}
}

static ssize_t receive(int fd, struct msghdr *msg, int flags)
{
	ssize_t n;

	do {
		n = recvmsg(fd, msg, flags | MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n;
}

/* How many bytes may be read, of iov->iov_len, without receiving a descriptor. VMSIG_ERR_BUSY:
 * the next ones, or those right behind them, bring some. */
static int wire_look(struct wire *wire, struct iovec *iov)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 1};
	ssize_t n = receive(wire->fd, &msg, MSG_PEEK);

	if (n < 0)
		return wire_recv_error(wire, errno);
	if (msg.msg_flags & MSG_CTRUNC)
		return VMSIG_ERR_BUSY;
	/* Bytes that have come since may have descriptors. At the end of the stream 0 bytes
	 * are read, too. */
	iov->iov_len = (size_t)n;
	return 0;
}

static bool fds_are_full(const struct wire *wire)
{
	return wire->rx_fds_max && wire->rx_fds.len >= wire->rx_fds_max;
}

/* What is known of the socket after a read. */
enum rest { REST_NONE, REST_BEHIND_FDS, REST_SOME };

/* One recvmsg(2). */
static int wire_recv(struct wire *wire, size_t max, size_t *ret_len, enum rest *ret_rest)
{
	struct buffer *rx = &wire->buffers.rx;
	union control control;
	struct iovec iov;
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t n;
	int r;

	r = buffer_reserve(rx, max);
	if (r)
		return r;
	iov = (struct iovec){.iov_base = buffer_tail(rx), .iov_len = max};
	if (wire->look || fds_are_full(wire)) {
		r = wire_look(wire, &iov);
		if (r)
			return r;
	}
	n = receive(wire->fd, &msg, 0);
	if (n < 0)
		return wire_recv_error(wire, errno);
	r = wire_take_control(wire, &msg);
	if (r)
		return r;
	if (n == 0) {
		wire->eof = true;
		return VMSIG_ERR_DISCONNECTED;
	}
	buffer_commit(rx, (size_t)n);
	*ret_len = (size_t)n;
	/* A read stops after a descriptor-bearing chunk; any other short one has taken all. */
	if (msg.msg_controllen)
		*ret_rest = REST_BEHIND_FDS;
	else
		*ret_rest = (size_t)n == max ? REST_SOME : REST_NONE;
	return 0;
}

int wire_fill(struct wire *wire)
{
	size_t total = 0;
	enum rest rest = REST_SOME;
	int r = VMSIG_ERR_WOULD_BLOCK;

	/* Behind descriptors there is mostly nothing, and whoever polls is told of it. */
	while (rest == REST_SOME && total < WIRE_FILL_MAX && wire->buffers.rx.len < WIRE_RX_MAX) {
		size_t max = WIRE_RX_MAX - wire->buffers.rx.len;
		size_t n = 0;

		if (max > WIRE_FILL_MAX - total)
			max = WIRE_FILL_MAX - total;
		r = wire_recv(wire, max, &n, &rest);
		if (r)
			break;
		total += n;
	}
	wire->took_all = rest == REST_NONE;
	if (wire->buffers.rx.len == 0)
		buffer_trim(&wire->buffers.rx, 0);
	if ((r == VMSIG_ERR_WOULD_BLOCK || r == VMSIG_ERR_BUSY) && total)
		return 0;
	/* The caller has taken all whole frames, and what is left of one needs no more. */
	if (r == VMSIG_ERR_BUSY && !wire->look)
		return wire_protocol_error(wire, "the peer sent more descriptors than may wait");
	return r;
}

int wire_give(struct wire *wire, const void *data, size_t len, const int *fds, size_t nfds)
{
	int r = buffer_append(&wire->buffers.rx, data, len);

	if (!r)
		r = fdqueue_push(&wire->rx_fds, 0, fds, nfds);
	for (size_t i = 0; r && i < nfds; i++)
		wire_dispose(wire, fds[i]);
	return r;
}

static int wire_send_error(struct wire *wire, int error)
{
	switch (error) {
	case EAGAIN:
		return VMSIG_ERR_WOULD_BLOCK;
	/* The kernel checks descriptors in flight and allocates before it queues a byte. */
	case ETOOMANYREFS:
		wire->error = "too many descriptors are in flight (RLIMIT_NOFILE of the sender)";
		return VMSIG_ERR_BUSY;
	case ENOBUFS:
	case ENOMEM:
		wire->error = "the kernel has no memory for the socket";
		return VMSIG_ERR_BUSY;
	case EPIPE:
	case ECONNRESET:
		wire->error = "the peer has closed the connection";
		return VMSIG_ERR_DISCONNECTED;
	default:
		return -error;
	}
}

/* Whether the first group may go with the next bytes, though they come before its own: the receiver
 * counts descriptors and not positions. Not with the rest of a message that has some itself: who
 * has room for no more waits for that message first. */
static bool may_carry(const struct wire *wire, uint64_t at)
{
	return at == wire->tx_sent || wire->tx_sent >= wire->tx_carried;
}

/* One sendmsg(2) with one descriptor group at most, and no byte of the next one's message. */
static int wire_send(struct wire *wire)
{
	struct buffer *tx = &wire->buffers.tx;
	struct iovec iov = {.iov_base = tx->data + tx->head, .iov_len = tx->len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union control control;
	int fds[WIRE_FDS_MAX];
	uint64_t at = UINT64_MAX;
	size_t nfds = fdqueue_peek(&wire->tx_fds, fds, WIRE_FDS_MAX, &at);
	ssize_t n;

	if (nfds && may_carry(wire, at)) {
		struct cmsghdr *c;

		memset(&control, 0, CMSG_SPACE(nfds * sizeof(int)));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
		if (wire->tx_fds.len > nfds)
			at = wire->tx_fds.entries[wire->tx_fds.head + nfds].at;
		else
			at = UINT64_MAX;
	} else {
		nfds = 0;
	}
	if (at - wire->tx_sent < iov.iov_len)
		iov.iov_len = (size_t)(at - wire->tx_sent);
	do {
		n = sendmsg(wire->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	/* The receiver takes no descriptors (SO_PASSRIGHTS). It has the message without them, and
	 * says why it may not have them. */
	if (n < 0 && errno == EPERM && nfds) {
		fdqueue_drop(&wire->tx_fds, nfds);
		return 0;
	}
	if (n < 0)
		return wire_send_error(wire, errno);
	if (nfds)
		wire->tx_carried = wire->tx_sent + iov.iov_len;
	/* The kernel has its own references from the first byte on. */
	fdqueue_drop(&wire->tx_fds, nfds);
	buffer_consume(tx, (size_t)n);
	wire->tx_sent += (uint64_t)n;
	return 0;
}

bool wire_is_read(const struct wire *wire)
{
	int left = 0;

	return !wire->buffers.tx.len && ioctl(wire->fd, SIOCOUTQ, &left) == 0 && left == 0;
}

int wire_drain(struct wire *wire)
{
	while (wire->buffers.tx.len) {
		int r = wire_send(wire);

		if (r)
			return r;
	}
	return 0;
}
