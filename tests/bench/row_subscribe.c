/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "tests/bench/bare.h"
#include "tests/bench/crowd.h"
#include "tests/bench/line.h"
#include "vmsig/vmsig.h"

#define NS_PER_US 1000.0

static vmsig *sensor_open(const struct bench *bench)
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

static uint64_t subscribe(vmsig *v, unsigned n)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t began = bench_now();

		if (vmsig_subscribe(v, "vm"))
			bench_die("subscribe: %s", vmsig_last_error(v));
		await_context(v);
		sum += bench_now() - began;
		unsubscribe(v);
	}
	return sum;
}

static uint64_t echo(struct chan *line, const struct bare *bare, unsigned n)
{
	const struct bare_request request = {
		.reply = (uint32_t)crowd_memctx_size(), .nfds = BARE_FDS};
	uint8_t frame[64] = {0};
	size_t len = crowd_subscribe_size("vm"), got;
	uint64_t began = bench_now();

	memcpy(frame, &request, sizeof(request));
	for (unsigned i = 0; i < n; i++) {
		line_send(line, frame, len);
		line_receive(line, &got);
		line_close_fds(line, bare->claims, BARE_FDS);
	}
	return bench_now() - began;
}

void row_subscribe(const struct bench *bench)
{
	unsigned n = bench_count(bench, 1000, 20);
	struct tls_ctx *tls;
	struct chan *line;
	struct bare bare;
	vmsig *v;

	bare_start(&bare, bench);
	tls = line_tls(bench->pki, "sensor", TLS_CLIENT);
	line = line_open(bare.socket, tls);
	v = sensor_open(bench);
	subscribe(v, n / 10);
	echo(line, &bare, n / 10);
	for (unsigned i = 0; i < bench->rounds; i++) {
		double bare_ns = (double)echo(line, &bare, n) / n;

		bench_report(
			bench->row, (double)subscribe(v, n) / n / NS_PER_US, bare_ns / NS_PER_US);
	}
	vmsig_close(v);
	chan_free(line);
	tls_ctx_unref(tls);
	bare_stop(&bare);
}
