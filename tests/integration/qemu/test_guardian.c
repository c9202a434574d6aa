/* SPDX-License-Identifier: Apache-2.0 */
/* The process that continues guests which a broker has left stopped. */
#include "tests/integration/qemu/quiesce_scene.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* The guardian of this process has taken its name, which it does last. */
static bool has_guardian(pid_t pid)
{
	char path[64], text[32] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	file = fopen(path, "re");
	assert_non_null(file);
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)strtol(text, NULL, 10));
	file = fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	return strcmp(text, "vmsig-guardian\n") == 0;
}

/* A process like the broker arms these, in this order, and its process group gets a signal
 * that it dies of. */
static void arm_and_die(const char *const *sockets, size_t n, int signum)
{
	int ready[2];
	char byte;
	pid_t pid;

	link_close(&scene.link);
	await(!scene.fake.connected);
	scene.fake.status = "paused";
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct guardian *guardian;

		close(ready[0]);
		/* Whoever started the test may have had it ignored. */
		signal(signum, SIG_DFL);
		if (setpgid(0, 0) < 0 || guardian_start(&guardian, NULL))
			_exit(1);
		for (size_t i = 0; i < n; i++) {
			if (guardian_arm(guardian, sockets[i], scene_place(sockets[i])))
				_exit(1);
		}
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_string_equal(scene.fake.log, "");
	await(has_guardian(pid));
	assert_int_equal(kill(signum == SIGKILL ? pid : -pid, signum), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(ready[0]);
}

static void a_killed_broker_is_made_up_for(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const char *const sockets[] = {scene.socket, addr.sun_path};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* Of the other one only the socket file is left. */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/left", scene.dir);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	arm_and_die(sockets, 2, SIGKILL);
	await(strcmp(scene.fake.log, "cont ") == 0);
	unlink(addr.sun_path);
}

static void what_ends_the_group_leaves_the_guardian(void **state)
{
	static const int signums[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	const char *const sockets[] = {scene.socket};

	for (size_t i = 0; i < sizeof(signums) / sizeof(signums[0]); i++) {
		arm_and_die(sockets, 1, signums[i]);
		await(strcmp(scene.fake.log, "cont ") == 0);
		await(!scene.fake.connected);
		scene.fake.log[0] = '\0';
	}
}

/* Of two QEMUs one hangs: it accepts, and says nothing. */
static void one_that_hangs_delays_no_other(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *const sockets[] = {addr.sun_path, scene.socket, addr.sun_path};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/silent", scene.dir);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 4), 0);
	arm_and_die(sockets, 3, SIGKILL);
	await(strcmp(scene.fake.log, "cont ") == 0);
	unlink(addr.sun_path);
	close(fd);
}

/* Neither what the broker had open nor its standard streams. */
static void the_guardian_holds_nothing(void **state)
{
	struct guardian *guardian;
	struct rlimit limit;
	int fds[2], saved = dup(STDOUT_FILENO), high;
	struct pollfd end;
	char byte;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(pipe(fds), 0);
	high = fcntl(fds[1], F_DUPFD, limit.rlim_max > 1100 ? 1100 : 20);
	assert_true(high > 0);
	assert_int_equal(dup2(fds[1], STDOUT_FILENO), STDOUT_FILENO);
	assert_int_equal(guardian_start(&guardian, NULL), 0);
	assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
	close(saved);
	close(high);
	close(fds[1]);
	/* The end of it: nobody else can write. */
	end = (struct pollfd){.fd = fds[0], .events = POLLIN};
	assert_int_equal(poll(&end, 1, PATIENCE_MS), 1);
	assert_int_equal(read(fds[0], &byte, 1), 0);
	close(fds[0]);
	guardian_stop(guardian);
}

/* It says so, and who is armed stays armed. */
static void one_guest_too_many_harms_no_other(void **state)
{
	static const char *const names[] = {"b", "c", "d", "e", "f", "g", "h", "i"};
	size_t n = sizeof(names) / sizeof(names[0]);
	int place = scene_place(scene.socket), free_fd = dup(place);
	struct rlimit limit, few;
	struct guardian *guardian;

	link_close(&scene.link);
	await(!scene.fake.connected);
	scene.fake.status = "paused";
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = limit;
	/* Room for what it needs itself, and not for all of these. */
	few.rlim_cur = (rlim_t)free_fd + 2;
	close(free_fd);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(guardian_start(&guardian, NULL), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(guardian_arm(guardian, scene.socket, place), 0);
	for (size_t round = 0; round < few.rlim_cur; round++) {
		assert_int_equal(guardian_arm(guardian, names[round % n], place), 0);
	}
	await(guardian_has_refused(guardian, names[(few.rlim_cur - 1) % n]));
	assert_false(guardian_has_refused(guardian, scene.socket));
	guardian_release(guardian, scene.socket);
	await(strcmp(scene.fake.log, "cont ") == 0);
	close(place);
	for (size_t i = 0; i < n; i++)
		guardian_disarm(guardian, names[i]);
	guardian_stop(guardian);
	assert_true(guardian_has_refused(NULL, scene.socket));
}

static void a_disarmed_guardian_does_nothing(void **state)
{
	struct guardian *guardian;
	int place = scene_place(scene.socket);

	link_close(&scene.link);
	await(!scene.fake.connected);
	assert_int_equal(guardian_start(&guardian, NULL), 0);
	assert_int_equal(guardian_arm(guardian, scene.socket, -1), -EBADF);
	assert_int_equal(guardian_arm(guardian, scene.socket, place), 0);
	guardian_disarm(guardian, scene.socket);
	/* Waits for its end. */
	guardian_stop(guardian);
	uv_run(&scene.loop, UV_RUN_NOWAIT);
	assert_int_equal(scene.fake.accepted, 1);
	assert_int_equal(guardian_arm(NULL, scene.socket, place), -ENOENT);
	close(place);
}

/* What the name means when the time comes does not matter: the guest that was stopped goes on. */
static void a_planted_name_does_not_lead_the_guardian_astray(void **state)
{
	struct guardian *guardian;
	int place = scene_place(scene.socket);

	link_close(&scene.link);
	await(!scene.fake.connected);
	scene.fake.status = "paused";
	assert_int_equal(guardian_start(&guardian, NULL), 0);
	assert_int_equal(guardian_arm(guardian, scene.socket, place), 0);
	close(place);
	assert_int_equal(unlink(scene.socket), 0);
	assert_int_equal(symlink("/nonexistent", scene.socket), 0);
	guardian_release(guardian, scene.socket);
	await(strcmp(scene.fake.log, "cont ") == 0);
	guardian_stop(guardian);
}

static bool tell_ward(const char *ward, int process)
{
	return write(process, ward, strlen(ward)) > 0;
}

/* A guest without a socket goes on by the function that the guardian was given for such. */
static void a_ward_is_rescued_by_its_own_way(void **state)
{
	char long_ward[GUARDIAN_WARD_MAX + 1], told[32] = "";
	struct guardian *guardian;
	int fds[2];

	memset(long_ward, 'w', sizeof(long_ward) - 1);
	long_ward[sizeof(long_ward) - 1] = '\0';
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(guardian_start(&guardian, tell_ward), 0);
	assert_int_equal(guardian_arm_ward(guardian, "vm0", "who", -1), -EBADF);
	assert_int_equal(guardian_arm_ward(guardian, "vm0", long_ward, fds[1]), -ENAMETOOLONG);
	assert_int_equal(guardian_arm_ward(guardian, "vm0", "disarmed", fds[1]), 0);
	guardian_disarm(guardian, "vm0");
	assert_int_equal(guardian_arm_ward(guardian, "vm1", "ward", fds[1]), 0);
	close(fds[1]);
	/* As the broker's death. */
	guardian_stop(guardian);
	assert_int_equal(read(fds[0], told, sizeof(told) - 1), 4);
	assert_string_equal(told, "ward");
	assert_int_equal(read(fds[0], told, sizeof(told) - 1), 0);
	close(fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_killed_broker_is_made_up_for),
		TEST(what_ends_the_group_leaves_the_guardian),
		TEST(one_that_hangs_delays_no_other),
		TEST(the_guardian_holds_nothing),
		TEST(one_guest_too_many_harms_no_other),
		TEST(a_disarmed_guardian_does_nothing),
		TEST(a_ward_is_rescued_by_its_own_way),
		TEST(a_planted_name_does_not_lead_the_guardian_astray),
	};

	/* As in vmsigd. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
