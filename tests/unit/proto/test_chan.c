/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/proto/chan_pair.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void peers_know_each_other(void **state)
{
	struct chan_pair pair;
	struct identity id;
	struct ucred cred;

	chan_pair_make(&pair, ((struct chan_world *)*state)->broker,
		((struct chan_world *)*state)->sensor, NULL);
	assert_int_equal(chan_peer_identity(pair.server, &id), VMSIG_ERR_UNAUTHENTICATED);
	chan_pair_down(&pair);

	chan_pair_up(&pair, *state, NULL);
	assert_int_equal(chan_peer_identity(pair.server, &id), 0);
	assert_int_equal(id.role, IDENTITY_SENSOR);
	assert_string_equal(id.name, "acme");
	assert_true(strlen(id.serial) > 0);
	assert_int_equal(chan_peer_identity(pair.client, &id), 0);
	assert_int_equal(id.role, IDENTITY_BROKER);
	assert_string_equal(id.name, "host1");
	assert_int_equal(chan_peer_cred(pair.server, &cred), 0);
	assert_int_equal(cred.uid, getuid());
	assert_int_equal(cred.pid, getpid());
	assert_string_equal(chan_error(pair.server), "");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peers_know_each_other),
		cmocka_unit_test(frames_cross_both_ways),
	};

	return cmocka_run_group_tests(tests, chan_world_setup, chan_world_teardown);
}
