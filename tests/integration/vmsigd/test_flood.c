/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operators that send what is cheap to send and costly to take, again and again. They are
 * told what is wrong with it, and everybody else goes on.
 */
#include "tests/integration/vmsigd/desk_scene.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ELEMENTS 520000u /* of two bytes each: most of a frame of 1 MiB */
#define REQUEST_ID 0x2a
#define FRAMES 20

/* An envelope with a body that has the same empty element so often. */
static size_t frame_of(uint8_t *buf, uint8_t body_tag, const uint8_t element[static 2])
{
	size_t len = 0;

	buf[len++] = 0x08;
	buf[len++] = REQUEST_ID;
	buf[len++] = body_tag;
	for (uint32_t left = 2 * ELEMENTS; left; left >>= 7)
		buf[len++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
	for (size_t i = 0; i < ELEMENTS; i++, len += 2)
		memcpy(buf + len, element, 2);
	return len;
}

static void send_all(struct write_client *client, const uint8_t *data, size_t len)
{
	struct pollfd poller = {.fd = chan_socket(client->chan), .events = POLLOUT};
	int r = chan_send(client->chan, data, len, NULL, 0);

	assert_int_equal(r, 0);
	while ((r = chan_drain(client->chan)) == VMSIG_ERR_WOULD_BLOCK)
		assert_int_equal(poll(&poller, 1, DAEMON_WAIT_MS), 1);
	assert_int_equal(r, 0);
}

static void frames_of_a_million_elements_cost_nobody_else(void **state)
{
	static const struct {
		uint8_t body, element[2];
	} kinds[] = {
		{0x42, {0x3a, 0}},    /* memwrite: operations */
		{0x1a, {0x12, 0}},    /* lease_acquire: ranges */
		{0x42, {0xa0, 0x06}}, /* overlong tags: unknown fields of no length */
		{0x42, {0x42, 0}},    /* memwrite: bulk, again and again */
	};
	struct desk_scene *scene = *state;
	uint8_t *frame = malloc(2 * ELEMENTS + 64);
	struct write_client alice, bob;
	struct write_lease lease;
	uint64_t sequence = 0, value = 0x1122334455667788;

	assert_non_null(frame);
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	write_client_open(&bob, scene->daemon, "write.sock", &scene->bob);
	lease = write_client_acquire(&bob, "w1");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t len = frame_of(frame, kinds[i].body, kinds[i].element);

		for (int n = 0; n < FRAMES; n++) {
			send_all(&alice, frame, len);
			write_client_write(
				&bob, &lease, ++sequence, 0x1000, &value, sizeof(value), NULL);
			assert_int_equal(write_client_outcome(&bob), VMSIG_ERR_OK);
			write_client_expect_error(&alice, REQUEST_ID, VMSIG_ERR_BAD_REQUEST);
		}
	}
	/* No reason to lose the connection. */
	lease = write_client_acquire(&alice, "w2");
	write_client_close(&alice);
	write_client_close(&bob);
	free(frame);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, desk_scene_setup, desk_scene_teardown)
	const struct CMUnitTest tests[] = {
		T(frames_of_a_million_elements_cost_nobody_else),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
