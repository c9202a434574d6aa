/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing a real guest's memory through the broker, beside the ways without one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/desk.h"
#include "tests/bench/sensor.h"
#include "tests/bench/today.h"
#include "vmsig/vmsig_mem.h"

#define PAGE 4096u

/* today_WAY_read_4k */
static void parse(const char *row, char way[static 16], size_t *ret_len, bool *ret_writes)
{
	char verb[8], size[4];

	if (sscanf(row, "today_%15[^_]_%7[^_]_%3s", way, verb, size) != 3)
		bench_die("'%s' is no row of today's ways", row);
	*ret_len = strcmp(size, "4k") == 0 ? PAGE : sizeof(uint64_t);
	*ret_writes = strcmp(verb, "write") == 0;
}

static void read_both(const struct bench *bench, struct today *today, size_t len, unsigned n)
{
	uint64_t *times = bench_times(n), *ours = bench_times(n), kcr3;
	vmsig_mem *mem = sensor_context(bench, &kcr3);
	uint8_t buf[PAGE], theirs[PAGE];

	for (unsigned round = 0; round < bench->rounds; round++) {
		for (unsigned i = 0; i < n; i++) {
			uint64_t began = bench_now();

			today_read(today, bench->at, theirs, len);
			times[i] = bench_now() - began;
		}
		for (unsigned i = 0; i < n; i++) {
			uint64_t began = bench_now();

			if (vmsig_phys_read(mem, bench->at, buf, len))
				bench_die("a read failed");
			ours[i] = bench_now() - began;
		}
		if (memcmp(buf, theirs, len) != 0)
			bench_die("the broker's RAM is not what QEMU says it is");
		bench_report(
			bench->row, bench_percentile(ours, n, 50), bench_percentile(times, n, 50));
	}
	vmsig_mem_close(mem);
	free(times);
	free(ours);
}

static void write_both(const struct bench *bench, struct today *today, unsigned n)
{
	uint64_t *times = bench_times(n), *ours = bench_times(n), word = 0;
	struct desk desk;

	desk_open(&desk, bench, bench->run, "vm");
	desk.word_at = bench->at;
	for (unsigned round = 0; round < bench->rounds; round++) {
		for (unsigned i = 0; i < n; i++) {
			uint64_t began = bench_now();

			word++;
			today_write(today, bench->at, &word, sizeof(word));
			times[i] = bench_now() - began;
		}
		desk_write_words(&desk, n, ours);
		bench_report(
			bench->row, bench_percentile(ours, n, 50), bench_percentile(times, n, 50));
	}
	desk_close(&desk);
	free(times);
	free(ours);
}

void row_today(const struct bench *bench)
{
	unsigned n = bench_count(bench, 300, 5);
	struct today *today;
	char way[16];
	size_t len;
	bool writes;

	parse(bench->row, way, &len, &writes);
	today = today_open(bench, way);
	if (!today)
		bench_die("there is no way '%s'", way);
	if (writes)
		write_both(bench, today, n);
	else
		read_both(bench, today, len, n);
	today_close(today);
}
