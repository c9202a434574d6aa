/* SPDX-License-Identifier: Apache-2.0 */
/* Channels whose peer sends anything. */
#include "tests/unit/proto/chan_pair.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void garbage_is_not_tls(void **state)
{
	static const char *const garbage[] = {
		"GET / HTTP/1.1\r\n\r\n",
		"\x16\x03\x01\xff\xff all that this promises",
		"SSH-2.0-OpenSSH_9.2\r\n",
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	};
	struct chan_world *world = *state;

	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		size_t len = strlen(garbage[i]);
		struct chan_pair pair;

		chan_pair_make(&pair, world->broker, world->sensor, NULL);
		assert_int_equal(write(chan_socket(pair.client), garbage[i], len), (ssize_t)len);
		assert_int_equal(chan_fill(pair.server), 0);
		assert_int_equal(chan_handshake(pair.server), VMSIG_ERR_UNAUTHENTICATED);
		assert_non_null(strstr(chan_error(pair.server), "TLS handshake failed: "));
		assert_false(chan_established(pair.server));
		assert_int_equal(chan_handshake(pair.server), VMSIG_ERR_UNAUTHENTICATED);
		assert_int_equal(chan_drain(pair.server), 0);
		chan_pair_down(&pair);
	}
}

static void the_sentence_names_what_is_not_tls(void **state)
{
	struct chan_world *world = *state;
	struct chan_pair pair;

	chan_pair_make(&pair, world->broker, world->sensor, NULL);
	assert_int_equal(write(chan_socket(pair.client), "GET / HTTP/1.1\r\n\r\n", 18), 18);
	assert_int_equal(chan_fill(pair.server), 0);
	assert_int_equal(chan_handshake(pair.server), VMSIG_ERR_UNAUTHENTICATED);
	assert_string_equal(
		chan_error(pair.server), "TLS handshake failed: the peer does not speak TLS");
	chan_pair_down(&pair);
}

static void the_end_during_a_handshake_is_disconnected(void **state)
{
	struct chan_world *world = *state;
	struct chan_pair pair;

	chan_pair_make(&pair, world->broker, world->sensor, NULL);
	assert_int_equal(chan_handshake(pair.client), VMSIG_ERR_WOULD_BLOCK);
	assert_int_equal(chan_drain(pair.client), 0);
	pair.client = chan_free(pair.client);
	assert_int_equal(chan_fill(pair.server), 0);
	assert_int_equal(chan_handshake(pair.server), VMSIG_ERR_WOULD_BLOCK);
	assert_int_equal(chan_fill(pair.server), VMSIG_ERR_DISCONNECTED);
	assert_int_equal(chan_handshake(pair.server), VMSIG_ERR_DISCONNECTED);
	assert_non_null(strstr(chan_error(pair.server), "during the TLS handshake"));
	chan_pair_down(&pair);
}

/* Cuts a 40,000-byte frame off after `keep` bytes of ciphertext. */
static void cut_off(struct chan_world *world, size_t keep, const char *sentence)
{
	static uint8_t block[40000];
	static uint8_t cipher[50000];
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;
	int raw;
	int server;

	chan_pair_up(&pair, world, NULL);
	/* The test's own ends of the client's and the server's sockets. */
	server = chan_socket(pair.server);
	raw = dup(server);
	assert_true(raw >= 0);
	assert_int_equal(chan_send(pair.client, block, sizeof(block), NULL, 0), 0);
	assert_int_equal(chan_drain(pair.client), 0);
	assert_true(recv(raw, cipher, sizeof(cipher), 0) > 40000);
	assert_int_equal(write(chan_socket(pair.client), cipher, keep), (ssize_t)keep);
	pair.client = chan_free(pair.client);
	assert_int_equal(chan_await(pair.server, NULL, &data, &len), VMSIG_ERR_DISCONNECTED);
	assert_string_equal(chan_error(pair.server), sentence);
	close(raw);
	chan_pair_down(&pair);
}

static void the_end_in_the_middle_of_a_frame_is_no_frame(void **state)
{
	cut_off(*state, 20000, "the peer closed the connection in the middle of a frame");
	cut_off(*state, 100, "the peer closed the connection");
}

static void a_frame_over_the_limit_ends_the_channel(void **state)
{
	static const struct chan_limits small = {
		.frame_max = 100, .tx_max = 1u << 20, .rx_fds_max = 0};
	uint8_t block[101] = {0};
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;

	chan_pair_up(&pair, *state, &small);
	assert_int_equal(chan_send(pair.client, block, 100, NULL, 0), 0);
	assert_int_equal(chan_send(pair.client, block, 101, NULL, 0), 0);
	assert_int_equal(chan_await(pair.server, pair.client, &data, &len), 0);
	assert_int_equal(len, 100);
	assert_int_equal(chan_await(pair.server, pair.client, &data, &len), VMSIG_ERR_PROTOCOL);
	assert_non_null(strstr(chan_error(pair.server), "frame over the limit"));
	assert_int_equal(chan_send(pair.server, "x", 1, NULL, 0), VMSIG_ERR_PROTOCOL);
	chan_pair_down(&pair);
}

