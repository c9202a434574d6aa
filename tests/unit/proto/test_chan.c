/* SPDX-License-Identifier: Apache-2.0 */
/* Channels between peers that behave. */
#include "tests/unit/proto/chan_pair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void peers_know_each_other(void **state)
{
	struct chan_world *world = *state;
	struct chan_pair pair;
	struct identity id;
	struct ucred cred;

	chan_pair_make(&pair, world->broker, world->sensor, NULL);
	assert_int_equal(chan_peer_identity(pair.server, &id), VMSIG_ERR_UNAUTHENTICATED);
	chan_pair_down(&pair);

	chan_pair_up(&pair, world, NULL);
	assert_int_equal(chan_peer_identity(pair.server, &id), 0);
	assert_int_equal(id.role, IDENTITY_SENSOR);
	assert_string_equal(id.name, "acme");
	assert_int_equal(strtol(id.serial, NULL, 16), world->sensor_cert.serial);
	assert_int_equal(chan_peer_identity(pair.client, &id), 0);
	assert_int_equal(id.role, IDENTITY_BROKER);
	assert_string_equal(id.name, "host1");
	assert_int_equal(chan_peer_cred(pair.server, &cred), 0);
	assert_int_equal(cred.uid, getuid());
	assert_int_equal(cred.pid, getpid());
	assert_string_equal(chan_error(pair.server), "");
	chan_pair_down(&pair);
}

static void nothing_flows_before_the_handshake(void **state)
{
	struct chan_world *world = *state;
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;

	chan_pair_make(&pair, world->broker, world->sensor, NULL);
	assert_false(chan_established(pair.client));
	assert_int_equal(chan_send(pair.client, "x", 1, NULL, 0), VMSIG_ERR_UNAUTHENTICATED);
	assert_int_equal(chan_recv(pair.server, &data, &len), VMSIG_ERR_UNAUTHENTICATED);
	assert_int_equal(chan_fill(pair.server), VMSIG_ERR_WOULD_BLOCK);
	chan_shutdown(pair.client);
	assert_false(chan_has_output(pair.client));
	chan_pair_down(&pair);
}

static void frames_cross_both_ways(void **state)
{
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;

	chan_pair_up(&pair, *state, NULL);
	assert_int_equal(chan_send(pair.client, "ping", 4, NULL, 0), 0);
	assert_true(chan_has_output(pair.client));
	assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
	assert_int_equal(len, 4);
	assert_memory_equal(data, "ping", 4);
	assert_false(chan_has_output(pair.client));
	assert_int_equal(chan_output_bytes(pair.client), 0);
	assert_int_equal(chan_send(pair.server, "", 0, NULL, 0), 0);
	assert_int_equal(chan_await(pair.client, pair.server, &data, &len), 0);
	assert_int_equal(len, 0);
	assert_int_equal(chan_recv(pair.client, &data, &len), VMSIG_ERR_WOULD_BLOCK);
	chan_pair_down(&pair);
}

static void frames_of_every_awkward_size_arrive_whole(void **state)
{
	static const size_t sizes[] = {1, 16379, 16380, 16381, 16384, 16385, 32768, 65535, 65536,
		CHAN_FRAME_MAX - 1, CHAN_FRAME_MAX};
	uint8_t *out = malloc(CHAN_FRAME_MAX);
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;

	assert_non_null(out);
	for (size_t i = 0; i < CHAN_FRAME_MAX; i++)
		out[i] = (uint8_t)(i * 2654435761u >> 13);
	chan_pair_up(&pair, *state, NULL);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(chan_send(pair.client, out, sizes[i], NULL, 0), 0);
		assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
		assert_int_equal(len, sizes[i]);
		assert_memory_equal(data, out, len);
	}
	assert_int_equal(
		chan_send(pair.client, out, CHAN_FRAME_MAX + 1, NULL, 0), VMSIG_ERR_BAD_REQUEST);
	assert_false(chan_has_output(pair.client));
	chan_pair_down(&pair);
	free(out);
}

