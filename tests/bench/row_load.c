/* SPDX-License-Identifier: Apache-2.0 */
/* Writes of 8 bytes while the broker has much else to do, or to know of. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bare.h"
#include "tests/bench/crowd.h"
#include "tests/bench/desk.h"
#include "tests/bench/line.h"

#define STORM 1000u     /* connections that come */
#define AT_ONCE 256u    /* of one uid: who waits behind more may end one that is slow */
#define BATCH 50u       /* writes between two looks at the storm */
#define SAMPLES 200000u /* latencies, at most */

/* A child that opens a crowd, tells that it is there, and ends or stays. */
struct crowd_child {
	pid_t pid;
	int up; /* read end: a byte when all members have their context */
};

static void child_start(struct crowd_child *child, const struct crowd_spec *spec, bool stays)
{
	int ends[2];

	if (pipe(ends) < 0 || (child->pid = fork()) < 0)
		bench_die("fork: %s", strerror(errno));
	if (child->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		crowd_open(spec);
		if (write(ends[1], "", 1) != 1)
			_exit(1);
		while (stays)
			pause();
		_exit(0);
	}
	close(ends[1]);
	child->up = ends[0];
}

static void child_await(struct crowd_child *child)
{
	char byte;

	if (read(child->up, &byte, 1) != 1)
		bench_die("the subscribers could not connect");
	close(child->up);
}

static void child_stop(struct crowd_child *child)
{
	kill(child->pid, SIGKILL);
	waitpid(child->pid, NULL, 0);
}

/* ---- many reconnections at once ---- */

static bool is_over(const struct crowd_child *child)
{
	int status;

	if (waitpid(child->pid, &status, WNOHANG) != child->pid)
		return false;
	if (status)
		bench_die("the storm failed");
	return true;
}

/* Somebody who asks and waits for the answer, `n` times. */
typedef void (*ask_fn)(void *asker, unsigned n, uint64_t *times);

static double storm_p99(const struct bench *bench, ask_fn ask, void *asker, uint64_t *times)
{
	char socket[108];
	const struct crowd_spec spec = {
		.socket = bench_path(socket, sizeof(socket), bench->run, "ctx.sock"),
		.pki = bench->pki,
		.identity = "sensor",
		.identities = 1,
		.endpoint = "reset",
		.endpoints = 1,
		.members = bench_count(bench, STORM, 20),
		.window = AT_ONCE};
	struct crowd_child child;
	unsigned n = 0;

	child_start(&child, &spec, false);
	while (!is_over(&child) && n + BATCH <= SAMPLES) {
		ask(asker, BATCH, times + n);
		n += BATCH;
	}
	close(child.up);
	return bench_percentile(times, n, 99);
}

static void row_storm(const struct bench *bench, ask_fn ask, void *asker)
{
	unsigned n = bench_count(bench, 5000, 100);
	uint64_t *times = bench_times(SAMPLES);

	for (unsigned i = 0; i < bench->rounds; i++) {
		double calm;

		ask(asker, n, times);
		calm = bench_percentile(times, n, 99);
		bench_report(bench->row, storm_p99(bench, ask, asker, times), calm);
	}
	free(times);
}

static void ask_words(void *asker, unsigned n, uint64_t *times)
{
	desk_write_words(asker, n, times);
}

void row_write_storm(const struct bench *bench)
{
	struct desk desk;

	desk_open(&desk, bench, bench->run, "vm");
	row_storm(bench, ask_words, &desk);
	desk_close(&desk);
}

static void ask_echoes(void *asker, unsigned n, uint64_t *times)
{
	desk_echo_words(asker, n, times);
}

/* Of a server that has nothing to do with the storm: what it does to the machine alone. */
void row_echo_storm(const struct bench *bench)
{
	struct tls_ctx *tls = line_tls(bench->pki, "operator", TLS_CLIENT);
	struct bare bare;
	struct chan *line;

	bare_start(&bare, bench);
	line = line_open(bare.socket, tls);
	row_storm(bench, ask_echoes, line);
	chan_free(line);
	bare_stop(&bare);
	tls_ctx_unref(tls);
}

/* ---- many endpoints, tenants and connections ---- */

void row_write_grown(const struct bench *bench)
{
	unsigned slice = bench_count(bench, 500, 10), n = slice * BENCH_SLICES;
	uint64_t *times = bench_times(n), *small_times = bench_times(n);
	char socket[108];
	const struct crowd_spec spec = {
		.socket = bench_path(socket, sizeof(socket), bench->run, "ctx.sock"),
		.pki = bench->pki,
		.identity = bench->grown.tenants > 1 ? "sensor-" : "sensor-0",
		.identities = bench->grown.tenants,
		.endpoint = bench->grown.endpoints > 1 ? "e" : "e0",
		.endpoints = bench->grown.endpoints,
		.members = bench->grown.connections,
		.window = 64};
	struct crowd_child child;
	struct desk desk, small;

	if (spec.members) {
		child_start(&child, &spec, true);
		child_await(&child);
	}
	desk_open(&desk, bench, bench->run, "vm");
	desk_open(&small, bench, bench->baseline, "vm");
	for (unsigned i = 0; i < bench->rounds; i++) {
		for (unsigned at = 0; at < n; at += slice) {
			desk_write_words(&small, slice, small_times + at);
			desk_write_words(&desk, slice, times + at);
		}
		bench_report(bench->row, bench_percentile(times, n, 50),
			bench_percentile(small_times, n, 50));
	}
	desk_close(&desk);
	desk_close(&small);
	if (spec.members)
		child_stop(&child);
	free(times);
	free(small_times);
}
