/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One allocation of a program fails, one after another, from its start to its end: it does what it
 * was asked for, or says in words what it could not, and never dies of it. What it says it has done
 * is done. The programs are vmsigctl, with the library behind its commands, the shim, and a broker
 * that starts.
 *
 *   test_starve_programs [--every]     each allocation; the default is for every day
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fault/session.h"
#include "tests/fault/starving.h"

#define ALLOCATIONS_MAX 1000000 /* far more than there are */
#define PATIENCE_MS 500
#define WORDS_MAX 16
#define TEXT_MAX 65536
#define BULK (500u << 10) /* bytes of a write that is bulk data */
#define HANG_S 120        /* that only a program reaches which waits for ever */

static unsigned step = 4999;

static struct session session;
static struct starving starving;

struct program {
	const char *path;
	const char *words[WORDS_MAX]; /* the first one is its name */
	const char *script;           /* on its standard input */
	bool writes;                  /* the test's word, at SESSION_ADDR of w1 */
	bool admin;                   /* with root's keys */
};

#define WORD 0x1122334455667788u
#define WORD_TEXT "0x1122334455667788"

static char bulk[BULK + 1];

static const struct program programs[] = {
	{VMSIGCTL, {"vmsigctl", "read", "--phys", "w1", "0x3000", "8"}, .script = ""},
	{VMSIGCTL, {"vmsigctl", "ls", "--json"}, .script = ""},
	{VMSIGCTL, {"vmsigctl", "info", "w1"}, .script = ""},
	{VMSIGCTL, {"vmsigctl", "scan", "w1", "abc", "--limit", "1"}, .script = ""},
	{VMSIGCTL,
		{"vmsigctl", "write", "w1", "0x3000", "--phys", "--u64", WORD_TEXT, "--show-old"},
		.script = "", .writes = true},
	{VMSIGCTL, {"vmsigctl", "undo", "--list"}, .script = ""},
	{VMSIGCTL, {"vmsigctl", "lease", "acquire", "w1", "--range", "0x3000+8", "--", "true"},
		.script = ""},
	{VMSIGCTL, {"vmsigctl", "lease", "ls"}, .script = ""},
	{VMSIGCTL, {"vmsigctl", "status", "--json"}, .script = "", .admin = true},
	{VMSIGCTL, {"vmsigctl", "clients"}, .script = "", .admin = true},
	{VMSIGCTL, {"vmsigctl", "stats"}, .script = "", .admin = true},
	{VMSIGCTL, {"vmsigctl", "audit", "ls", "--limit", "3"}, .script = "", .admin = true},
	{VMSIGCTL, {"vmsigctl", "audit", "verify"}, .script = "", .admin = true},
	{VMSIGCTL, {"vmsigctl", "audit", "export"}, .script = "", .admin = true},
	{VMSIGCTL, {"vmsigctl", "exec", "w1", "--", "true"}, .script = ""},
	{VMSIGCTL, {"vmsigctl", "watch", "--count", "1"}, .script = ""},
	{VMSIGCTL, {"vmsigctl", "dump", "w1", "-o", "-", "--format", "raw"}, .script = ""},
	{VMSIGCTL, {"vmsigctl", "write", "w1", "0x8000", "--phys", "--file", "-"}, .script = bulk},
	{VMSIG_SHIM, {"vmsig-shim", "w1"},
		.script = "peek 0x3000 8 phys\npoke 0x3000 u64 " WORD_TEXT " phys\n"},
};

/* ---- the surroundings ---- */

static void link_key(const char *dir, const char *target, const char *name)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(symlink(target, path), 0);
}

static void set_path(const char *variable, const char *dir, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	setenv(variable, path, 1);
}

static char admin_identity[PATH_MAX], said_path[PATH_MAX], script_path[PATH_MAX];

static void surround(struct desk_scene *scene)
{
	const char *dir = daemon_dir(scene->daemon);

	session_init(&session, scene, "run/write.sock", PATIENCE_MS);
	snprintf(admin_identity, sizeof(admin_identity), "%s/admin-id", dir);
	assert_int_equal(mkdir(admin_identity, 0700), 0);
	link_key(admin_identity, pki_ca(daemon_pki(scene->daemon)), "ca.pem");
	link_key(admin_identity, scene->admin.cert, "cert.pem");
	link_key(admin_identity, scene->admin.key, "key.pem");
	setenv("VMSIG_SOCKET", daemon_socket(scene->daemon), 1);
	set_path("VMSIG_WRITE_SOCKET", dir, "run/write.sock");
	set_path("VMSIG_ADMIN_SOCKET", dir, "run/admin.sock");
	set_path("VMSIG_UNDO_DIR", dir, "undo");
	set_path("VMSIG_SHIM_HISTORY", dir, "history");
	snprintf(said_path, sizeof(said_path), "%s/said", dir);
	snprintf(script_path, sizeof(script_path), "%s/script", dir);
}