/* The ciphertext of one frame as it lies on the way. */
static size_t capture(struct chan_pair *pair, uint8_t *cipher, size_t size)
{
	ssize_t n;

	assert_int_equal(chan_send(pair->client, "the payload", 11, NULL, 0), 0);
	assert_int_equal(chan_drain(pair->client), 0);
	n = recv(chan_socket(pair->server), cipher, size, 0);
	assert_true(n > 11 && (size_t)n < size);
	return (size_t)n;
}

/* A flipped length byte may also make the receiver wait for more; what it must never do is
 * deliver something. */
static void expect_no_frame(struct chan_world *world, size_t offset, uint8_t flip)
{
	uint8_t cipher[256];
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;
	size_t n;
	int r;

	chan_pair_up(&pair, world, NULL);
	n = capture(&pair, cipher, sizeof(cipher));
	cipher[offset] ^= flip;
	assert_int_equal(write(chan_socket(pair.client), cipher, n), (ssize_t)n);
	pair.client = chan_free(pair.client);
	r = chan_await(pair.server, NULL, &data, &len);
	assert_in_set(r,
		((LargestIntegralType[]){
			VMSIG_ERR_PROTOCOL, VMSIG_ERR_DISCONNECTED, VMSIG_ERR_UNAUTHENTICATED}),
		3);
	/* Past the record's header every flip must be noticed as such. */
	if (offset >= 5)
		assert_int_equal(r, VMSIG_ERR_PROTOCOL);
	assert_true(strlen(chan_error(pair.server)) > 0);
	chan_pair_down(&pair);
}

static void every_flipped_byte_is_noticed(void **state)
{
	uint8_t cipher[256];
	struct chan_pair pair;
	size_t n;

	chan_pair_up(&pair, *state, NULL);
	n = capture(&pair, cipher, sizeof(cipher));
	chan_pair_down(&pair);
	for (size_t offset = 0; offset < n; offset++) {
		expect_no_frame(*state, offset, 0x01);
		expect_no_frame(*state, offset, 0x80);
	}
}

/* One message each way, the client's first one with a flipped byte. Returns whether it was
 * long enough for that. */
static bool flip_hello(struct chan_world *world, size_t offset)
{
	struct chan_pair pair;
	bool flipped = false;
	int raw[2];

	chan_pair_make_apart(&pair, world, raw);
	for (int turn = 0; turn < 4; turn++) {
		uint8_t bytes[8192];
		ssize_t n;

		(void)!chan_handshake(pair.client);
		assert_int_equal(chan_drain(pair.client), 0);
		n = read(raw[1], bytes, sizeof(bytes));
		if (turn == 0 && n > (ssize_t)offset) {
			bytes[offset] ^= 0x40;
			flipped = true;
		}
		if (n > 0)
			assert_int_equal(write(raw[0], bytes, (size_t)n), n);
		assert_true(chan_fill(pair.server) >= 0);
		(void)!chan_handshake(pair.server);
		assert_int_equal(chan_drain(pair.server), 0);
		n = read(raw[0], bytes, sizeof(bytes));
		if (n > 0)
			assert_int_equal(write(raw[1], bytes, (size_t)n), n);
		assert_true(chan_fill(pair.client) >= 0);
	}
	if (chan_established(pair.server) == flipped)
		fail_msg("established with byte %zu flipped", offset);
	close(raw[0]);
	close(raw[1]);
	chan_pair_down(&pair);
	return flipped;
}

/* The 5 bytes of record header in front are not part of what both sides sign (RFC 8446, 5.1:
 * the version in them is ignored). */
static void flipped_handshake_bytes_fail_it(void **state)
{
	size_t offset = 5;

	while (flip_hello(*state, offset))
		offset += 3;
	assert_true(offset > 100);
}

static void a_replayed_record_is_noticed(void **state)
{
	uint8_t cipher[256];
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;
	size_t n;

	chan_pair_up(&pair, *state, NULL);
	n = capture(&pair, cipher, sizeof(cipher));
	assert_int_equal(write(chan_socket(pair.client), cipher, n), (ssize_t)n);
	assert_int_equal(write(chan_socket(pair.client), cipher, n), (ssize_t)n);
	assert_int_equal(chan_await(pair.server, NULL, &data, &len), 0);
	assert_int_equal(chan_await(pair.server, NULL, &data, &len), VMSIG_ERR_PROTOCOL);
	assert_string_equal(chan_error(pair.server), "a record was altered on its way");
	chan_pair_down(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(garbage_is_not_tls),
		cmocka_unit_test(the_sentence_names_what_is_not_tls),
		cmocka_unit_test(the_end_during_a_handshake_is_disconnected),
		cmocka_unit_test(the_end_in_the_middle_of_a_frame_is_no_frame),
		cmocka_unit_test(a_frame_over_the_limit_ends_the_channel),
		cmocka_unit_test(every_flipped_byte_is_noticed),
		cmocka_unit_test(flipped_handshake_bytes_fail_it),
		cmocka_unit_test(a_replayed_record_is_noticed),
	};

	return cmocka_run_group_tests(tests, chan_world_setup, chan_world_teardown);
}
