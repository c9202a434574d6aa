/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/desk.h"

#include <poll.h>
#include <string.h>

#include "proto/wire/vmsig.pb-c.h"
#include "tests/bench/line.h"

#define WORD_AT 0x200000ull  /* guest-physical, behind the image's page tables */
#define PAGES_AT 0x400000ull /* the same */
#define PAGES 1024u          /* written in turn */
#define PAGE 4096u
#define RUN (64u << 10) /* bytes of ciphertext in one sendmsg(2) */

/* A broker that has just started may not have found all of its guests. */
static void acquire(struct desk *desk)
{
	const vmsig_lease_request request = {
		.endpoint = desk->endpoint, .no_wait = true, .ttl_ms = 30000};
	const uint64_t until = bench_now() + BENCH_WAIT_MS * 1000000ull;
	int r;

	do {
		r = vmsig_lease_acquire_wait(desk->writer, &request, &desk->lease, BENCH_WAIT_MS);
		if (r == -VMSIG_ERR_NOT_READY)
			poll(NULL, 0, 10);
	} while (r == -VMSIG_ERR_NOT_READY && bench_now() < until);
	if (r)
		bench_die("lease: %s", vmsig_writer_last_error(desk->writer));
}

void desk_open(struct desk *desk, const struct bench *bench, const char *run, const char *endpoint)
{
	char socket[108], identity[256], error[256];
	const vmsig_options options = {
		.socket_path = bench_path(socket, sizeof(socket), run, "write.sock"),
		.identity_dir = bench_path(identity, sizeof(identity), bench->pki, "operator"),
		.flags = VMSIG_OPT_NO_RECONNECT};

	desk->word_at = WORD_AT;
	desk->endpoint = endpoint;
	if (vmsig_writer_open(&desk->writer, &options, error, sizeof(error)))
		bench_die("%s", error);
	acquire(desk);
}

void desk_settle(struct desk *desk)
{
	if (vmsig_lease_release_wait(desk->lease, BENCH_WAIT_MS))
		bench_die("release: %s", vmsig_writer_last_error(desk->writer));
	vmsig_lease_free(desk->lease);
	acquire(desk);
}

void desk_close(struct desk *desk)
{
	vmsig_writer_close(desk->writer);
}

void desk_write_words(struct desk *desk, unsigned n, uint64_t *times)
{
	uint64_t word = 0;
	const vmsig_write_op op = {.addr = desk->word_at, .len = sizeof(word), .data = &word};

	for (unsigned i = 0; i < n; i++) {
		uint64_t began = bench_now();
		vmsig_write_result result;
		int r;

		word++;
		r = vmsig_write_wait(desk->lease, &op, 1, 0, &result, BENCH_WAIT_MS);
		vmsig_write_result_clear(&result);
		if (r)
			bench_die("write: %s", vmsig_writer_last_error(desk->writer));
		times[i] = bench_now() - began;
	}
}

static void count_done(void *arg, const vmsig_write_result *result)
{
	unsigned *done = arg;

	if (result->outcome)
		bench_die("write: %s", result->text);
	++*done;
}

/* As an operator's own loop does it. */
static void turn(struct desk *desk)
{
	struct pollfd poller = {.fd = vmsig_writer_fd(desk->writer),
		.events = vmsig_writer_poll_events(desk->writer)};

	if (vmsig_writer_deadline(desk->writer) && poll(&poller, 1, BENCH_WAIT_MS) != 1)
		bench_die("the broker does not answer");
	if (vmsig_writer_process(desk->writer))
		bench_die("write: %s", vmsig_writer_last_error(desk->writer));
}

uint64_t desk_write_pages(struct desk *desk, unsigned n)
{
	static uint8_t page[PAGE];
	vmsig_write_op op = {.len = PAGE, .data = page};
	unsigned sent = 0, done = 0;
	uint64_t began = bench_now();

	while (done < n) {
		for (; sent < n && sent - done < VMSIG_WRITE_WINDOW; sent++) {
			op.addr = PAGES_AT + (sent % PAGES) * PAGE;
			memcpy(page, &sent, sizeof(sent));
			if (vmsig_write(desk->lease, &op, 1, 0, count_done, &done))
				bench_die("write: %s", vmsig_writer_last_error(desk->writer));
		}
		turn(desk);
	}
	return bench_now() - began;
}

/* ---- the same bytes ---- */

size_t desk_request_size(size_t len)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__CmdMemwrite body = VMSIG__CMD_MEMWRITE__INIT;
	Vmsig__WriteOp op = VMSIG__WRITE_OP__INIT, *ops = &op;

	op.addr = PAGES_AT;
	op.data = (ProtobufCBinaryData){.data = (uint8_t *)&op, .len = len};
	body.lease = body.token = body.endpoint = body.epoch = 1;
	body.writer = 1;
	body.sequence = 10000;
	body.ops = &ops;
	body.n_ops = 1;
	request.request_id = 10000;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_MEMWRITE;
	request.memwrite = &body;
	return vmsig__write_request__get_packed_size(&request);
}

size_t desk_reply_size(size_t len)
{
	Vmsig__WriteMessage message = VMSIG__WRITE_MESSAGE__INIT;
	Vmsig__WriteResult body = VMSIG__WRITE_RESULT__INIT;

	body.written = len;
	message.request_id = 10000;
	message.body_case = VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT;
	message.write_result = &body;
	return vmsig__write_message__get_packed_size(&message);
}

void desk_echo_words(struct chan *line, unsigned n, uint64_t *times)
{
	const struct bare_request request = {.reply = (uint32_t)desk_reply_size(sizeof(uint64_t))};
	uint8_t frame[256] = {0};
	size_t len = desk_request_size(sizeof(uint64_t)), got;

	memcpy(frame, &request, sizeof(request));
	for (unsigned i = 0; i < n; i++) {
		uint64_t began = bench_now();

		line_send(line, frame, len);
		line_receive(line, &got);
		times[i] = bench_now() - began;
	}
}

uint64_t desk_stream_pages(struct chan *line, unsigned n)
{
	static uint8_t frame[2 * PAGE];
	struct bare_request request = {.reply = 0};
	size_t len = desk_request_size(PAGE), got;
	uint64_t began = bench_now();

	for (unsigned i = 0; i < n; i++) {
		request.reply = i == n - 1 ? sizeof(request) : 0;
		memcpy(frame, &request, sizeof(request));
		if (chan_send(line, frame, len, NULL, 0))
			bench_die("cannot queue a frame: %s", chan_error(line));
		if (chan_output_bytes(line) >= RUN || i == n - 1)
			line_drain(line);
	}
	line_receive(line, &got);
	return bench_now() - began;
}
