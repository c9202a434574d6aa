/* SPDX-License-Identifier: Apache-2.0 */
/*
 * operator SOCKET IDENTITY ENDPOINT: holds a lease through libvmsig and does what its standard
 * input says, one command a line, one answer a line: "ok ..." or the error's name and a
 * sentence.
 *
 *   acquire [TTL_MS]            ok ID TOKEN EPOCH
 *   write GPA HEX [quiesce]     ok
 *   count GPA N                 ok TRIES: adds 1 to a word N times by compare-and-swap
 *   pair GPA GPA N [quiesce]    ok: writes 1 to N into both words, in one batch each
 *   bulk GPA GPA N              ok: the same as bulk data from the first word to the second one,
 *                               zeros between them, with stopped vCPUs
 *   idle MS                     ok: keeps the lease alive for so long
 *   lost                        ok NAME: waits until the lease is lost
 *   late GPA                    the answer to a write under the lease, whatever became of it,
 *                               with the lease's token and epoch
 *   release                     ok
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmsig/vmsig_write.h"

#define WAIT_MS 60000

struct operator
{
	vmsig_writer *writer;
	vmsig_lease *lease;
	const char *endpoint;
};

static int complain(struct operator* op, int r)
{
	printf("%s %s\n", vmsig_error_name(r), vmsig_writer_last_error(op->writer));
	return r;
}

static int acquire(struct operator* op, char **words)
{
	const vmsig_lease_request request = {.endpoint = op->endpoint,
		.ttl_ms = words[0] ? (uint32_t)strtoul(words[0], NULL, 0) : 0};
	vmsig_lease_info info;
	int r;

	op->lease = vmsig_lease_free(op->lease);
	r = vmsig_lease_acquire_wait(op->writer, &request, &op->lease, WAIT_MS);
	if (r)
		return complain(op, r);
	vmsig_lease_get(op->lease, &info);
	printf("ok %" PRIu64 " %" PRIu64 " %u\n", info.id, info.token, info.epoch);
	return 0;
}

static uint32_t flags_of(const char *word)
{
	return word && strcmp(word, "quiesce") == 0 ? VMSIG_WRITE_QUIESCE : 0;
}

static int apply(struct operator* op, const vmsig_write_op *ops, size_t n, uint32_t flags)
{
	vmsig_write_result result;
	int r = vmsig_write_wait(op->lease, ops, n, flags, &result, WAIT_MS);

	vmsig_write_result_clear(&result);
	return r;
}

static int write_hex(struct operator* op, char **words)
{
	unsigned char data[512];
	vmsig_write_op operation = {.addr = strtoull(words[0], NULL, 0), .data = data};
	int r;

	while (words[1][2 * operation.len] && operation.len < sizeof(data)) {
		unsigned byte;

		if (sscanf(words[1] + 2 * operation.len, "%2x", &byte) != 1)
			break;
		data[operation.len++] = (unsigned char)byte;
	}
	r = apply(op, &operation, 1, flags_of(words[2]));
	if (r)
		return complain(op, r);
	printf("ok\n");
	return 0;
}

/* As a lock-free program does it: from what was there, until nobody was faster. */
static int count(struct operator* op, char **words)
{
	uint64_t expect = 0, next = 0, addr = strtoull(words[0], NULL, 0);
	unsigned long done = 0, n = strtoul(words[1], NULL, 0), tries = 0;
	const vmsig_write_op operation = {
		.addr = addr, .data = &next, .expect = &expect, .len = sizeof(next)};

	while (done < n) {
		vmsig_write_result result;
		int r;

		next = expect + 1;
		r = vmsig_write_wait(
			op->lease, &operation, 1, VMSIG_WRITE_WANT_OLD, &result, WAIT_MS);
		tries++;
		if (result.old_len == sizeof(expect))
			memcpy(&expect, result.old, sizeof(expect));
		vmsig_write_result_clear(&result);
		if (r && r != -VMSIG_ERR_COMPARE_FAILED)
			return complain(op, r);
		if (r)
			continue;
		expect++;
		done++;
	}
	printf("ok %lu\n", tries);
	return 0;
}

static int pair(struct operator* op, char **words)
{
	uint64_t word = 0, n = strtoull(words[2], NULL, 0);
	const vmsig_write_op operations[] = {
		{.addr = strtoull(words[0], NULL, 0), .data = &word, .len = sizeof(word)},
		{.addr = strtoull(words[1], NULL, 0), .data = &word, .len = sizeof(word)}};

	while (word < n) {
		int r;

		word++;
		r = apply(op, operations, 2, flags_of(words[3]));
		if (r)
			return complain(op, r);
	}
	printf("ok\n");
	return 0;
}

