/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the broker does: handshakes run on pool threads over contexts that everybody shares
 * and that a reload may drop meanwhile, while the loop thread does the socket side.
 */
#include "tests/unit/proto/chan_pair.h"

#include <pthread.h>
#include <string.h>

#define THREADS 4
#define ROUNDS 15

struct job {
	struct chan_world *world;
	int failed;
};

static void *handshake_step(void *arg)
{
	struct chan *chan = arg;

	return (void *)(intptr_t)chan_handshake(chan);
}

/* The crypto side of `chan` on a thread of its own. */
static int handshake_elsewhere(struct chan *chan)
{
	pthread_t thread;
	void *r;

	assert_int_equal(pthread_create(&thread, NULL, handshake_step, chan), 0);
	assert_int_equal(pthread_join(thread, &r), 0);
	return (int)(intptr_t)r;
}

static void a_handshake_moves_between_threads(void **state)
{
	struct chan_world *world = *state;
	int server = VMSIG_ERR_WOULD_BLOCK;
	int client = VMSIG_ERR_WOULD_BLOCK;
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;

	chan_pair_make(&pair, world->broker, world->sensor, NULL);
	for (int i = 0; i < 10 && (server || client); i++) {
		if (client)
			client = handshake_elsewhere(pair.client);
		assert_int_equal(chan_drain(pair.client), 0);
		(void)!chan_fill(pair.server);
		if (server)
			server = handshake_elsewhere(pair.server);
		assert_int_equal(chan_drain(pair.server), 0);
		(void)!chan_fill(pair.client);
	}
	assert_int_equal(server, 0);
	assert_int_equal(client, 0);
	assert_int_equal(chan_send(pair.client, "x", 1, NULL, 0), 0);
	assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
	chan_pair_down(&pair);
}

/* No assertions here: cmocka's belong to the main thread. */
static void *connect_often(void *arg)
{
	struct job *job = arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct tls_ctx *tls = tls_ctx_ref(job->world->broker);
		struct chan *server = NULL;
		struct chan *client = NULL;
		int fds[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0 ||
			chan_new(&server, tls, fds[0], &chan_limits_default) ||
			chan_new(&client, job->world->sensor, fds[1], &chan_limits_default)) {
			job->failed++;
			return NULL;
		}
		tls_ctx_unref(tls);
		for (int turn = 0; turn < 4; turn++) {
			(void)!chan_fill(client);
			(void)!chan_handshake(client);
			(void)!chan_drain(client);
			(void)!chan_fill(server);
			(void)!chan_handshake(server);
			(void)!chan_drain(server);
		}
		job->failed += !chan_established(server) || !chan_established(client);
		chan_free(server);
		chan_free(client);
	}
	return NULL;
}

static void many_handshakes_at_once_share_their_contexts(void **state)
{
	struct job jobs[THREADS];
	pthread_t threads[THREADS];

	for (size_t i = 0; i < THREADS; i++) {
		jobs[i] = (struct job){.world = *state};
		assert_int_equal(pthread_create(&threads[i], NULL, connect_often, &jobs[i]), 0);
	}
	for (size_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(jobs[i].failed, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_handshake_moves_between_threads),
		cmocka_unit_test(many_handshakes_at_once_share_their_contexts),
	};

	return cmocka_run_group_tests(tests, chan_world_setup, chan_world_teardown);
}
