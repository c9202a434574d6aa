/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmsig-bench ROW KEY=VALUE...: one row of the benchmark against a broker that runs. Meant to be
 * called by `run`. Prints "NAME VALUE BASELINE" for each round.
 */
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/bench/bench.h"

static const struct {
	const char *name;
	void (*run)(const struct bench *bench);
} rows[] = {
	{"image", row_image},
	{"cmd_memwrite_8b", row_write_8b},
	{"cmd_memwrite_8b_grown", row_write_grown},
	{"cmd_memwrite_8b_fleet", row_write_grown},
	{"reset_all", row_reset_all},
	{"cmd_memwrite_8b_storm_p99", row_write_storm},
	{"echo_8b_storm_p99", row_echo_storm},
	{"cmd_memwrite_4k_pipelined", row_write_4k},
	{"bulk_64m", row_bulk},
	{"memctx_fanout_1000", row_fanout},
	{"idle_subscriber_memory", row_idle},
	{"subscribe_first_memctx", row_subscribe},
	{"floor_memwrite_8b", row_floor_8b},
	{"floor_memwrite_4k_pipelined", row_floor_4k},
	{"floor_memctx_fanout_1000", row_floor_fanout},
	{"floor_subscribe_first_memctx", row_floor_subscribe},
	{"floor_coherent_read_4k", row_floor_read_4k},
	{"coherent_read_4k", row_read_4k},
	{"coherent_read_8b", row_read_8b},
	{"percept_list", row_percept},
	{"percept_open", row_percept},
	{"flood_frames", row_flood},
	{"flood_globs", row_flood},
	{"flood_unread", row_flood},
	{"flood_waiters", row_flood},
	{"flood_bulk", row_flood},
	{"flood_refusals", row_flood},
	{"flood_churn", row_flood},
	{"flood_silent", row_flood},
	{"today_xp_read_8b", row_today},
	{"today_gdbstub_read_8b", row_today},
	{"today_gdbstub_read_4k", row_today},
	{"today_pmemsave_read_4k", row_today},
	{"today_procmem_read_8b", row_today},
	{"today_procmem_read_4k", row_today},
	{"today_gdbstub_write_8b", row_today},
};

uint64_t bench_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

unsigned bench_count(const struct bench *bench, unsigned many, unsigned few)
{
	return bench->quick ? few : many;
}

uint64_t *bench_times(unsigned n)
{
	uint64_t *times = calloc(n, sizeof(*times));

	if (!times)
		bench_die("out of memory for %u times", n);
	return times;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

double bench_percentile(uint64_t *times, unsigned n, unsigned percent)
{
	qsort(times, n, sizeof(*times), compare);
	return (double)times[(size_t)n * percent / 100] / 1000;
}

void bench_report(const char *name, double value, double baseline)
{
	printf("%s %.6g %.6g\n", name, value, baseline);
	fflush(stdout);
}

void bench_die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "vmsig-bench: ");
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

const char *bench_path(char path[], size_t size, const char *folder, const char *name)
{
	int n = snprintf(path, size, "%s/%s", folder, name);

	if (n < 0 || (size_t)n >= size)
		bench_die("%s/%s is too long for a path", folder, name);
	return path;
}

static const char *value_of(char **words, const char *key)
{
	size_t len = strlen(key);

	for (; *words; words++) {
		if (strncmp(*words, key, len) == 0 && (*words)[len] == '=')
			return *words + len + 1;
	}
	return NULL;
}

static long number_of(char **words, const char *key, long standard)
{
	const char *value = value_of(words, key);

	return value ? strtol(value, NULL, 0) : standard;
}

/* Thousands of connections, on both sides. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int main(int argc, char **argv)
{
	struct bench bench;

	if (argc < 2)
		bench_die("usage: vmsig-bench ROW KEY=VALUE...");
	bench = (struct bench){.row = argv[1],
		.run = value_of(argv + 2, "run"),
		.ram = value_of(argv + 2, "ram"),
		.pki = value_of(argv + 2, "pki"),
		.scratch = value_of(argv + 2, "scratch"),
		.baseline = value_of(argv + 2, "baseline"),
		.grown = {.endpoints = (unsigned)number_of(argv + 2, "endpoints", 1),
			.tenants = (unsigned)number_of(argv + 2, "tenants", 1),
			.connections = (unsigned)number_of(argv + 2, "connections", 0)},
		.guest = value_of(argv + 2, "guest"),
		.guest_ram = value_of(argv + 2, "guest_ram"),
		.qemu = (pid_t)number_of(argv + 2, "qemu", 0),
		.at = (uint64_t)number_of(argv + 2, "at", 0),
		.broker = (pid_t)number_of(argv + 2, "broker", 0),
		.rounds = (unsigned)number_of(argv + 2, "rounds", 5),
		.quick = number_of(argv + 2, "quick", 0) != 0};
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	raise_descriptors();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].name, bench.row) == 0) {
			rows[i].run(&bench);
			return 0;
		}
	}
	bench_die("there is no row '%s'", bench.row);
}
