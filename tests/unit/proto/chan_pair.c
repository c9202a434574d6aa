/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/proto/chan_pair.h"
#include "tests/support/descriptors.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

const struct chan_limits chan_limits_default = {
	.frame_max = CHAN_FRAME_MAX,
	.tx_max = 8u << 20,
	.rx_fds_max = CHAN_PAIR_FDS,
};

struct tls_ctx *ctx_make(enum tls_side side, const struct tls_files *files, unsigned peer_roles)
{
	struct tls_ctx *ctx = NULL;
	char error[256];

	if (tls_ctx_new(&ctx, side, files, peer_roles, error, sizeof(error)))
		fail_msg("tls_ctx_new: %s", error);
	return ctx;
}

int chan_world_setup(void **state)
{
	struct chan_world *world = calloc(1, sizeof(*world));
	struct tls_files files;

	assert_non_null(world);
	world->pki = pki_new();
	pki_issue_uri(world->pki, "broker", "vmsig://broker/host1", &world->broker_cert);
	pki_issue_uri(world->pki, "sensor", "vmsig://sensor/acme", &world->sensor_cert);
	files = pki_files(world->pki, &world->broker_cert, NULL);
	world->broker = ctx_make(TLS_SERVER, &files, IDENTITY_SENSOR | IDENTITY_OPERATOR);
	files = pki_files(world->pki, &world->sensor_cert, NULL);
	world->sensor = ctx_make(TLS_CLIENT, &files, IDENTITY_BROKER);
	world->open_fds = descriptors_open();
	*state = world;
	return 0;
}

int chan_world_teardown(void **state)
{
	struct chan_world *world = *state;
	size_t leaked = descriptors_open() - world->open_fds;

	tls_ctx_unref(world->broker);
	tls_ctx_unref(world->sensor);
	pki_free(world->pki);
	free(world);
	return leaked ? -1 : 0;
}

void socket_pair(int fds[2])
{
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

void chan_pair_make(struct chan_pair *pair, struct tls_ctx *server, struct tls_ctx *client,
	const struct chan_limits *limits)
{
	int fds[2];

	if (!limits)
		limits = &chan_limits_default;
	socket_pair(fds);
	assert_int_equal(chan_new(&pair->server, server, fds[0], limits), 0);
	assert_int_equal(chan_new(&pair->client, client, fds[1], limits), 0);
}

void chan_pair_make_apart(struct chan_pair *pair, struct chan_world *world, int ret_raw[2])
{
	int server[2];
	int client[2];

	socket_pair(server);
	socket_pair(client);
	assert_int_equal(
		chan_new(&pair->server, world->broker, server[0], &chan_limits_default), 0);
	assert_int_equal(
		chan_new(&pair->client, world->sensor, client[0], &chan_limits_default), 0);
	ret_raw[0] = server[1];
	ret_raw[1] = client[1];
}

/* A peer that has gone is news for the handshake, not for this helper. */
static int handshake_turn(struct chan *chan)
{
	int filled = chan_fill(chan);
	int r = chan_handshake(chan);
	int drained = chan_drain(chan);

	assert_true(filled >= 0 && drained >= 0);
	return r;
}

void chan_pair_handshake(struct chan_pair *pair, int *ret_server, int *ret_client)
{
	int client = VMSIG_ERR_WOULD_BLOCK;
	int server = VMSIG_ERR_WOULD_BLOCK;

	for (int i = 0; i < 20; i++) {
		if (client == VMSIG_ERR_WOULD_BLOCK)
			client = handshake_turn(pair->client);
		if (server == VMSIG_ERR_WOULD_BLOCK)
			server = handshake_turn(pair->server);
	}
	*ret_server = server;
	*ret_client = client;
}

void chan_pair_up(
	struct chan_pair *pair, struct chan_world *world, const struct chan_limits *limits)
{
	int server;
	int client;

	chan_pair_make(pair, world->broker, world->sensor, limits);
	chan_pair_handshake(pair, &server, &client);
	if (server || client)
		fail_msg("handshake: server %s, client %s", chan_error(pair->server),
			chan_error(pair->client));
}

void chan_pair_down(struct chan_pair *pair)
{
	pair->server = chan_free(pair->server);
	pair->client = chan_free(pair->client);
}

int chan_await(struct chan *to, struct chan *from, const uint8_t **ret_data, size_t *ret_len)
{
	int r = VMSIG_ERR_WOULD_BLOCK;

	for (int i = 0; i < 1000 && r == VMSIG_ERR_WOULD_BLOCK; i++) {
		int drained = from ? chan_drain(from) : 0;
		int filled = chan_fill(to);

		assert_true(drained >= 0 && filled >= 0);
		r = chan_recv(to, ret_data, ret_len);
	}
	return r;
}
