/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_LINE_H
#define TESTS_BENCH_LINE_H

/*
 * One end of a channel over an AF_UNIX socket, with nothing of the product but proto/. What goes
 * wrong ends the program.
 */

#include <poll.h>

#include "proto/wire/chan.h"

/* Identity as `vmsigctl pki issue` makes it; the caller unreferences it. */
struct tls_ctx *line_tls(const char *pki, const char *identity, enum tls_side side);
/* A non-blocking socket, connected. */
int line_connect(const char *socket_path);
struct chan *line_chan(struct tls_ctx *tls, int fd);

/* These wait, with poll(2). */
struct chan *line_open(const char *socket_path, struct tls_ctx *tls);
void line_await(struct chan *chan, short events);
void line_drain(struct chan *chan);
void line_send(struct chan *chan, const void *data, size_t len);
/* The next frame, borrowed until the next call. */
const uint8_t *line_receive(struct chan *chan, size_t *ret_len);

/* Takes so many descriptors, verified, and closes them. */
void line_close_fds(struct chan *chan, const struct chan_fd_claim *claims, size_t n);

#endif
