/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the report about many subscribers and how soon they hear. */
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bare.h"
#include "tests/bench/crowd.h"
#include "tests/bench/line.h"
#include "tests/bench/sensor.h"

vmsig *sensor_open(const struct bench *bench)
{
	char socket[108], identity[256], error[256];
	const vmsig_options options = {
		.socket_path = bench_path(socket, sizeof(socket), bench->run, "ctx.sock"),
		.identity_dir = bench_path(identity, sizeof(identity), bench->pki, "sensor"),
		.flags = VMSIG_OPT_NO_RECONNECT};
	vmsig *v;

	if (vmsig_open(&v, &options, error, sizeof(error)))
		bench_die("%s", error);
	if (vmsig_wait_connected(v, BENCH_WAIT_MS))
		bench_die("%s", vmsig_last_error(v));
	return v;
}

static void await_context(vmsig *v)
{
	vmsig_delivery delivery = VMSIG_DELIVERY_INIT;
	uint32_t kind;

	do {
		if (vmsig_wait(v, &delivery, BENCH_WAIT_MS))
			bench_die("no context: %s", vmsig_last_error(v));
		kind = delivery.event.kind;
		vmsig_delivery_clear(&delivery);
	} while (kind != VMSIG_EV_MEMCTX);
}

/* Behind the list's answer nothing of the old subscription is on its way any more. */
static void unsubscribe(vmsig *v)
{
	vmsig_endpoint_list *list;

	if (vmsig_unsubscribe(v, "vm") || vmsig_list(v, &list, BENCH_WAIT_MS))
		bench_die("unsubscribe: %s", vmsig_last_error(v));
	vmsig_endpoint_list_free(list);
}

void sensor_subscribe(vmsig *v, unsigned n, uint64_t *times)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t began = bench_now();

		if (vmsig_subscribe(v, "vm"))
			bench_die("subscribe: %s", vmsig_last_error(v));
		await_context(v);
		times[i] = bench_now() - began;
		unsubscribe(v);
	}
}

static void echo(struct chan *line, const struct bare *bare, unsigned n, uint64_t *times)
{
	const struct bare_request request = {
		.reply = (uint32_t)crowd_memctx_size(), .nfds = BARE_FDS};
	uint8_t frame[64] = {0};
	size_t len = crowd_subscribe_size("vm"), got;

	memcpy(frame, &request, sizeof(request));
	for (unsigned i = 0; i < n; i++) {
		uint64_t began = bench_now();

		line_send(line, frame, len);
		line_receive(line, &got);
		line_close_fds(line, bare->claims, BARE_FDS);
		times[i] = bench_now() - began;
	}
}

void row_subscribe(const struct bench *bench)
{
	unsigned slice = bench_count(bench, 100, 5), n = slice * BENCH_SLICES;
	uint64_t *times = bench_times(n), *bare_times = bench_times(n);
	struct tls_ctx *tls = line_tls(bench->pki, "sensor", TLS_CLIENT);
	struct chan *line;
	struct bare bare;
	vmsig *v;

	bare_start(&bare, bench);
	line = line_open(bare.socket, tls);
	v = sensor_open(bench);
	for (unsigned i = 0; i < bench->rounds; i++) {
		for (unsigned at = 0; at < n; at += slice) {
			echo(line, &bare, slice, bare_times + at);
			sensor_subscribe(v, slice, times + at);
		}
		bench_report(bench->row, bench_percentile(times, n, 50),
			bench_percentile(bare_times, n, 50));
	}
	vmsig_close(v);
	chan_free(line);
	tls_ctx_unref(tls);
	bare_stop(&bare);
	free(times);
	free(bare_times);
}