/* Sealed; -1: there is none. */
static int bulk_data(uint64_t word, size_t len)
{
	uint8_t *data = calloc(1, len);
	int fd = memfd_create("bulk", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (data && fd >= 0) {
		memcpy(data, &word, sizeof(word));
		memcpy(data + len - sizeof(word), &word, sizeof(word));
	}
	if (!data || fd < 0 || write(fd, data, len) != (ssize_t)len ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)) {
		close(fd);
		fd = -1;
	}
	free(data);
	return fd;
}

static int bulk(struct operator* op, char **words)
{
	uint64_t at = strtoull(words[0], NULL, 0), n = strtoull(words[2], NULL, 0);
	size_t len = (size_t)(strtoull(words[1], NULL, 0) + sizeof(uint64_t) - at);

	for (uint64_t word = 1; word <= n; word++) {
		vmsig_write_result result;
		int fd = bulk_data(word, len);
		int r = vmsig_write_bulk_wait(
			op->lease, at, 0, 0, fd, 0, len, VMSIG_WRITE_QUIESCE, &result, WAIT_MS);

		vmsig_write_result_clear(&result);
		close(fd);
		if (r)
			return complain(op, r);
	}
	printf("ok\n");
	return 0;
}

static int idle(struct operator* op, char **words)
{
	vmsig_writer_event event;
	int r = vmsig_writer_wait(op->writer, &event, atoi(words[0]));

	while (r == 0 && event.kind != VMSIG_WEV_LOST)
		r = vmsig_writer_wait(op->writer, &event, atoi(words[0]));
	if (r != -VMSIG_ERR_TIMEOUT)
		return complain(op, r ? r : event.error);
	printf("ok\n");
	return 0;
}

static int lost(struct operator* op, char **words)
{
	vmsig_writer_event event;

	do {
		int r = vmsig_writer_wait(op->writer, &event, WAIT_MS);

		if (r)
			return complain(op, r);
	} while (event.kind != VMSIG_WEV_LOST);
	printf("ok %s\n", vmsig_error_name(event.error));
	return 0;
}

static int late(struct operator* op, char **words)
{
	const uint64_t word = 0xdeadbeef;
	const vmsig_write_op operation = {
		.addr = strtoull(words[0], NULL, 0), .data = &word, .len = sizeof(word)};
	int r = apply(op, &operation, 1, 0);

	if (r)
		return complain(op, r);
	printf("ok\n");
	return 0;
}

static int release(struct operator* op, char **words)
{
	int r = vmsig_lease_release_wait(op->lease, WAIT_MS);

	if (r)
		return complain(op, r);
	printf("ok\n");
	return 0;
}

static const struct {
	const char *name;
	int words;
	int (*run)(struct operator* op, char **words);
} commands[] = {
	{"acquire", 0, acquire},
	{"write", 2, write_hex},
	{"count", 2, count},
	{"pair", 3, pair},
	{"bulk", 3, bulk},
	{"idle", 1, idle},
	{"lost", 0, lost},
	{"late", 1, late},
	{"release", 0, release},
};

static void obey(struct operator* op, char *line)
{
	char *words[8] = {strtok(line, " \n")};
	int n = 0;

	while (words[n] && n < 6)
		words[++n] = strtok(NULL, " \n");
	for (size_t i = 0; words[0] && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].name, words[0]) != 0 || n - 1 < commands[i].words)
			continue;
		if (i && !op->lease)
			printf("NO_LEASE acquire one first\n");
		else
			commands[i].run(op, words + 1);
		return;
	}
	printf("BAD_REQUEST no such command\n");
}

int main(int argc, char **argv)
{
	char line[2048], error[256] = "";
	struct operator op = {.endpoint = argc == 4 ? argv[3] : NULL};
	vmsig_options options = {.backoff_min_ms = 10, .backoff_max_ms = 200};

	if (argc != 4) {
		fprintf(stderr, "usage: operator SOCKET IDENTITY ENDPOINT\n");
		return 2;
	}
	options.socket_path = argv[1];
	options.identity_dir = argv[2];
	if (vmsig_writer_open(&op.writer, &options, error, sizeof(error))) {
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin))
		obey(&op, line);
	vmsig_writer_close(op.writer);
	return 0;
}
