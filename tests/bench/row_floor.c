/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guarantees cost alone: the bare server with the records, open files, hashes and looks
 * that they ask for, beside itself without them. No broker takes part.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/bench/crowd.h"
#include "tests/bench/desk.h"
#include "tests/bench/line.h"

#define NS_PER_S 1e9
#define NS_PER_MS 1e6
#define PAGE 4096u
#define RUN (64u << 10) /* bytes of ciphertext in one sendmsg(2) */
#define SUBSCRIBERS 1000u
#define HANDSHAKES 64u

/* Somebody who asks the bare server. */
struct asker {
	struct bare bare;
	struct chan *line;
};

static void asker_open(struct asker *asker, const struct bench *bench, const char *identity)
{
	struct tls_ctx *tls = line_tls(bench->pki, identity, TLS_CLIENT);

	bare_start(&asker->bare, bench);
	asker->line = line_open(asker->bare.socket, tls);
	tls_ctx_unref(tls);
}

static void asker_close(struct asker *asker)
{
	chan_free(asker->line);
	bare_stop(&asker->bare);
}

/* ---- one after the other ---- */

static void ask(struct asker *asker, const struct bare_request *request, size_t len)
{
	uint8_t frame[256] = {0};
	size_t got;

	memcpy(frame, request, sizeof(*request));
	line_send(asker->line, frame, len);
	do
		line_receive(asker->line, &got);
	while (got == BARE_NOTE);
	if (!request->nfds)
		return;
	line_close_fds(asker->line, asker->bare.claims, request->nfds);
}

static void ask_all(struct asker *asker, const struct bare_request *request, size_t len, unsigned n,
	uint64_t *times)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t began = bench_now();

		ask(asker, request, len);
		times[i] = bench_now() - began;
	}
}

/* In turns; of the plain ones after the others, because a look stays. */
static void compare(const struct bench *bench, const struct bare_request *plain, uint16_t duties,
	size_t len, const char *identity)
{
	unsigned slice = bench_count(bench, 500, 5), n = slice * BENCH_SLICES;
	uint64_t *times = bench_times(n), *plain_times = bench_times(n);
	struct bare_request request = *plain;
	struct asker with, without;

	request.duties = duties;
	asker_open(&without, bench, identity);
	for (unsigned i = 0; i < bench->rounds; i++) {
		asker_open(&with, bench, identity);
		for (unsigned at = 0; at < n; at += slice) {
			ask_all(&without, plain, len, slice, plain_times + at);
			ask_all(&with, &request, len, slice, times + at);
		}
		asker_close(&with);
		bench_report(bench->row, bench_percentile(times, n, 50),
			bench_percentile(plain_times, n, 50));
	}
	asker_close(&without);
	free(times);
	free(plain_times);
}

void row_floor_8b(const struct bench *bench)
{
	const struct bare_request plain = {.reply = (uint32_t)desk_reply_size(sizeof(uint64_t))};

	compare(bench, &plain, BARE_HASH | BARE_LOOK, desk_request_size(sizeof(uint64_t)),
		"operator");
}

void row_floor_subscribe(const struct bench *bench)
{
	const struct bare_request plain = {
		.reply = (uint32_t)crowd_memctx_size(), .nfds = BARE_FDS};

	compare(bench, &plain, BARE_TELL | BARE_FRESH, crowd_subscribe_size("vm"), "sensor");
}

/* ---- a stream ---- */

static unsigned take_answers(struct chan *line)
{
	unsigned n = 0;
	const uint8_t *data;
	size_t len;
	int r;

	(void)!chan_fill(line); /* its failures come out of what follows */
	while (!(r = chan_recv(line, &data, &len)))
		n++;
	if (r != VMSIG_ERR_WOULD_BLOCK)
		bench_die("the peer ended the connection: %s", chan_error(line));
	return n;
}

/* As desk_write_pages() does it, with an answer to each. */
static uint64_t stream(struct chan *line, unsigned n)
{
	static uint8_t frame[2 * PAGE];
	const struct bare_request request = {
		.reply = (uint32_t)desk_reply_size(PAGE), .duties = BARE_HASH | BARE_LOOK};
	unsigned sent = 0, done = 0;
	uint64_t began = bench_now();

	memcpy(frame, &request, sizeof(request));
	while (done < n) {
		for (; sent < n && sent - done < VMSIG_WRITE_WINDOW; sent++) {
			if (chan_send(line, frame, desk_request_size(PAGE), NULL, 0))
				bench_die("cannot queue a frame: %s", chan_error(line));
			if (chan_output_bytes(line) >= RUN)
				line_drain(line);
		}
		line_drain(line);
		line_await(line, POLLIN);
		done += take_answers(line);
	}
	return bench_now() - began;
}

void row_floor_4k(const struct bench *bench)
{
	unsigned n = bench_count(bench, 20000, 200);
	struct asker with, without;

	asker_open(&with, bench, "operator");
	asker_open(&without, bench, "operator");
	for (unsigned i = 0; i < bench->rounds; i++) {
		double plain = n * NS_PER_S / (double)desk_stream_pages(without.line, n);

		bench_report(bench->row, n * NS_PER_S / (double)stream(with.line, n), plain);
	}
	asker_close(&with);
	asker_close(&without);
}

/* ---- to many ---- */

static double tell(struct asker *asker, struct crowd *crowd, uint16_t duties, unsigned contexts)
{
	const struct bare_request request = {.reply = (uint32_t)crowd_memctx_size(),
		.nfds = BARE_FDS,
		.everybody = true,
		.duties = duties};
	uint64_t began = bench_now();
	size_t len;

	line_send(asker->line, &request, sizeof(request));
	crowd_await(crowd, contexts);
	began = bench_now() - began;
	line_receive(asker->line, &len);
	line_close_fds(asker->line, asker->bare.claims, BARE_FDS);
	return (double)began / NS_PER_MS;
}

static struct crowd *crowd_of(const struct asker *asker, const struct bench *bench)
{
	const struct crowd_spec spec = {.socket = asker->bare.socket,
		.pki = bench->pki,
		.identity = "sensor",
		.identities = 1,
		.endpoint = "reset",
		.endpoints = 1,
		.members = bench_count(bench, SUBSCRIBERS, 20),
		.window = HANDSHAKES,
		.bare = &asker->bare};

	return crowd_open(&spec);
}

void row_floor_fanout(const struct bench *bench)
{
	struct asker with, without;
	struct crowd *told, *plain;

	asker_open(&with, bench, "sensor");
	asker_open(&without, bench, "sensor");
	told = crowd_of(&with, bench);
	plain = crowd_of(&without, bench);
	for (unsigned i = 0; i < bench->rounds; i++) {
		double bare = tell(&without, plain, 0, i + 2);

		bench_report(bench->row, tell(&with, told, BARE_TELL | BARE_FRESH, i + 2), bare);
	}
	crowd_close(told);
	crowd_close(plain);
	asker_close(&with);
	asker_close(&without);
}
