/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker dies by SIGKILL at every boundary of a write: between intent, bytes, result and
 * reply. The holder asks again with the same number, and gets an answer that is true; the
 * bytes are applied once, or the answer says that it is not known.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fault/history.h"

#define ATOMIC 0x3000u    /* one store */
#define UNALIGNED 0x3011u /* a copy, which is a system call */
#define CALLS_MAX 64      /* of one write; far more than it makes */

static const uint64_t before = 0x1111111111111111, after = 0x2222222222222222;
static const uint64_t other = 0x3333333333333333;

static uint64_t addr;
static char armed[PATH_MAX];

static void arm(bool on)
{
	int fd;

	if (!on) {
		unlink(armed);
		return;
	}
	fd = open(armed, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static void preload(struct desk_scene *scene, int at, bool afterwards)
{
	char number[16];

	snprintf(armed, sizeof(armed), "%s/armed", daemon_dir(scene->daemon));
	snprintf(number, sizeof(number), "%d", at);
	setenv("LD_PRELOAD", CRASH_LIBRARY, 1);
	/* A sanitizer's runtime wants to be first, and need not be. */
	setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
	setenv("CRASH_ARMED", armed, 1);
	setenv("CRASH_AT", number, 1);
	if (afterwards)
		setenv("CRASH_AFTER", "1", 1);
	desk_scene_start(scene);
	unsetenv("LD_PRELOAD");
	unsetenv("ASAN_OPTIONS");
	unsetenv("CRASH_ARMED");
	unsetenv("CRASH_AT");
	unsetenv("CRASH_AFTER");
}

static uint64_t word_now(struct desk_scene *scene)
{
	uint64_t word;

	desk_scene_read(scene, "w1", addr, &word, sizeof(word));
	return word;
}

/* Asks once more, by whoever the broker is now. */
static Vmsig__WriteResult ask_again(struct desk_scene *scene, const struct write_lease *lease)
{
	Vmsig__WriteResult result;
	Vmsig__WriteMessage *message;
	struct write_client alice;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	write_client_write(&alice, lease, 1, addr, &after, sizeof(after), NULL);
	message = write_client_expect(&alice, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
	result = *message->write_result;
	write_client_free_message(message);
	write_client_close(&alice);
	return result;
}

/* For the next round: it would wait for a holder that does not come back. */
static void give_back(struct desk_scene *scene, const struct write_lease *lease)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__LeaseRelease release = VMSIG__LEASE_RELEASE__INIT;
	Vmsig__WriteMessage *answer;
	struct write_client alice;

	release.lease = lease->id;
	release.token = lease->token;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_RELEASE;
	request.lease_release = &release;
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	write_client_send(&alice, &request, NULL, 0);
	answer = write_client_receive(&alice);
	assert_non_null(answer);
	assert_int_equal(answer->body_case, VMSIG__WRITE_MESSAGE__BODY_DONE);
	write_client_free_message(answer);
	write_client_close(&alice);
}

/* The guest has done something with the word meanwhile: nobody may write to it again. */
static void judge_touched(struct desk_scene *scene, const struct write_lease *lease)
{
	Vmsig__WriteResult result;

	desk_scene_poke(scene, "w1", addr, &other, sizeof(other));
	result = ask_again(scene, lease);
	if (result.outcome && result.outcome != VMSIG_ERR_UNKNOWN_OUTCOME)
		fail_msg("a write of which nothing is known has the outcome %s",
			vmsig_error_name((int)result.outcome));
	assert_int_equal(word_now(scene), other);
}

static void judge(struct desk_scene *scene, const struct write_lease *lease)
{
	Vmsig__WriteResult result = ask_again(scene, lease);

	if (result.outcome == VMSIG_ERR_UNKNOWN_OUTCOME)
		fail_msg("the memory tells, and the broker says that it does not know");
	assert_int_equal(result.outcome, 0);
	assert_int_equal(result.written, sizeof(after));
	assert_int_equal(word_now(scene), after);
	/* Once more changes nothing. */
	desk_scene_poke(scene, "w1", addr, &other, sizeof(other));
	result = ask_again(scene, lease);
	assert_int_equal(result.outcome, 0);
	assert_true(result.replayed);
	assert_int_equal(word_now(scene), other);
}

/* One death. Whether the broker died; false: the write has fewer boundaries. */
static bool die_at(struct desk_scene *scene, int at, bool afterwards, bool touch)
{
	struct write_client alice;
	Vmsig__WriteMessage *answer;
	struct write_lease lease;
	bool died;

	preload(scene, at, afterwards);
	desk_scene_poke(scene, "w1", addr, &before, sizeof(before));
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	write_client_ask(&alice, "w1", 0, 0, 60000, 0, false);
	lease = write_client_granted(&alice);
	arm(true);
	write_client_write(&alice, &lease, 1, addr, &after, sizeof(after), NULL);
	answer = write_client_receive(&alice);
	died = !answer;
	if (answer) {
		/* With its last call it may die after the answer has left. */
		assert_int_equal(answer->body_case, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
		write_client_free_message(answer);
	}
	write_client_close(&alice);
	arm(false);
	assert_int_equal(daemon_stop(scene->daemon, SIGKILL), 128 + SIGKILL);
	desk_scene_start(scene);
	if (touch && word_now(scene) == after)
		judge_touched(scene, &lease);
	else if (!touch)
		judge(scene, &lease);
	give_back(scene, &lease);
	history_check(scene, NULL, 0);
	assert_int_equal(daemon_stop(scene->daemon, SIGTERM), 0);
	return died;
}

static void every_boundary(void **state, uint64_t at_addr, bool afterwards, bool touch)
{
	struct desk_scene *scene = *state;
	int at = 1;

	addr = at_addr;
	desk_scene_configure(scene, "{}", "ttl_max: 1h");
	assert_int_equal(daemon_stop(scene->daemon, SIGTERM), 0);
	while (die_at(scene, at, afterwards, touch))
		assert_true(++at < CALLS_MAX);
	/* Intent, result and reply at the least. */
	assert_true(at > 3);
	desk_scene_start(scene);
}

static void it_dies_before_each_call(void **state)
{
	every_boundary(state, ATOMIC, false, false);
}

static void it_dies_before_each_call_of_a_copy(void **state)
{
	every_boundary(state, UNALIGNED, false, false);
}

static void it_dies_after_each_call_of_a_copy(void **state)
{
	every_boundary(state, UNALIGNED, true, false);
}

static void it_dies_after_each_call(void **state)
{
	every_boundary(state, ATOMIC, true, false);
}

static void the_guest_changes_the_word_meanwhile(void **state)
{
	every_boundary(state, UNALIGNED, false, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, desk_scene_setup, desk_scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_dies_before_each_call),
		TEST(it_dies_after_each_call),
		TEST(it_dies_before_each_call_of_a_copy),
		TEST(it_dies_after_each_call_of_a_copy),
		TEST(the_guest_changes_the_word_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
