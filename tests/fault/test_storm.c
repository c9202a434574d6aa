/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operators that compete for the same words, one of them standing still past its TTL now and
 * then, while the broker is killed again and again. After each kill the log is verified, and in the
 * end the history is judged.
 *
 *   test_storm [--rounds N]     at least N kills, KILLS of each history; the default is for every
 * day
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/fault/history.h"
#include "vmsig/vmsig_write.h"

#define OPERATORS 3
#define KILLS 20
#define WORDS 8
#define FIRST 0x4000u
#define TTL_MS 1000u
#define BATCH 16 /* writes under one lease */
#define WAIT_MS 60000

static unsigned histories = 1, history_number;

static void nap(long ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&time, &time) < 0 && errno == EINTR)
		;
}

/* ---- an operator, in a process of its own ---- */

static void link_identity(const char *dir, const char *target, const char *name)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (symlink(target, path) < 0)
		_exit(3);
}

static vmsig_writer *open_writer(struct desk_scene *scene, int number)
{
	const struct pki_cert *cert = number % 2 ? &scene->bob : &scene->alice;
	char dir[PATH_MAX], socket[PATH_MAX], error[256] = "";
	const vmsig_options options = {.identity_dir = dir,
		.socket_path = socket,
		.backoff_min_ms = 2,
		.backoff_max_ms = 20};
	vmsig_writer *writer;

	snprintf(dir, sizeof(dir), "%s/operator-%d", daemon_dir(scene->daemon), number);
	snprintf(socket, sizeof(socket), "%s/run/write.sock", daemon_dir(scene->daemon));
	if (mkdir(dir, 0700) < 0)
		_exit(3);
	link_identity(dir, pki_ca(daemon_pki(scene->daemon)), "ca.pem");
	link_identity(dir, cert->cert, "cert.pem");
	link_identity(dir, cert->key, "key.pem");
	if (vmsig_writer_open(&writer, &options, error, sizeof(error)))
		_exit(4);
	return writer;
}

static void on_outcome(void *arg, const vmsig_write_result *result)
{
	unsigned *left = arg;

	(*left)--;
}

/* Some words under one lease, whatever becomes of it. */
static void work(vmsig_writer *writer, unsigned *seed)
{
	uint64_t start = FIRST + rand_r(seed) % 2 * 16;
	const vmsig_lease_range range = {.start = start, .last = start + 8 * WORDS - 17};
	const vmsig_lease_request request = {.endpoint = "w1",
		.ranges = &range,
		.nranges = 1,
		.ttl_ms = TTL_MS,
		.wait_ms = 2000};
	vmsig_lease *lease;
	unsigned left = 0;

	if (vmsig_lease_acquire_wait(writer, &request, &lease, WAIT_MS))
		return;
	for (int i = 0; i < BATCH; i++) {
		uint64_t word = (uint64_t)rand_r(seed) << 32 | (uint64_t)rand_r(seed);
		const vmsig_write_op op = {
			.addr = start + 8 * (uint64_t)(rand_r(seed) % (WORDS - 2)),
			.data = &word,
			.len = sizeof(word)};

		left += vmsig_write(lease, &op, 1, 0, on_outcome, &left) == 0;
	}
	for (int i = 0; left && i < 200; i++) {
		vmsig_writer_event event;

		if (vmsig_writer_wait(writer, &event, 50) == 0 && event.kind == VMSIG_WEV_LOST)
			break;
	}
	/* Calls back what has no outcome. */
	vmsig_lease_free(lease);
}

static volatile sig_atomic_t ending;

static void on_term(int signum)
{
	ending = 1;
}

static pid_t operator_start(struct desk_scene *scene, int number)
{
	unsigned seed = (unsigned)number * 7919 + history_number;
	vmsig_writer *writer;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, on_term);
	writer = open_writer(scene, number);
	while (!ending)
		work(writer, &seed);
	vmsig_writer_close(writer);
	_exit(0);
}

/* ---- the storm ---- */

static void the_history_keeps_the_rules(void **state)
{
	struct history_word words[WORDS];
	struct desk_scene *scene = *state;
	pid_t pids[OPERATORS];
	unsigned seed = ++history_number;
	int status;

	desk_scene_configure(scene, "{resume_grace: 500ms, preempt_grace: 200ms}", "leases: 16");
	desk_scene_restart(scene, SIGTERM);
	for (int i = 0; i < OPERATORS; i++)
		pids[i] = operator_start(scene, i);
	for (int i = 0; i < KILLS; i++) {
		nap(20 + rand_r(&seed) % 120);
		if (i % 5 == 2)
			kill(pids[i % OPERATORS], SIGSTOP);
		desk_scene_restart(scene, SIGKILL);
		history_check(scene, NULL, 0);
		if (i % 5 == 2) {
			nap(TTL_MS + 100);
			kill(pids[i % OPERATORS], SIGCONT);
		}
	}
	nap(300);
	for (int i = 0; i < OPERATORS; i++) {
		kill(pids[i], SIGTERM);
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	for (size_t i = 0; i < WORDS; i++)
		words[i] = (struct history_word){.endpoint = "w1", .addr = FIRST + 8 * i};
	assert_true(history_check(scene, words, WORDS) > KILLS);
}

int main(int argc, char **argv)
{
	struct CMUnitTest *tests;
	int r;

	if (argc == 3 && strcmp(argv[1], "--rounds") == 0)
		histories = ((unsigned)strtoul(argv[2], NULL, 10) + KILLS - 1) / KILLS;
	tests = calloc(histories, sizeof(*tests));
	if (!tests)
		return 1;
	for (unsigned i = 0; i < histories; i++)
		tests[i] = (struct CMUnitTest)cmocka_unit_test_setup_teardown(
			the_history_keeps_the_rules, desk_scene_setup, desk_scene_teardown);
	r = _cmocka_run_group_tests("storm", tests, histories, NULL, NULL);
	free(tests);
	return r;
}
