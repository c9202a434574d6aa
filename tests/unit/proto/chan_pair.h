/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_PROTO_CHAN_PAIR_H
#define TESTS_UNIT_PROTO_CHAN_PAIR_H

/*
 * Two channels on a socket pair: a broker that accepts sensors and a sensor.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/wire/chan.h"
#include "tests/support/pki.h"
#include "vmsig/vmsig_error.h"

#define CHAN_PAIR_FDS (2 * CHAN_FDS_PER_FRAME) /* that may wait at each end */

struct chan_pair {
	struct chan *server;
	struct chan *client;
};

/* Certificates that all tests of a program share. */
struct chan_world {
	struct pki *pki;
	struct pki_cert broker_cert;
	struct pki_cert sensor_cert;
	struct tls_ctx *broker; /* accepts sensors */
	struct tls_ctx *sensor; /* accepts brokers */
	size_t open_fds;        /* when the world was made */
};

extern const struct chan_limits chan_limits_default;

/* cmocka group fixtures; *state is the struct chan_world. Teardown counts descriptors. */
int chan_world_setup(void **state);
int chan_world_teardown(void **state);

struct tls_ctx *ctx_make(enum tls_side side, const struct tls_files *files, unsigned peer_roles);

void socket_pair(int fds[2]);
/* A context is not consumed. Limits may be NULL. */
void chan_pair_make(struct chan_pair *pair, struct tls_ctx *server, struct tls_ctx *client,
	const struct chan_limits *limits);
/* Until both are established or one has failed; returns what each handshake said last. */
void chan_pair_handshake(struct chan_pair *pair, int *ret_server, int *ret_client);
/* Both of the above, with the world's contexts; must succeed. */
void chan_pair_up(
	struct chan_pair *pair, struct chan_world *world, const struct chan_limits *limits);
/* Two channels that are not connected: each has a raw end in `ret_raw` (server's first), and
 * the test carries the bytes. */
void chan_pair_make_apart(struct chan_pair *pair, struct chan_world *world, int ret_raw[2]);
void chan_pair_down(struct chan_pair *pair);

/* Fills and receives until there is a frame or an error other than WOULD_BLOCK from both. */
int chan_await(struct chan *to, struct chan *from, const uint8_t **ret_data, size_t *ret_len);

#endif
