/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session of the write plane (handshake, hello, a lease, a write, the release) over a wire that
 * flips a bit, breaks or stands still, at one byte after another of both ways; what stands still is
 * a client that then is killed. The library comes again or says that it failed, the bytes are there
 * once or not at all, and the broker serves everybody else meanwhile.
 *
 *   test_wire [--every]     at each byte; the default is for every day
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fault/history.h"
#include "tests/fault/session.h"
#include "tests/fault/wire.h"

#define BYTES_MAX 65536 /* of a session one way; far more than it has */
/* A fault that leaves the other side waiting costs as much; too soon is a failure as any other. */
#define PATIENCE_MS 1000

static size_t step = 61;

static struct wire *wire;
static struct session session;

static int setup(void **state)
{
	int r = desk_scene_setup(state);
	struct desk_scene *scene = *state;
	char target[PATH_MAX];

	assert_int_equal(r, 0);
	session_init(&session, scene, "wire", PATIENCE_MS);
	snprintf(target, sizeof(target), "%s/run/write.sock", daemon_dir(scene->daemon));
	wire = wire_open(session.socket, target);
	return 0;
}

static int teardown(void **state)
{
	wire = wire_close(wire);
	return desk_scene_teardown(state);
}

static void judge(struct desk_scene *scene)
{
	const struct history_word words[] = {{"w1", SESSION_ADDR}, {"w2", SESSION_ADDR}};

	session_of_another(scene, 4711);
	assert_true(history_check(scene, words, 2) > 0);
}

/* One byte after another, until a session has no more of them. */
static void over_a_faulty_wire(struct desk_scene *scene, enum wire_fault fault, enum wire_way way)
{
	bool spoilt = true;
	size_t at = 0, ended_well = 0;

	desk_scene_configure(scene, "{resume_grace: 1ms}", "leases: 16");
	desk_scene_reload(scene);
	for (uint64_t word = 1; spoilt; word++, at += step) {
		uint64_t before = session_word(scene), after;
		int r;

		assert_true(at < BYTES_MAX);
		wire_spoil(wire, fault, way, at);
		r = session_run(&session, word);
		after = session_word(scene);
		ended_well += r == 0;
		assert_true(after == word || (r && after == before));
		spoilt = wire_was_spoilt(wire);
	}
	print_message("%zu bytes, %zu of %zu sessions to their end\n", at, ended_well, at / step);
	assert_true(at > 3 * step && ended_well > 0);
	judge(scene);
}

static void a_bit_flips_on_the_way_to_the_broker(void **state)
{
	over_a_faulty_wire(*state, WIRE_FLIP, WIRE_TO_BROKER);
}

static void a_bit_flips_on_the_way_to_the_client(void **state)
{
	over_a_faulty_wire(*state, WIRE_FLIP, WIRE_TO_CLIENT);
}

static void it_breaks_on_the_way_to_the_broker(void **state)
{
	over_a_faulty_wire(*state, WIRE_CUT, WIRE_TO_BROKER);
}

static void it_breaks_on_the_way_to_the_client(void **state)
{
	over_a_faulty_wire(*state, WIRE_CUT, WIRE_TO_CLIENT);
}

static pid_t client_start(uint64_t word)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	session.patience_ms = DAEMON_WAIT_MS;
	_exit(session_run(&session, word) != 0);
}

/* Until it stands still; whether it did, else it has ended. */
static bool await_standstill(pid_t pid)
{
	for (unsigned waited = 0; !wire_was_spoilt(wire); waited += 2) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return false;
		if (waited > DAEMON_WAIT_MS)
			fail_msg("a client neither stands still nor ends");
		usleep(2000);
	}
	return true;
}

static void stopped_and_killed(struct desk_scene *scene, enum wire_way way)
{
	desk_scene_configure(scene, "{resume_grace: 1ms}", "leases: 16");
	desk_scene_reload(scene);
	for (size_t at = 0;; at += step) {
		pid_t pid;

		assert_true(at < BYTES_MAX);
		wire_spoil(wire, WIRE_STOP, way, at);
		pid = client_start(at + 1);
		if (!await_standstill(pid))
			break;
		session_of_another(scene, at + 1);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	}
	/* The broker knows by now that all of them are gone. */
	wire_spoil(wire, WIRE_CUT, WIRE_TO_BROKER, BYTES_MAX);
	judge(scene);
}

static void a_client_is_stopped_and_killed_at_each_step(void **state)
{
	stopped_and_killed(*state, WIRE_TO_BROKER);
}

static void a_client_that_hears_nothing_more_is_killed(void **state)
{
	stopped_and_killed(*state, WIRE_TO_CLIENT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_bit_flips_on_the_way_to_the_broker),
		TEST(a_bit_flips_on_the_way_to_the_client),
		TEST(it_breaks_on_the_way_to_the_broker),
		TEST(it_breaks_on_the_way_to_the_client),
		TEST(a_client_is_stopped_and_killed_at_each_step),
		TEST(a_client_that_hears_nothing_more_is_killed),
	};

	if (argc > 1 && strcmp(argv[1], "--every") == 0)
		step = 1;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
