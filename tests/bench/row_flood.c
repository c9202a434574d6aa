/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an honest tenant notices of somebody else's flood: writes of 8 bytes, first contexts and
 * new connections, quiet and during it. A row for each, named after the flood.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/desk.h"
#include "tests/bench/flood.h"
#include "tests/bench/line.h"
#include "tests/bench/sensor.h"

#define WRITES 2000u
#define SUBSCRIBES 500u
#define CONNECTS 100u

struct sample {
	uint64_t *times;
	unsigned n;
};

struct victim {
	struct desk desk;
	vmsig *sensor;
	struct tls_ctx *tls;
	char ctx[108];
	struct sample writes, subscribes, connects;
};

static struct sample sample_new(unsigned n)
{
	return (struct sample){.times = bench_times(n), .n = n};
}

static void connects(struct victim *victim)
{
	for (unsigned i = 0; i < victim->connects.n; i++) {
		uint64_t began = bench_now();

		chan_free(line_open(victim->ctx, victim->tls));
		victim->connects.times[i] = bench_now() - began;
	}
}

static void measure(struct victim *victim)
{
	desk_write_words(&victim->desk, victim->writes.n, victim->writes.times);
	sensor_subscribe(victim->sensor, victim->subscribes.n, victim->subscribes.times);
	connects(victim);
}

struct figures {
	double write_p50, write_p99, subscribe_p50, subscribe_p99, connect_p99;
};

static struct figures take(struct victim *victim)
{
	struct figures figures;

	measure(victim);
	figures.write_p50 = bench_percentile(victim->writes.times, victim->writes.n, 50);
	figures.write_p99 = bench_percentile(victim->writes.times, victim->writes.n, 99);
	figures.subscribe_p50 =
		bench_percentile(victim->subscribes.times, victim->subscribes.n, 50);
	figures.subscribe_p99 =
		bench_percentile(victim->subscribes.times, victim->subscribes.n, 99);
	figures.connect_p99 = bench_percentile(victim->connects.times, victim->connects.n, 99);
	return figures;
}

static void report(const struct bench *bench, const char *what, double flooded, double quiet)
{
	char name[64];

	snprintf(name, sizeof(name), "%s_%s", bench->row, what);
	bench_report(name, flooded, quiet);
}

static void victim_open(struct victim *victim, const struct bench *bench)
{
	desk_open(&victim->desk, bench, bench->run, "vm");
	victim->sensor = sensor_open(bench);
	victim->tls = line_tls(bench->pki, "sensor", TLS_CLIENT);
	bench_path(victim->ctx, sizeof(victim->ctx), bench->run, "ctx.sock");
	victim->writes = sample_new(bench_count(bench, WRITES, 50));
	victim->subscribes = sample_new(bench_count(bench, SUBSCRIBES, 10));
	victim->connects = sample_new(bench_count(bench, CONNECTS, 5));
}

static void victim_close(struct victim *victim)
{
	desk_close(&victim->desk);
	vmsig_close(victim->sensor);
	tls_ctx_unref(victim->tls);
	free(victim->writes.times);
	free(victim->subscribes.times);
	free(victim->connects.times);
}

void row_flood(const struct bench *bench)
{
	struct victim victim;
	struct flood flood;

	victim_open(&victim, bench);
	for (unsigned i = 0; i < bench->rounds; i++) {
		struct figures quiet = take(&victim), flooded;

		flood_start(&flood, bench, bench->row + strlen(FLOOD_NAME));
		flooded = take(&victim);
		flood_stop(&flood);
		report(bench, "write_p50", flooded.write_p50, quiet.write_p50);
		report(bench, "write_p99", flooded.write_p99, quiet.write_p99);
		report(bench, "subscribe_p50", flooded.subscribe_p50, quiet.subscribe_p50);
		report(bench, "subscribe_p99", flooded.subscribe_p99, quiet.subscribe_p99);
		report(bench, "connect_p99", flooded.connect_p99, quiet.connect_p99);
	}
	victim_close(&victim);
}
