/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wall clock jumps under a broker, by hours and years to both sides, also over its restarts.
 * Nothing that it promises hangs on that clock: leases are held and end by their time, numbers that
 * were used stay used, what is recorded stays in order.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/fault/history.h"

#define ADDR 0x3000u
#define HOUR_S 3600L
#define YEAR_S (365 * 24 * HOUR_S)
#define SHORT_MS 300 /* a lease that nobody renews */

static char seconds_path[PATH_MAX];

/* In one piece: the broker looks at any moment. */
static void jump(long seconds)
{
	char draft[PATH_MAX + 8];
	FILE *file;

	snprintf(draft, sizeof(draft), "%s.new", seconds_path);
	file = fopen(draft, "we");
	assert_non_null(file);
	assert_true(fprintf(file, "%ld", seconds) > 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(rename(draft, seconds_path), 0);
}

static void restart(struct desk_scene *scene, int signal)
{
	setenv("LD_PRELOAD", JUMP_LIBRARY, 1);
	/* A sanitizer's runtime wants to be first, and need not be. */
	setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
	setenv("JUMP_SECONDS", seconds_path, 1);
	desk_scene_restart(scene, signal);
	unsetenv("LD_PRELOAD");
	unsetenv("ASAN_OPTIONS");
	unsetenv("JUMP_SECONDS");
}

static int setup(void **state)
{
	int r = desk_scene_setup(state);
	struct desk_scene *scene = *state;

	assert_int_equal(r, 0);
	snprintf(seconds_path, sizeof(seconds_path), "%s/seconds", daemon_dir(scene->daemon));
	jump(0);
	desk_scene_configure(scene, "{resume_grace: 1h}", "ttl_max: 1h");
	restart(scene, SIGTERM);
	return 0;
}

static uint64_t word_at(struct desk_scene *scene)
{
	uint64_t word;

	desk_scene_read(scene, "w1", ADDR, &word, sizeof(word));
	return word;
}

/* Writes `number` by that number, and asks for the one before again: it is not done again. */
static void write_and_ask(struct desk_scene *scene, struct write_client *client,
	const struct write_lease *lease, uint64_t number)
{
	assert_int_equal(write_client_put(client, lease, number, ADDR, number), 0);
	if (number > 1)
		assert_int_equal(write_client_put(client, lease, number - 1, ADDR, number - 1), 0);
	assert_int_equal(word_at(scene), number);
}

/* One that its holder forgets ends, and no sooner than it may. */
static void a_short_lease_ends(struct write_client *client)
{
	Vmsig__WriteMessage *message;
	struct write_lease lease;

	write_client_ask(client, "w2", 0, 0, SHORT_MS, 0, false);
	lease = write_client_granted(client);
	message = write_client_expect(client, VMSIG__WRITE_MESSAGE__BODY_LEASE_ENDED);
	assert_int_equal(message->lease_ended->lease, lease.id);
	assert_int_equal(message->lease_ended->reason, VMSIG_ERR_LEASE_EXPIRED);
	write_client_free_message(message);
}

/* It is the broker's clock that jumps. */
static void newest_is_recorded_at(struct desk_scene *scene, long seconds)
{
	Vmsig__AuditRecord *record = NULL;
	int64_t moment;

	assert_true(desk_scene_audit(scene, VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT, &record) > 0);
	moment = (int64_t)(record->real_ns / 1000000000);
	assert_in_range(moment, time(NULL) + seconds - HOUR_S, time(NULL) + seconds + HOUR_S);
	vmsig__audit_record__free_unpacked(record, NULL);
}

static void leases_and_numbers_know_no_wall_clock(void **state)
{
	/* Forwards not past the end of the certificates. */
	static const long jumps[] = {0, 2 * HOUR_S, -2 * HOUR_S, -YEAR_S, 2 * HOUR_S, 0};
	const struct history_word words[] = {{"w1", ADDR}};
	struct desk_scene *scene = *state;
	struct write_client alice, bob;
	struct write_lease lease;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	write_client_open(&bob, scene->daemon, "write.sock", &scene->bob);
	lease = write_client_lease(&alice, "w1");
	for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
		jump(jumps[i]);
		write_and_ask(scene, &alice, &lease, i + 1);
		a_short_lease_ends(&bob);
	}
	write_client_close(&bob);
	write_client_close(&alice);
	assert_int_equal(history_check(scene, words, 1), sizeof(jumps) / sizeof(jumps[0]));
}

static void a_restart_by_another_clock_loses_nothing(void **state)
{
	static const struct {
		long seconds;
		int signal;
	} starts[] = {{2 * HOUR_S, SIGKILL}, {0, SIGTERM}, {4 * HOUR_S, SIGTERM}, {0, SIGKILL}};
	const struct history_word words[] = {{"w1", ADDR}};
	struct desk_scene *scene = *state;
	struct write_client alice;
	struct write_lease lease;
	uint64_t number = 1;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	lease = write_client_lease(&alice, "w1");
	write_and_ask(scene, &alice, &lease, number++);
	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		jump(starts[i].seconds);
		restart(scene, starts[i].signal);
		write_client_close(&alice);
		write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
		write_and_ask(scene, &alice, &lease, number++);
		newest_is_recorded_at(scene, starts[i].seconds);
	}
	write_client_close(&alice);
	assert_int_equal(history_check(scene, words, 1), number - 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, desk_scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(leases_and_numbers_know_no_wall_clock),
		TEST(a_restart_by_another_clock_loses_nothing),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