/* A record costs each side more than a few bytes do; order stays, whatever comes between. */
static void small_frames_share_a_record(void **state)
{
	enum { RECORD = 22, HEADER = 4, FRAMES = 200 };
	uint8_t large[4096] = {0};
	struct chan_pair pair;
	const uint8_t *data;
	size_t len, before;

	chan_pair_up(&pair, *state, NULL);
	for (unsigned i = 0; i < FRAMES; i++) {
		const uint8_t byte = (uint8_t)i;

		assert_int_equal(chan_send(pair.client, &byte, 1, NULL, 0), 0);
	}
	assert_int_equal(chan_output_bytes(pair.client), FRAMES * (HEADER + 1) + RECORD);
	before = chan_output_bytes(pair.client);
	assert_int_equal(chan_send(pair.client, large, sizeof(large), NULL, 0), 0);
	assert_int_equal(chan_output_bytes(pair.client), before + HEADER + sizeof(large));
	assert_int_equal(chan_send(pair.client, "last", 4, NULL, 0), 0);
	for (unsigned i = 0; i < FRAMES; i++) {
		assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
		assert_int_equal(len, 1);
		assert_int_equal(*data, i);
	}
	assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
	assert_int_equal(len, sizeof(large));
	assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
	assert_memory_equal(data, "last", 4);
	assert_false(chan_has_output(pair.client));
	chan_pair_down(&pair);
}

static void more_small_frames_than_a_record_holds_arrive(void **state)
{
	enum { FRAMES = 100, SIZE = 500 };
	uint8_t out[SIZE];
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;

	chan_pair_up(&pair, *state, NULL);
	for (unsigned i = 0; i < FRAMES; i++) {
		memset(out, (int)i, sizeof(out));
		assert_int_equal(chan_send(pair.client, out, sizeof(out), NULL, 0), 0);
	}
	for (unsigned i = 0; i < FRAMES; i++) {
		memset(out, (int)i, sizeof(out));
		assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
		assert_int_equal(len, sizeof(out));
		assert_memory_equal(data, out, sizeof(out));
	}
	chan_pair_down(&pair);
}

/* Who serves others too is asked whether to go on after each record. */
static void a_large_frame_comes_in_pieces(void **state)
{
	uint8_t *out = calloc(1, CHAN_FRAME_MAX);
	struct chan_pair pair;
	const uint8_t *data;
	unsigned pieces = 0;
	size_t len;
	int r;

	assert_non_null(out);
	out[CHAN_FRAME_MAX - 1] = 1;
	chan_pair_up(&pair, *state, NULL);
	assert_int_equal(chan_send(pair.client, out, CHAN_FRAME_MAX, NULL, 0), 0);
	assert_int_equal(chan_send(pair.client, "next", 4, NULL, 0), 0);
	while ((r = chan_recv_piece(pair.server, &data, &len))) {
		if (r == VMSIG_ERR_BUSY) {
			pieces++;
			continue;
		}
		assert_int_equal(r, VMSIG_ERR_WOULD_BLOCK);
		r = chan_drain(pair.client);
		assert_in_set(r, ((LargestIntegralType[]){0, VMSIG_ERR_WOULD_BLOCK}), 2);
		assert_int_equal(chan_fill(pair.server), 0);
	}
	assert_int_equal(len, CHAN_FRAME_MAX);
	assert_memory_equal(data, out, len);
	assert_true(pieces >= CHAN_FRAME_MAX / 16384);
	assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
	assert_int_equal(len, 4);
	assert_memory_equal(data, "next", 4);
	chan_pair_down(&pair);
	free(out);
}

static void many_small_frames_keep_their_order(void **state)
{
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;

	chan_pair_up(&pair, *state, NULL);
	for (uint32_t i = 0; i < 20000; i++)
		assert_int_equal(chan_send(pair.client, &i, sizeof(i), NULL, 0), 0);
	for (uint32_t i = 0; i < 20000; i++) {
		assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
		assert_int_equal(len, sizeof(i));
		assert_memory_equal(data, &i, sizeof(i));
	}
	chan_pair_down(&pair);
}

