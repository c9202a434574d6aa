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

#include "tests/bench/crowd.h"
#include "tests/bench/desk.h"

#define STORM 1000u     /* connections that come at once */
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

static double storm_p99(const struct bench *bench, struct desk *desk, uint64_t *times)
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
		.window = STORM};
	struct crowd_child child;
	unsigned n = 0;

	child_start(&child, &spec, false);
	while (!is_over(&child) && n + BATCH <= SAMPLES) {
		desk_write_words(desk, BATCH, times + n);
		n += BATCH;
	}
	close(child.up);
	return bench_percentile(times, n, 99);
}

void row_write_storm(const struct bench *bench)
{
	unsigned n = bench_count(bench, 5000, 100);
	uint64_t *times = bench_times(SAMPLES);
	struct desk desk;

	desk_open(&desk, bench, bench->run, "vm");
	for (unsigned i = 0; i < bench->rounds; i++) {
		double calm;

		desk_write_words(&desk, n, times);
		calm = bench_percentile(times, n, 99);
		bench_report(bench->row, storm_p99(bench, &desk, times), calm);
	}
	desk_close(&desk);
	free(times);
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
