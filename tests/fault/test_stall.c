/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk under state_dir stands still while the broker runs: who reads does not notice, who
 * writes goes on as long as memory has room for the records and is then told why not, and all go
 * on when the disk does. What was acknowledged meanwhile is there after a kill, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fault/history.h"
#include "tests/support/ctx_client.h"

#define ADDR 0x3000u
#define RETRY_MS 10
#define IN_MEMORY_MAX 100000 /* writes whose records memory has room for; far more than it has */
#define ERRAND_HANGS "happens meanwhile is kept" /* said 10 s after one that opens marks began */
#define SOME 200                                 /* writes that it has room for in any case */

static char state_dir[PATH_MAX], backing[PATH_MAX], flag[PATH_MAX];
static pid_t stallfs;

static void stall(bool stalls)
{
	int fd;

	if (!stalls) {
		assert_int_equal(unlink(flag), 0);
		return;
	}
	fd = open(flag, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static bool is_mounted(void)
{
	struct stat inside, outside;

	return stat(state_dir, &inside) == 0 && stat(backing, &outside) == 0 &&
	       inside.st_dev != outside.st_dev;
}

/* Whether this machine lets it. */
static bool mount_it(void)
{
	char program[] = STALLFS;
	char *argv[] = {program, backing, flag, state_dir, NULL};
	int status;

	if (posix_spawn(&stallfs, program, NULL, NULL, argv, environ))
		return false;
	while (!is_mounted()) {
		if (waitpid(stallfs, &status, WNOHANG) == stallfs)
			return false;
		usleep(RETRY_MS * 1000);
	}
	return true;
}

static void unmount(void)
{
	char command[PATH_MAX + 64];

	snprintf(command, sizeof(command), "fusermount3 -u %s", state_dir);
	while (system(command) != 0)
		usleep(RETRY_MS * 1000);
	assert_int_equal(waitpid(stallfs, NULL, 0), stallfs);
}

/* The state moves to the file system that can stand still. */
static int setup(void **state)
{
	struct desk_scene *scene;
	int r = desk_scene_setup(state);

	if (r)
		return r;
	scene = *state;
	snprintf(state_dir, sizeof(state_dir), "%s/state", daemon_dir(scene->daemon));
	snprintf(backing, sizeof(backing), "%s/backing", daemon_dir(scene->daemon));
	snprintf(flag, sizeof(flag), "%s/stalled", daemon_dir(scene->daemon));
	/* A holder comes back as late as a loaded machine lets it. */
	desk_scene_configure(scene, "{resume_grace: 1h}", "ttl_max: 1h");
	assert_int_equal(daemon_stop(scene->daemon, SIGTERM), 0);
	assert_int_equal(rename(state_dir, backing), 0);
	assert_int_equal(mkdir(state_dir, 0700), 0);
	if (!mount_it())
		skip();
	desk_scene_start(scene);
	scene->fds = daemon_fds(scene->daemon) + 2;
	return 0;
}

static int teardown(void **state)
{
	struct desk_scene *scene = *state;

	if (access(flag, F_OK) == 0)
		stall(false);
	assert_int_equal(daemon_stop(scene->daemon, SIGTERM), 0);
	unmount();
	daemon_free(scene->daemon);
	free(scene);
	return 0;
}

/* A sensor comes, gets its context, and goes. */
static void read_something(struct desk_scene *scene)
{
	struct ctx_client client;
	int fds[2];

	ctx_client_open(&client, scene->daemon, &scene->alice);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "w1"));
	ctx_client_free_message(ctx_client_expect_memctx(&client, fds));
	close(fds[0]);
	close(fds[1]);
	ctx_client_close(&client);
}

/* The other planes answer: all leases are told. */
static void list_leases(struct desk_scene *scene)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__LeaseList list = VMSIG__LEASE_LIST__INIT;
	Vmsig__AdminMessage *message;
	struct write_client admin;

	write_client_open(&admin, scene->daemon, "admin.sock", &scene->admin);
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_LEASE_LIST;
	request.lease_list = &list;
	write_client_send_admin(&admin, &request);
	message = write_client_receive_admin(&admin);
	assert_non_null(message);
	assert_int_equal(message->body_case, VMSIG__ADMIN_MESSAGE__BODY_LEASE_INFOS);
	assert_int_equal(message->lease_infos->n_leases, 1);
	vmsig__admin_message__free_unpacked(message, NULL);
	write_client_close(&admin);
}

static uint64_t word_at(struct desk_scene *scene)
{
	uint64_t word;

	desk_scene_read(scene, "w1", ADDR, &word, sizeof(word));
	return word;
}

