/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One allocation fails: of vmsigd while somebody has a session with it, of vmsigctl from its start
 * on, one after another. Whoever is concerned is refused or told in words, nobody dies of it, and
 * what comes next is as if nothing had been.
 *
 *   test_starve [--every]     each allocation; the default is for every day
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fault/history.h"
#include "tests/fault/session.h"
#include "tests/fault/starve.h"

#define ALLOCATIONS_MAX 1000000 /* far more than there are */
#define PATIENCE_MS 500

static unsigned step = 97;

static struct session session;
static struct starve *shared;
static char shared_path[PATH_MAX];

static void share(struct desk_scene *scene)
{
	int fd;

	snprintf(shared_path, sizeof(shared_path), "%s/starve", daemon_dir(scene->daemon));
	fd = open(shared_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(*shared)), 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(shared != MAP_FAILED);
	close(fd);
}

static void fail_at(uint32_t at)
{
	__atomic_store_n(&shared->count, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&shared->at, at, __ATOMIC_SEQ_CST);
}

/* Whether there were that many; none fails any more. */
static bool has_failed(uint32_t at)
{
	__atomic_store_n(&shared->at, 0, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&shared->count, __ATOMIC_SEQ_CST) >= at;
}

static int setup(void **state)
{
	int r = desk_scene_setup(state);
	struct desk_scene *scene = *state;

	assert_int_equal(r, 0);
	session_init(&session, scene, "run/write.sock", PATIENCE_MS);
	share(scene);
	desk_scene_configure(scene, "{resume_grace: 1ms}", "leases: 16");
	setenv("LD_PRELOAD", STARVE_LIBRARY, 1);
	setenv("STARVE_FILE", shared_path, 1);
	desk_scene_restart(scene, SIGTERM);
	unsetenv("LD_PRELOAD");
	unsetenv("STARVE_FILE");
	return 0;
}

static int teardown(void **state)
{
	munmap(shared, sizeof(*shared));
	return desk_scene_teardown(state);
}

static void the_broker_goes_on(void **state)
{
	const struct history_word words[] = {{"w1", SESSION_ADDR}, {"w2", SESSION_ADDR}};
	struct desk_scene *scene = *state;
	unsigned refused = 0, tried = 0;
	bool failed = true;

	for (uint32_t at = 1; failed; at += step, tried++) {
		uint64_t before = session_word(scene);
		int r;

		assert_true(at < ALLOCATIONS_MAX);
		fail_at(at);
		r = session_run(&session, at);
		failed = has_failed(at);
		refused += r != 0;
		if (!daemon_alive(scene->daemon))
			fail_msg("it died of allocation %u:\n%s", at, daemon_log(scene->daemon));
		if (session_word(scene) != at)
			assert_true(r && session_word(scene) == before);
		session_of_another(scene, at);
	}
	print_message("%u allocations, %u sessions failed\n", tried, refused);
	assert_true(tried > 3);
	assert_true(history_check(scene, words, 2) > 0);
}

/* Its wait status; what it said is in ret_text. */
static int ctl(const char *const *arguments, char ret_text[static 512])
{
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
		setenv("LD_PRELOAD", STARVE_LIBRARY, 1);
		setenv("STARVE_FILE", shared_path, 1);
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

static void vmsigctl_says_so(void **state)
{
	struct desk_scene *scene = *state;
	char text[512], ctx[PATH_MAX];
	const char *const read[] = {"vmsigctl", "--identity", session.identity, "--socket", ctx,
		"read", "--phys", "w1", "0x3000", "8", NULL};
	bool failed = true;

	/* The broker of this test has none that fail. */
	desk_scene_restart(scene, SIGTERM);
	snprintf(ctx, sizeof(ctx), "%s", daemon_socket(scene->daemon));
	for (uint32_t at = 1; failed; at += step) {
		int status;

		assert_true(at < ALLOCATIONS_MAX);
		fail_at(at);
		status = ctl(read, text);
		failed = has_failed(at);
		if (!WIFEXITED(status))
			fail_msg("it died of allocation %u by signal %d: %s", at, WTERMSIG(status),
				text);
		if (status && !text[0])
			fail_msg("it failed at allocation %u without a word", at);
	}
	assert_int_equal(ctl(read, text), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(the_broker_goes_on),
		TEST(vmsigctl_says_so),
	};

	if (argc > 1 && strcmp(argv[1], "--every") == 0)
		step = 1;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
