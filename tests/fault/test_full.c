/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk is full: nothing is granted and nothing is written that could not be recorded, the
 * broker lives and says why, and goes on when there is room again.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fault/history.h"
#include "tests/support/ctx_client.h"

#define ADDR 0x3000u
#define IN_MEMORY_MAX 100000 /* writes whose records memory has room for; far more than it has */
#define RETRY_MS 10          /* between questions whether it goes on */

static char armed[PATH_MAX];

static void fill_disk(bool full)
{
	int fd;

	if (!full) {
		assert_int_equal(unlink(armed), 0);
		return;
	}
	fd = open(armed, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static void restart(struct desk_scene *scene, int signal)
{
	setenv("LD_PRELOAD", FULL_LIBRARY, 1);
	/* A sanitizer's runtime wants to be first, and need not be. */
	setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
	setenv("FULL_ARMED", armed, 1);
	desk_scene_restart(scene, signal);
	unsetenv("LD_PRELOAD");
	unsetenv("ASAN_OPTIONS");
	unsetenv("FULL_ARMED");
}

static int setup(void **state)
{
	struct desk_scene *scene;
	int r = desk_scene_setup(state);

	if (r)
		return r;
	scene = *state;
	snprintf(armed, sizeof(armed), "%s/full", daemon_dir(scene->daemon));
	desk_scene_configure(scene, "{}", "ttl_max: 1h");
	restart(scene, SIGTERM);
	return 0;
}

static uint64_t word_at(struct desk_scene *scene)
{
	uint64_t word;

	desk_scene_read(scene, "w1", ADDR, &word, sizeof(word));
	return word;
}

/* What memory keeps until there is room is recorded, and is written; the last word that was, behind
 * `sequence`. */
static uint64_t fill_memory(
	struct write_client *client, const struct write_lease *lease, uint64_t sequence)
{
	int r;

	do
		r = write_client_put(client, lease, sequence + 1, ADDR, sequence + 1);
	while (!r && ++sequence < IN_MEMORY_MAX);
	assert_int_equal(r, VMSIG_ERR_IO);
	return sequence;
}

static void nothing_is_written_without_its_record(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice;
	struct write_lease lease;
	uint64_t written;
	int r;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	lease = write_client_lease(&alice, "w1");
	assert_int_equal(write_client_put(&alice, &lease, 1, ADDR, 1), 0);
	/* Its result is recorded before the disk fills up. */
	assert_int_equal(desk_scene_audit(scene, VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT, NULL), 1);
	fill_disk(true);
	written = fill_memory(&alice, &lease, 1);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(write_client_put(&alice, &lease, written + 1 + i, ADDR, 4711),
			VMSIG_ERR_IO);
	assert_int_equal(word_at(scene), written);
	fill_disk(false);
	/* The number is not used up. */
	do {
		r = write_client_put(&alice, &lease, written + 1, ADDR, 22);
		if (r)
			usleep(RETRY_MS * 1000);
	} while (r == VMSIG_ERR_IO);
	assert_int_equal(r, 0);
	assert_int_equal(word_at(scene), 22);
	write_client_close(&alice);
	assert_int_equal(history_check(scene, NULL, 0), written + 1);
	daemon_await_log(scene->daemon, "cannot write", 1);
}

/* Once the broker has noticed that there is room. */
static struct write_lease granted_with_room(struct write_client *client)
{
	for (;;) {
		uint64_t id = write_client_ask(client, "w1", 0, 0, 0, 0, true);
		Vmsig__WriteMessage *message = write_client_receive(client);
		struct write_lease lease = {0};
		uint32_t code = 0;

		assert_non_null(message);
		assert_int_equal(message->request_id, id);
		if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_ERROR)
			code = message->error->code;
		else
			lease = (struct write_lease){.id = message->lease_info->lease,
				.token = message->lease_info->token,
				.epoch = message->lease_info->epoch,
				.endpoint = message->lease_info->endpoint};
		write_client_free_message(message);
		if (!code)
			return lease;
		assert_int_equal(code, VMSIG_ERR_IO);
		usleep(RETRY_MS * 1000);
	}
}

static void nothing_is_granted_without_its_record(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice, bob;
	struct write_lease lease;
	uint64_t id;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	write_client_open(&bob, scene->daemon, "write.sock", &scene->bob);
	lease = write_client_lease(&alice, "w2");
	fill_disk(true);
	fill_memory(&alice, &lease, 0);
	for (int i = 0; i < 3; i++) {
		id = write_client_ask(&alice, "w1", 0, 0, 0, 0, false);
		write_client_expect_error(&alice, id, VMSIG_ERR_IO);
	}
	fill_disk(false);
	/* Nothing of them is left that would be in the way. */
	lease = granted_with_room(&bob);
	assert_true(lease.token);
	write_client_close(&alice);
	write_client_close(&bob);
	history_check(scene, NULL, 0);
}

/* Of the room in memory some is kept for ends: a lease that has ended then does not come back. */
static void an_end_is_recorded_all_the_same(void **state)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__LeaseRelease release = VMSIG__LEASE_RELEASE__INIT;
	struct desk_scene *scene = *state;
	struct write_client alice, bob;
	struct write_lease lease;
	uint64_t id, written;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	lease = write_client_lease(&alice, "w1");
	fill_disk(true);
	written = fill_memory(&alice, &lease, 0);
	release.lease = lease.id;
	release.token = lease.token;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_RELEASE;
	request.lease_release = &release;
	id = write_client_send(&alice, &request, NULL, 0);
	assert_int_equal(write_client_answer(&alice, id), 0);
	fill_disk(false);
	/* The broker goes on by itself; the grant shows that it has. */
	write_client_open(&bob, scene->daemon, "write.sock", &scene->bob);
	granted_with_room(&bob);
	write_client_close(&bob);
	write_client_close(&alice);
	desk_scene_restart(scene, SIGKILL);
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	assert_int_equal(
		write_client_put(&alice, &lease, written + 1, ADDR, 1), VMSIG_ERR_NO_LEASE);
	write_client_close(&alice);
}

/* Sensors are served, operators told, and all is well again when there is room. */
static void a_start_on_a_full_disk_serves_who_reads(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice;
	struct write_lease lease;
	uint32_t before, meanwhile;
	uint64_t written;
	int r;

	before = ctx_client_epoch(scene->daemon, &scene->alice, "w1");
	fill_disk(true);
	restart(scene, SIGKILL);
	meanwhile = ctx_client_epoch(scene->daemon, &scene->alice, "w1");
	assert_true(meanwhile >= before);
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	lease = write_client_lease(&alice, "w1");
	assert_true(lease.epoch >= meanwhile);
	written = fill_memory(&alice, &lease, 0);
	fill_disk(false);
	do {
		r = write_client_put(&alice, &lease, written + 1, ADDR, 5);
		if (r)
			usleep(RETRY_MS * 1000);
	} while (r == VMSIG_ERR_IO);
	assert_int_equal(r, 0);
	assert_int_equal(word_at(scene), 5);
	write_client_close(&alice);
	before = ctx_client_epoch(scene->daemon, &scene->alice, "w1");
	assert_true(before >= meanwhile);
	history_check(scene, NULL, 0);
	desk_scene_restart(scene, SIGTERM);
	assert_true(ctx_client_epoch(scene->daemon, &scene->alice, "w1") >= before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, desk_scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_is_written_without_its_record),
		TEST(nothing_is_granted_without_its_record),
		TEST(an_end_is_recorded_all_the_same),
		TEST(a_start_on_a_full_disk_serves_who_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