static void all_go_on_while_it_stands_still(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice;
	struct write_lease lease;
	uint64_t written = 0;
	int r;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	lease = write_client_lease(&alice, "w1");
	stall(true);
	for (; written < SOME; written++) {
		assert_int_equal(
			write_client_put(&alice, &lease, written + 1, ADDR, written + 1), 0);
		if (written % (SOME / 4) == 0)
			read_something(scene);
	}
	/* An epoch ends, and another one begins. */
	desk_scene_reset(scene, "w2");
	list_leases(scene);
	do
		r = write_client_put(&alice, &lease, written + 1, ADDR, written + 1);
	while (!r && ++written < IN_MEMORY_MAX);
	assert_int_equal(r, VMSIG_ERR_IO);
	read_something(scene);
	list_leases(scene);
	assert_int_equal(word_at(scene), written);
	daemon_await_log(scene->daemon, "does not answer", 1);
	stall(false);
	do {
		r = write_client_put(&alice, &lease, written + 1, ADDR, written + 1);
		if (r)
			usleep(RETRY_MS * 1000);
	} while (r == VMSIG_ERR_IO);
	assert_int_equal(r, 0);
	assert_int_equal(history_check(scene, NULL, 0), written + 1);
	write_client_close(&alice);
}

/* The process ends when the disk does not hold it any more; what it had said is true. */
static void a_kill_meanwhile_loses_nothing(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice;
	struct write_lease lease;
	uint64_t written = 0;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	lease = write_client_lease(&alice, "w1");
	stall(true);
	for (; written < SOME; written++)
		assert_int_equal(
			write_client_put(&alice, &lease, written + 1, ADDR, written + 1), 0);
	kill(daemon_pid(scene->daemon), SIGKILL);
	write_client_close(&alice);
	stall(false);
	desk_scene_restart(scene, SIGKILL);
	assert_int_equal(history_check(scene, NULL, 0), SOME);
	/* Nothing of it is done again. */
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	assert_int_equal(write_client_put(&alice, &lease, written, ADDR, written), 0);
	assert_int_equal(history_check(scene, NULL, 0), SOME);
	assert_int_equal(write_client_put(&alice, &lease, written + 1, ADDR, 4711), 0);
	write_client_close(&alice);
	assert_int_equal(word_at(scene), 4711);
}

/* What tells how far a write came could not be opened, and is tried again; a disk that stands still
 * just then stops nobody but who writes. */
static void the_marks_are_opened_while_it_stands_still(void **state)
{
	struct desk_scene *scene = *state;
	char note[PATH_MAX + 16];
	struct write_client alice;
	struct write_lease lease;
	int r;

	snprintf(note, sizeof(note), "%s/marks.where", backing);
	assert_int_equal(daemon_stop(scene->daemon, SIGTERM), 0);
	assert_int_equal(mkdir(note, 0700), 0);
	desk_scene_start(scene);
	scene->fds = daemon_fds(scene->daemon) + 2;
	daemon_await_log(scene->daemon, "nothing is written meanwhile", 1);
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	lease = write_client_lease(&alice, "w1");
	assert_int_equal(write_client_put(&alice, &lease, 1, ADDR, 1), VMSIG_ERR_IO);
	stall(true);
	while (!daemon_log_count(scene->daemon, ERRAND_HANGS)) {
		read_something(scene);
		list_leases(scene);
		usleep(RETRY_MS * 1000);
	}
	assert_int_equal(write_client_put(&alice, &lease, 2, ADDR, 2), VMSIG_ERR_IO);
	assert_int_equal(rmdir(note), 0);
	stall(false);
	while ((r = write_client_put(&alice, &lease, 3, ADDR, 3)) == VMSIG_ERR_IO)
		usleep(RETRY_MS * 1000);
	assert_int_equal(r, 0);
	assert_int_equal(word_at(scene), 3);
	write_client_close(&alice);
}

/* Whoever stops the broker gets it stopped, in a bounded time and with a word on what it waited
 * for; the kernel lets the process go when the disk does. */
static void an_end_meanwhile_comes_to_an_end(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice;
	struct write_lease lease;
	uint64_t written = 0;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	lease = write_client_lease(&alice, "w1");
	stall(true);
	for (; written < SOME; written++)
		assert_int_equal(
			write_client_put(&alice, &lease, written + 1, ADDR, written + 1), 0);
	kill(daemon_pid(scene->daemon), SIGTERM);
	daemon_await_log(scene->daemon, "did not end in time", 1);
	write_client_close(&alice);
	stall(false);
	/* Another signal would strike it before it has ended itself, if it has that far to go. */
	assert_int_equal(daemon_stop(scene->daemon, 0), 1);
	desk_scene_start(scene);
	scene->fds = daemon_fds(scene->daemon) + 2;
	assert_int_equal(history_check(scene, NULL, 0), SOME);
	assert_int_equal(word_at(scene), SOME);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_go_on_while_it_stands_still),
		TEST(a_kill_meanwhile_loses_nothing),
		TEST(the_marks_are_opened_while_it_stands_still),
		TEST(an_end_meanwhile_comes_to_an_end),
	};

	return cmocka_run_group_tests_name("stall", tests, NULL, NULL);
}
