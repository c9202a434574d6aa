/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the report about many idle connections. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/bench/crowd.h"
#include "tests/bench/line.h"

#define SUBSCRIBERS 1000u
#define WINDOW 64u
#define NS_PER_MS 1e6
#define RESET_RAM (1u << 20) /* bytes, as the configuration says */

struct crowds {
	char socket[108];
	struct bare bare;
	struct crowd *bare_crowd, *crowd;
	unsigned members;
};

static struct crowd *crowd_of(
	const struct crowds *crowds, const struct bench *bench, const struct bare *bare)
{
	const struct crowd_spec spec = {.socket = bare ? bare->socket : crowds->socket,
		.pki = bench->pki,
		.identity = "sensor",
		.identities = 1,
		.endpoint = "reset",
		.endpoints = 1,
		.members = crowds->members,
		.window = WINDOW,
		.bare = bare};

	return crowd_open(&spec);
}

static void crowds_init(struct crowds *crowds, const struct bench *bench)
{
	*crowds = (struct crowds){.members = bench_count(bench, SUBSCRIBERS, 20)};
	bench_path(crowds->socket, sizeof(crowds->socket), bench->run, "ctx.sock");
	bare_start(&crowds->bare, bench);
}

static void crowds_deinit(struct crowds *crowds)
{
	crowd_close(crowds->bare_crowd);
	crowd_close(crowds->crowd);
	bare_stop(&crowds->bare);
}

/* ---- after a reset ---- */

/* When the epoch of the coherence page rose: that is when the broker knew of the reset. */
struct watch {
	pthread_t thread;
	const vmsig_coherence *page;
	uint32_t epoch;
	uint64_t at;
};

static void *watch_epoch(void *arg)
{
	struct watch *watch = arg;

	for (;;) {
		uint32_t change = __atomic_load_n(&watch->page->change, __ATOMIC_ACQUIRE);

		if (__atomic_load_n(&watch->page->epoch, __ATOMIC_ACQUIRE) != watch->epoch)
			break;
		syscall(SYS_futex, &watch->page->change, FUTEX_WAIT, change, NULL, NULL, 0);
	}
	watch->at = bench_now();
	return NULL;
}

/* The adapter `file` takes another file for another session of the guest. */
static void replace_ram(const struct bench *bench)
{
	char path[PATH_MAX], next[PATH_MAX];
	int fd = open(bench_path(next, sizeof(next), bench->ram, "reset.next"),
		O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	bench_path(path, sizeof(path), bench->ram, "reset.ram");
	if (fd < 0 || ftruncate(fd, RESET_RAM) < 0 || rename(next, path) < 0)
		bench_die("%s: %s", next, strerror(errno));
	close(fd);
}

static uint64_t fan_out(const struct bench *bench, struct crowd *crowd, unsigned contexts)
{
	struct watch watch = {.page = crowd_page(crowd)};

	watch.epoch = __atomic_load_n(&watch.page->epoch, __ATOMIC_ACQUIRE);
	if (pthread_create(&watch.thread, NULL, watch_epoch, &watch))
		bench_die("cannot start a thread");
	replace_ram(bench);
	crowd_await(crowd, contexts);
	pthread_join(watch.thread, NULL);
	return bench_now() - watch.at;
}

static uint64_t fan_out_bare(
	const struct bare *bare, struct chan *line, struct crowd *crowd, unsigned contexts)
{
	const struct bare_request request = {
		.reply = (uint32_t)crowd_memctx_size(), .nfds = BARE_FDS, .everybody = true};
	uint64_t began = bench_now();
	size_t len;

	line_send(line, &request, sizeof(request));
	crowd_await(crowd, contexts);
	began = bench_now() - began;
	line_receive(line, &len);
	line_close_fds(line, bare->claims, BARE_FDS);
	return began;
}

void row_fanout(const struct bench *bench)
{
	struct crowds crowds;
	struct tls_ctx *tls;
	struct chan *line;

	crowds_init(&crowds, bench);
	crowds.bare_crowd = crowd_of(&crowds, bench, &crowds.bare);
	crowds.crowd = crowd_of(&crowds, bench, NULL);
	tls = line_tls(bench->pki, "sensor", TLS_CLIENT);
	line = line_open(crowds.bare.socket, tls);
	for (unsigned i = 0; i < bench->rounds; i++) {
		double bare = (double)fan_out_bare(&crowds.bare, line, crowds.bare_crowd, i + 2);

		bench_report(bench->row, (double)fan_out(bench, crowds.crowd, i + 2) / NS_PER_MS,
			bare / NS_PER_MS);
	}
	chan_free(line);
	tls_ctx_unref(tls);
	crowds_deinit(&crowds);
}

/* ---- at rest ---- */

static double resident_kib(pid_t pid)
{
	char path[64], line[256];
	double kib = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && kib < 0 && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "VmRSS:", 6) == 0)
			kib = strtod(line + 6, NULL);
	}
	if (!file || kib < 0)
		bench_die("%s: no resident size", path);
	fclose(file);
	return kib;
}

/* One round: what was freed is used again by the next one. */
void row_idle(const struct bench *bench)
{
	struct crowds crowds;
	double before, bare_before, n;

	crowds_init(&crowds, bench);
	n = crowds.members;
	before = resident_kib(bench->broker);
	bare_before = resident_kib(crowds.bare.pid);
	crowds.bare_crowd = crowd_of(&crowds, bench, &crowds.bare);
	crowds.crowd = crowd_of(&crowds, bench, NULL);
	bench_report(bench->row, (resident_kib(bench->broker) - before) / n,
		(resident_kib(crowds.bare.pid) - bare_before) / n);
	crowds_deinit(&crowds);
}