static int setup(void **state)
{
	int r = desk_scene_setup(state);
	struct desk_scene *scene = *state;

	assert_int_equal(r, 0);
	memset(bulk, 'b', BULK);
	desk_scene_configure(scene, "{resume_grace: 1ms}", "leases: 16, bulk: 1MiB");
	desk_scene_reload(scene);
	surround(scene);
	starving_init(&starving, daemon_dir(scene->daemon));
	return 0;
}

static int teardown(void **state)
{
	starving_deinit(&starving);
	return desk_scene_teardown(state);
}

/* ---- a program ---- */

static int open_new(const char *path, const char *text)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static pid_t spawn(const char *path, const char *const *words, const char *script)
{
	int input = open_new(script_path, script), output = open_new(said_path, "");
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(input, STDIN_FILENO);
		dup2(output, STDOUT_FILENO);
		dup2(output, STDERR_FILENO);
		alarm(HANG_S);
		starving_preload(&starving, true);
		execv(path, (char *const *)(uintptr_t)words);
		_exit(127);
	}
	close(input);
	close(output);
	return pid;
}

/* What it has said by now. */
static const char *said(void)
{
	static char text[TEXT_MAX];
	int fd = open(said_path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n >= 0);
	text[n] = '\0';
	close(fd);
	return text;
}

static void check_end(const char *name, uint32_t at, int status)
{
	if (!WIFEXITED(status))
		fail_msg("%s died of allocation %u by signal %d: %s", name, at, WTERMSIG(status),
			said());
	if (WEXITSTATUS(status) && !said()[0])
		fail_msg("%s failed at allocation %u without a word", name, at);
}

/* All of it is written, or nothing; and what it says it has done is done. */
static void check_word(
	struct desk_scene *scene, const struct program *program, uint32_t at, int status)
{
	uint64_t word = session_word(scene);

	if (word != WORD && (word || !status))
		fail_msg("%s without allocation %u ends with %d, and the word is 0x%llx: %s",
			program->words[1], at, status, (unsigned long long)word, said());
}

static void clear_word(struct desk_scene *scene)
{
	const uint64_t none = 0;

	desk_scene_poke(scene, "w1", SESSION_ADDR, &none, sizeof(none));
}

static int run(const struct program *program, uint32_t at, bool *ret_failed)
{
	int status;
	pid_t pid;

	setenv("VMSIG_IDENTITY", program->admin ? admin_identity : session.identity, 1);
	starving_fail_at(&starving, at);
	pid = spawn(program->path, program->words, program->script);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	*ret_failed = starving_has_failed(&starving, at);
	return status;
}

static void starve_program(struct desk_scene *scene, const struct program *program)
{
	char name[64];
	bool failed = true;
	unsigned n = 0;
	int status;

	snprintf(name, sizeof(name), "%s %s", program->words[0], program->words[1]);
	for (uint32_t at = 1; failed; at += step, n++) {
		assert_true(at < ALLOCATIONS_MAX);
		if (program->writes)
			clear_word(scene);
		status = run(program, at, &failed);
		check_end(name, at, status);
		if (program->writes)
			check_word(scene, program, at, status);
	}
	print_message("%s: %u times\n", name, n);
	assert_true(n > 1);
	/* It was the memory. */
	status = run(program, 0, &failed);
	if (status)
		fail_msg("%s fails with all memory, with %d: %s", name, status, said());
}

static void programs_say_so(void **state)
{
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
		starve_program(*state, &programs[i]);
}

/* ---- a broker that starts ---- */

/* Until it is ready, or has ended. Its wait status. */
static int run_broker(const char *const *words)
{
	pid_t pid = spawn(VMSIGD, words, "");
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (strstr(said(), "vmsigd is ready")) {
			kill(pid, SIGTERM);
			assert_int_equal(waitpid(pid, &status, 0), pid);
			break;
		}
		usleep(1000);
	}
	return status;
}

static void a_broker_starts_or_says_why_not(void **state)
{
	struct desk_scene *scene = *state;
	const char *const words[] = {"vmsigd", "-c", daemon_config(scene->daemon), NULL};
	unsigned n = 0, started = 0;
	bool failed = true;

	daemon_await_fds(scene->daemon, scene->fds);
	assert_int_equal(daemon_stop(scene->daemon, SIGTERM), 0);
	for (uint32_t at = 1; failed; at += step, n++) {
		int status;

		assert_true(at < ALLOCATIONS_MAX);
		starving_fail_at(&starving, at);
		status = run_broker(words);
		failed = starving_has_failed(&starving, at);
		check_end("vmsigd", at, status);
		started += !status;
	}
	print_message("%u allocations, %u brokers started\n", n, started);
	assert_true(n > 1 && started > 0);
	desk_scene_start(scene);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(programs_say_so),
		TEST(a_broker_starts_or_says_why_not),
	};

	if (argc > 1 && strcmp(argv[1], "--every") == 0)
		step = 1;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
