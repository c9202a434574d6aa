/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/line.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "vmsig/vmsig_error.h"

static const struct chan_limits limits = {
	.frame_max = CHAN_FRAME_MAX, .tx_max = 16u << 20, .rx_fds_max = 32};

struct tls_ctx *line_tls(const char *pki, const char *identity, enum tls_side side)
{
	const unsigned peers =
		side == TLS_SERVER ? IDENTITY_SENSOR | IDENTITY_OPERATOR : IDENTITY_BROKER;
	char folder[PATH_MAX], ca[PATH_MAX], cert[PATH_MAX], key[PATH_MAX], error[256];
	struct tls_files files;
	struct tls_ctx *tls;

	bench_path(folder, sizeof(folder), pki, identity);
	files = (struct tls_files){.ca = bench_path(ca, sizeof(ca), folder, "ca.pem"),
		.cert = bench_path(cert, sizeof(cert), folder, "cert.pem"),
		.key = bench_path(key, sizeof(key), folder, "key.pem")};
	if (tls_ctx_new(&tls, side, &files, peers, error, sizeof(error)))
		bench_die("%s", error);
	return tls;
}

int line_connect(const char *socket_path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", socket_path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		bench_die("cannot connect to %s: %s", socket_path, strerror(errno));
	return fd;
}

struct chan *line_chan(struct tls_ctx *tls, int fd)
{
	struct chan *chan;

	if (chan_new(&chan, tls, fd, &limits))
		bench_die("out of memory for a connection");
	return chan;
}

void line_await(struct chan *chan, short events)
{
	struct pollfd poller = {.fd = chan_socket(chan), .events = events};

	if (poll(&poller, 1, BENCH_WAIT_MS) != 1)
		bench_die("the peer does not answer");
}

struct chan *line_open(const char *socket_path, struct tls_ctx *tls)
{
	struct chan *chan = line_chan(tls, line_connect(socket_path));
	int r;

	while ((r = chan_handshake(chan)) == VMSIG_ERR_WOULD_BLOCK) {
		line_drain(chan);
		line_await(chan, POLLIN);
		(void)!chan_fill(chan);
	}
	if (r)
		bench_die("%s: %s", socket_path, chan_error(chan));
	line_drain(chan);
	return chan;
}

void line_drain(struct chan *chan)
{
	int r;

	while ((r = chan_drain(chan)) == VMSIG_ERR_WOULD_BLOCK)
		line_await(chan, POLLOUT);
	if (r)
		bench_die("cannot send: %s", chan_error(chan));
}

void line_send(struct chan *chan, const void *data, size_t len)
{
	if (chan_send(chan, data, len, NULL, 0))
		bench_die("cannot queue a frame: %s", chan_error(chan));
	line_drain(chan);
}

const uint8_t *line_receive(struct chan *chan, size_t *ret_len)
{
	const uint8_t *data;
	int r;

	while ((r = chan_recv(chan, &data, ret_len)) == VMSIG_ERR_WOULD_BLOCK) {
		line_await(chan, POLLIN);
		(void)!chan_fill(chan); /* its failures come out of chan_recv() */
	}
	if (r)
		bench_die("the peer ended the connection: %s", chan_error(chan));
	return data;
}

void line_close_fds(struct chan *chan, const struct chan_fd_claim *claims, size_t n)
{
	int fds[CHAN_FDS_PER_FRAME];

	if (chan_take_fds(chan, claims, n, fds))
		bench_die("descriptors: %s", chan_error(chan));
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}