/* Carries what is in `from` to `to`, `step` bytes a write. */
static void carry(int from, int to, size_t step, struct chan *reader)
{
	uint8_t bytes[4096];
	ssize_t n;

	while ((n = read(from, bytes, sizeof(bytes))) > 0) {
		for (size_t i = 0; i < (size_t)n; i += step) {
			size_t part = (size_t)n - i < step ? (size_t)n - i : step;

			assert_int_equal(write(to, bytes + i, part), (ssize_t)part);
			assert_int_equal(chan_fill(reader), 0);
			if (!chan_established(reader))
				assert_in_set(chan_handshake(reader),
					((LargestIntegralType[]){0, VMSIG_ERR_WOULD_BLOCK}), 2);
		}
	}
}

static void one_byte_at_a_time_is_enough(void **state)
{
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;
	int raw[2];

	chan_pair_make_apart(&pair, *state, raw);
	assert_int_equal(chan_handshake(pair.client), VMSIG_ERR_WOULD_BLOCK);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(chan_drain(pair.client), 0);
		carry(raw[1], raw[0], 1, pair.server);
		assert_int_equal(chan_drain(pair.server), 0);
		carry(raw[0], raw[1], 1, pair.client);
	}
	assert_true(chan_established(pair.server) && chan_established(pair.client));
	assert_int_equal(chan_send(pair.client, "abcdef", 6, NULL, 0), 0);
	assert_int_equal(chan_recv(pair.server, &data, &len), VMSIG_ERR_WOULD_BLOCK);
	assert_int_equal(chan_drain(pair.client), 0);
	carry(raw[1], raw[0], 1, pair.server);
	assert_int_equal(chan_recv(pair.server, &data, &len), 0);
	assert_int_equal(len, 6);
	assert_memory_equal(data, "abcdef", 6);
	close(raw[0]);
	close(raw[1]);
	chan_pair_down(&pair);
}

static void a_full_send_queue_refuses_and_recovers(void **state)
{
	static const struct chan_limits limits = {
		.frame_max = CHAN_FRAME_MAX, .tx_max = 4096, .rx_fds_max = 1};
	uint8_t block[1000] = {7};
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;
	int sent = 0;
	int r;

	chan_pair_up(&pair, *state, &limits);
	while ((r = chan_send(pair.client, block, sizeof(block), NULL, 0)) == 0)
		sent++;
	assert_int_equal(r, VMSIG_ERR_QUOTA);
	assert_int_equal(sent, 3);
	assert_true(chan_output_bytes(pair.client) <= limits.tx_max);
	for (int i = 0; i < sent; i++) {
		assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
		assert_int_equal(len, sizeof(block));
	}
	assert_int_equal(chan_send(pair.client, block, sizeof(block), NULL, 0), 0);
	assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
	assert_int_equal(chan_recv(pair.server, &data, &len), VMSIG_ERR_WOULD_BLOCK);
	chan_pair_down(&pair);
}

/* A peer that writes faster than its frames are taken waits in the socket, not in memory. */
static void undecrypted_bytes_are_bounded(void **state)
{
	uint8_t *block = calloc(1, 64u << 10);
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;
	int fills = 0;
	int got = 0;
	int r = 0;

	assert_non_null(block);
	chan_pair_up(&pair, *state, NULL);
	for (int i = 0; i < 40; i++)
		assert_int_equal(chan_send(pair.client, block, 64u << 10, NULL, 0), 0);
	while (r == 0) {
		assert_in_set(chan_drain(pair.client),
			((LargestIntegralType[]){0, VMSIG_ERR_WOULD_BLOCK}), 2);
		r = chan_fill(pair.server);
		fills += r == 0;
	}
	assert_int_equal(r, VMSIG_ERR_WOULD_BLOCK);
	assert_true(fills <= 4);
	while (got < 40) {
		assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
		assert_int_equal(len, 64u << 10);
		got++;
	}
	chan_pair_down(&pair);
	free(block);
}

