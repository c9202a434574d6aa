/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors run out: of the broker, which may open one more, two more ..., while somebody has a
 * session with it; and of vmsigctl, from its first descriptor on. What there is none for is refused
 * or fails in words, nothing is half done, and with descriptors again all is as it was.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fault/history.h"
#include "tests/fault/session.h"

#define FREE_MAX 16 /* descriptors that the broker may open; more than a session takes */
#define FDS_MAX 1024
#define OWN_MIN 3  /* vmsigctl has standard input, output and error */
#define OWN_MAX 24 /* far more than it takes */
#define PATIENCE_MS 500
#define GIVEN_UP "guest session ended"

static struct session session;

static int setup(void **state)
{
	int r = desk_scene_setup(state);

	assert_int_equal(r, 0);
	session_init(&session, *state, "run/write.sock", PATIENCE_MS);
	return 0;
}

/* The limit with which the process may open so many more. */
static rlim_t limit_for(pid_t pid, unsigned more)
{
	bool used[FDS_MAX] = {false};
	struct dirent *entry;
	char path[64];
	DIR *dir;
	rlim_t limit = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		long number = strtol(entry->d_name, NULL, 10);

		if (entry->d_name[0] != '.' && number < FDS_MAX)
			used[number] = true;
	}
	closedir(dir);
	for (unsigned found = 0; limit < FDS_MAX && found + used[limit] <= more; limit++)
		found += !used[limit];
	return limit;
}

static void limit_fds(pid_t pid, rlim_t limit)
{
	struct rlimit now;

	assert_int_equal(prlimit(pid, RLIMIT_NOFILE, NULL, &now), 0);
	now.rlim_cur = limit < now.rlim_max ? limit : now.rlim_max;
	assert_int_equal(prlimit(pid, RLIMIT_NOFILE, &now, NULL), 0);
}

static void the_broker_has_none_left(void **state)
{
	const struct history_word words[] = {{"w1", SESSION_ADDR}, {"w2", SESSION_ADDR}};
	struct desk_scene *scene = *state;
	pid_t pid = daemon_pid(scene->daemon);
	unsigned refused = 0;

	desk_scene_configure(scene, "{resume_grace: 1ms}", "leases: 16");
	desk_scene_reload(scene);
	for (unsigned more = 0; more <= FREE_MAX; more++) {
		uint64_t before = session_word(scene), word = 1 + more;
		int r;

		limit_fds(pid, limit_for(pid, more));
		r = session_run(&session, word);
		refused += r != 0;
		if (session_word(scene) != word)
			assert_true(r && session_word(scene) == before);
		limit_fds(pid, RLIM_INFINITY);
		/* A want of the broker's says nothing of a guest. */
		if (daemon_log_count(scene->daemon, GIVEN_UP))
			fail_msg("with %u descriptors a guest was given up:\n%s", more,
				strstr(daemon_log(scene->daemon), GIVEN_UP));
		session_of_another(scene, word);
		daemon_await_fds(scene->daemon, scene->fds);
	}
	print_message("%u of %u sessions failed\n", refused, FREE_MAX + 1);
	assert_true(refused > 0);
	assert_true(history_check(scene, words, 2) > 0);
}

/* ---- vmsigctl ---- */

/* Its wait status, with at most so many descriptors; what it said is in ret_text. */
static int ctl(const char *const *arguments, rlim_t limit, char ret_text[static 512])
{
	const struct rlimit few = {limit, limit};
	int ends[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		setrlimit(RLIMIT_NOFILE, &few);
		execv(VMSIGCTL, (char *const *)(uintptr_t)arguments);
		_exit(127);
	}
	close(ends[1]);
	while (len < 511 && (n = read(ends[0], ret_text + len, 511 - len)) > 0)
		len += (size_t)n;
	ret_text[len] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* From where not even its libraries can be loaded to where it does what it is asked. */
static void until_it_works(const char *const *arguments)
{
	char text[512] = "";
	int status = -1;
	rlim_t limit = OWN_MIN;

	for (; status && limit < OWN_MAX; limit++) {
		status = ctl(arguments, limit, text);
		if (!WIFEXITED(status))
			fail_msg("with %u descriptors it died by signal %d: %s", (unsigned)limit,
				WTERMSIG(status), text);
		if (status && !text[0])
			fail_msg("with %u descriptors it failed without a word", (unsigned)limit);
	}
	if (status)
		fail_msg("with %u descriptors: %s", OWN_MAX, text);
	assert_true(limit > OWN_MIN + 1);
}

static void vmsigctl_has_none_left(void **state)
{
	struct desk_scene *scene = *state;
	char ctx[PATH_MAX];
	const char *const list[] = {
		"vmsigctl", "--identity", session.identity, "--socket", ctx, "ls", NULL};
	const char *const read[] = {"vmsigctl", "--identity", session.identity, "--socket", ctx,
		"read", "--phys", "w1", "0x3000", "8", NULL};
	const char *const write[] = {"vmsigctl", "--identity", session.identity, "--socket",
		session.socket, "write", "--phys", "--no-undo", "w1", "0x3000", "--u64", "7", NULL};

	snprintf(ctx, sizeof(ctx), "%s", daemon_socket(scene->daemon));
	until_it_works(list);
	until_it_works(read);
	until_it_works(write);
	session_of_another(scene, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, desk_scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_broker_has_none_left),
		TEST(vmsigctl_has_none_left),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
