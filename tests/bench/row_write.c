/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the report about writes. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/bench/desk.h"
#include "tests/bench/line.h"

#define NS_PER_S 1e9
#define NS_PER_MS 1e6

#define BULK (64u << 20)      /* bytes */
#define BULK_AT 0x4000000ull  /* guest-physical and in the file */
#define BULK_SMALL (1u << 20) /* when it has to be quick */
#define WARM_UP 200u          /* writes before anything counts */

static struct chan *bare_line(const struct bare *bare, const struct bench *bench)
{
	struct tls_ctx *tls = line_tls(bench->pki, "operator", TLS_CLIENT);
	struct chan *line = line_open(bare->socket, tls);

	tls_ctx_unref(tls);
	return line;
}

void row_write_8b(const struct bench *bench)
{
	unsigned slice = bench_count(bench, 500, 10), n = slice * BENCH_SLICES;
	uint64_t *times = bench_times(n), *bare_times = bench_times(n);
	struct chan *line;
	struct bare bare;
	struct desk desk;

	bare_start(&bare, bench);
	line = bare_line(&bare, bench);
	desk_open(&desk, bench, bench->run, "vm");
	for (unsigned i = 0; i < bench->rounds; i++) {
		for (unsigned at = 0; at < n; at += slice) {
			desk_echo_words(line, slice, bare_times + at);
			desk_write_words(&desk, slice, times + at);
		}
		bench_report(bench->row, bench_percentile(times, n, 50),
			bench_percentile(bare_times, n, 50));
	}
	desk_close(&desk);
	chan_free(line);
	bare_stop(&bare);
	free(times);
	free(bare_times);
}

void row_write_4k(const struct bench *bench)
{
	unsigned n = bench_count(bench, 20000, 200);
	struct chan *line;
	struct bare bare;
	struct desk desk;

	bare_start(&bare, bench);
	line = bare_line(&bare, bench);
	desk_open(&desk, bench, bench->run, "vm");
	desk_write_pages(&desk, WARM_UP);
	desk_stream_pages(line, WARM_UP);
	for (unsigned i = 0; i < bench->rounds; i++) {
		double bare_rate = n * NS_PER_S / (double)desk_stream_pages(line, n);

		bench_report(
			bench->row, n * NS_PER_S / (double)desk_write_pages(&desk, n), bare_rate);
	}
	desk_close(&desk);
	chan_free(line);
	bare_stop(&bare);
}

/* ---- bulk ---- */

static int sealed_data(size_t len)
{
	int fd = memfd_create("bulk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t *data;

	if (fd < 0 || ftruncate(fd, (off_t)len) < 0)
		bench_die("memfd: %s", strerror(errno));
	data = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		bench_die("memfd: %s", strerror(errno));
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 0x9e3779b97f4a7c15ull >> 56);
	munmap(data, len);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		bench_die("memfd: %s", strerror(errno));
	return fd;
}

static void *map(int fd, off_t offset, size_t len, int prot)
{
	void *at = mmap(NULL, len, prot, MAP_SHARED | MAP_POPULATE, fd, offset);

	if (at == MAP_FAILED)
		bench_die("mmap: %s", strerror(errno));
	return at;
}

static uint8_t *map_ram(const struct bench *bench, size_t len)
{
	char path[256];
	uint8_t *at;
	int fd = open(bench_path(path, sizeof(path), bench->ram, "vm.ram"), O_RDWR | O_CLOEXEC);

	if (fd < 0)
		bench_die("%s: %s", path, strerror(errno));
	at = map(fd, BULK_AT, len, PROT_READ | PROT_WRITE);
	close(fd);
	return at;
}

/* To the answer; what comes of the one before it is over. */
static uint64_t write_bulk(struct desk *desk, int data, size_t len)
{
	vmsig_write_result result;
	uint64_t began;

	desk_settle(desk);
	began = bench_now();
	if (vmsig_write_bulk_wait(
		    desk->lease, BULK_AT, 0, 0, data, 0, len, 0, &result, BENCH_WAIT_MS))
		bench_die("bulk: %s", vmsig_writer_last_error(desk->writer));
	vmsig_write_result_clear(&result);
	return bench_now() - began;
}

static uint64_t copy(uint8_t *to, const uint8_t *from, size_t len)
{
	uint64_t began = bench_now();

	memcpy(to, from, len);
	return bench_now() - began;
}

void row_bulk(const struct bench *bench)
{
	size_t len = bench_count(bench, BULK, BULK_SMALL);
	int fd = sealed_data(len);
	uint8_t *from = map(fd, 0, len, PROT_READ), *to = map_ram(bench, len);
	struct desk desk;

	desk_open(&desk, bench, bench->run, "vm");
	write_bulk(&desk, fd, len);
	copy(to, from, len);
	for (unsigned i = 0; i < bench->rounds; i++) {
		double bare_ns = (double)copy(to, from, len);

		bench_report(bench->row, (double)write_bulk(&desk, fd, len) / NS_PER_MS,
			bare_ns / NS_PER_MS);
	}
	if (memcmp(to, from, len) != 0)
		bench_die("what was written is not there");
	desk_close(&desk);
	munmap(from, len);
	munmap(to, len);
	close(fd);
}
