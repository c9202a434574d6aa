/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands around the broker cannot stop it: a log that nobody reads, standard descriptors
 * that are not there.
 */
#include "tests/integration/vmsigd/desk_scene.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STRANGERS 9000 /* records of 250 bytes: more than pipe and ring hold */

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* With its standard error there, or without any standard descriptor (-1). It does not outlive a
 * test that is killed for its time. */
static pid_t start(struct desk_scene *scene, int err)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	if (err >= 0)
		dup2(err, STDERR_FILENO);
	else
		close_range(STDIN_FILENO, STDERR_FILENO, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl(VMSIGD, VMSIGD, "-c", daemon_config(scene->daemon), (char *)NULL);
	_exit(127);
}

static int try_connect(struct desk_scene *scene)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/run/admin.sock",
		daemon_dir(scene->daemon));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	close(fd);
	return -1;
}

static void await_listening(struct desk_scene *scene)
{
	int fd;

	for (int i = 0; (fd = try_connect(scene)) < 0; i++) {
		if (i == DAEMON_WAIT_MS / 5)
			fail_msg("vmsigd does not listen");
		pause_ms(5);
	}
	close(fd);
}

static int end(pid_t pid)
{
	int status;

	kill(pid, SIGTERM);
	for (int i = 0; waitpid(pid, &status, WNOHANG) == 0; i++) {
		if (i == DAEMON_WAIT_MS / 5) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			fail_msg("vmsigd does not end");
		}
		pause_ms(5);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The broker listens before it has looked at its endpoints. */
static struct write_lease acquire_once_ready(struct write_client *client)
{
	for (;;) {
		uint64_t id = write_client_ask(client, "w2", 0, 0, 0, 0, false);
		Vmsig__WriteMessage *message = write_client_receive(client);
		struct write_lease lease = {0};

		assert_non_null(message);
		assert_int_equal(message->request_id, id);
		assert_true(message->body_case == VMSIG__WRITE_MESSAGE__BODY_LEASE_INFO ||
			    message->body_case == VMSIG__WRITE_MESSAGE__BODY_ERROR);
		if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_LEASE_INFO)
			lease = (struct write_lease){.id = message->lease_info->lease,
				.token = message->lease_info->token,
				.endpoint = message->lease_info->endpoint,
				.epoch = message->lease_info->epoch};
		else
			assert_int_equal(message->error->code, VMSIG_ERR_NOT_READY);
		write_client_free_message(message);
		if (lease.id)
			return lease;
		pause_ms(5);
	}
}

static void expect_service(struct desk_scene *scene)
{
	struct write_client bob;
	struct write_lease lease;

	write_client_open(&bob, scene->daemon, "write.sock", &scene->bob);
	lease = acquire_once_ready(&bob);
	write_client_write(&bob, &lease, 1, 0x1000, "served", 6, NULL);
	assert_int_equal(write_client_outcome(&bob), 0);
	write_client_close(&bob);
}

/* Each leaves records at the level that the scene logs at. */
static void flood(struct desk_scene *scene)
{
	for (int i = 0; i < STRANGERS; i++) {
		struct write_client admin;

		if (i % 8 == 0) {
			write_client_open(&admin, scene->daemon, "admin.sock", &scene->admin);
			write_client_close(&admin);
		} else {
			close(try_connect(scene));
		}
	}
}

static void a_log_that_nobody_reads_stops_nobody(void **state)
{
	struct desk_scene *scene = *state;
	int pipes[2];
	pid_t pid;

	assert_int_equal(daemon_stop(scene->daemon, SIGTERM), 0);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = start(scene, pipes[1]);
	close(pipes[1]);
	await_listening(scene);
	flood(scene);
	expect_service(scene);
	assert_int_equal(end(pid), 0);
	close(pipes[0]);
	desk_scene_start(scene);
}

static void missing_standard_descriptors_harm_nobody(void **state)
{
	struct desk_scene *scene = *state;
	char link[64], path[64];
	pid_t pid;

	assert_int_equal(daemon_stop(scene->daemon, SIGTERM), 0);
	pid = start(scene, -1);
	await_listening(scene);
	expect_service(scene);
	for (int fd = 0; fd <= 2; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		n = readlink(path, link, sizeof(link) - 1);
		assert_true(n > 0);
		link[n] = '\0';
		assert_string_equal(link, "/dev/null");
	}
	assert_int_equal(end(pid), 0);
	desk_scene_start(scene);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, desk_scene_setup, desk_scene_teardown)
	const struct CMUnitTest tests[] = {
		T(a_log_that_nobody_reads_stops_nobody),
		T(missing_standard_descriptors_harm_nobody),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