static void a_full_socket_says_would_block(void **state)
{
	uint8_t *block = calloc(1, CHAN_FRAME_MAX);
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;

	assert_non_null(block);
	chan_pair_up(&pair, *state, NULL);
	assert_int_equal(chan_send(pair.client, block, CHAN_FRAME_MAX, NULL, 0), 0);
	assert_int_equal(chan_drain(pair.client), VMSIG_ERR_WOULD_BLOCK);
	assert_true(chan_has_output(pair.client));
	assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
	assert_int_equal(len, CHAN_FRAME_MAX);
	chan_pair_down(&pair);
	free(block);
}

static void shutdown_ends_the_stream_after_the_last_frame(void **state)
{
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;

	chan_pair_up(&pair, *state, NULL);
	assert_int_equal(chan_send(pair.client, "last", 4, NULL, 0), 0);
	chan_shutdown(pair.client);
	assert_int_equal(chan_send(pair.client, "x", 1, NULL, 0), VMSIG_ERR_DISCONNECTED);
	assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
	assert_int_equal(len, 4);
	assert_int_equal(chan_await(pair.server, pair.client, &data, &len), VMSIG_ERR_DISCONNECTED);
	assert_string_equal(chan_error(pair.server), "the peer closed the connection");
	chan_pair_down(&pair);
}

/* What the client's kernel side has when the peer goes: first the data, then the news. */
static void a_reset_loses_nothing_that_was_sent(void **state)
{
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;

	chan_pair_up(&pair, *state, NULL);
	assert_int_equal(chan_send(pair.server, "bye", 3, NULL, 0), 0);
	assert_int_equal(chan_drain(pair.server), 0);
	assert_int_equal(chan_send(pair.client, "unread", 6, NULL, 0), 0);
	assert_int_equal(chan_drain(pair.client), 0);
	pair.server = chan_free(pair.server);
	assert_int_equal(chan_await(pair.client, NULL, &data, &len), 0);
	assert_memory_equal(data, "bye", 3);
	assert_int_equal(chan_fill(pair.client), VMSIG_ERR_DISCONNECTED);
	assert_int_equal(chan_recv(pair.client, &data, &len), VMSIG_ERR_DISCONNECTED);
	chan_pair_down(&pair);
}

static void writing_to_a_peer_that_is_gone_is_disconnected(void **state)
{
	struct chan_pair pair;

	chan_pair_up(&pair, *state, NULL);
	pair.server = chan_free(pair.server);
	assert_int_equal(chan_send(pair.client, "x", 1, NULL, 0), 0);
	assert_int_equal(chan_drain(pair.client), VMSIG_ERR_DISCONNECTED);
	assert_string_equal(chan_error(pair.client), "the peer has closed the connection");
	chan_pair_down(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peers_know_each_other),
		cmocka_unit_test(nothing_flows_before_the_handshake),
		cmocka_unit_test(frames_cross_both_ways),
		cmocka_unit_test(frames_of_every_awkward_size_arrive_whole),
		cmocka_unit_test(small_frames_share_a_record),
		cmocka_unit_test(more_small_frames_than_a_record_holds_arrive),
		cmocka_unit_test(a_large_frame_comes_in_pieces),
		cmocka_unit_test(many_small_frames_keep_their_order),
		cmocka_unit_test(one_byte_at_a_time_is_enough),
		cmocka_unit_test(a_full_send_queue_refuses_and_recovers),
		cmocka_unit_test(undecrypted_bytes_are_bounded),
		cmocka_unit_test(a_full_socket_says_would_block),
		cmocka_unit_test(shutdown_ends_the_stream_after_the_last_frame),
		cmocka_unit_test(a_reset_loses_nothing_that_was_sent),
		cmocka_unit_test(writing_to_a_peer_that_is_gone_is_disconnected),
	};

	return cmocka_run_group_tests(tests, chan_world_setup, chan_world_teardown);
}
