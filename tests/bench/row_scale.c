/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to all of many endpoints at once. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/crowd.h"

#define NS_PER_MS 1e6
#define RAM (1u << 20) /* bytes, as the configuration says */

static const char *ram_path(const struct bench *bench, char path[static PATH_MAX],
	unsigned endpoint, const char *ending)
{
	char name[32];

	snprintf(name, sizeof(name), "e%u.%s", endpoint, ending);
	return bench_path(path, PATH_MAX, bench->ram, name);
}

static void make_next(const struct bench *bench, unsigned endpoint)
{
	char path[PATH_MAX];
	int fd = open(ram_path(bench, path, endpoint, "next"),
		O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, RAM) < 0)
		bench_die("%s: %s", path, strerror(errno));
	close(fd);
}

static void reset(const struct bench *bench, unsigned endpoint)
{
	char path[PATH_MAX], next[PATH_MAX];

	ram_path(bench, path, endpoint, "ram");
	if (rename(ram_path(bench, next, endpoint, "next"), path) < 0)
		bench_die("%s: %s", next, strerror(errno));
}

/* From the first file that is replaced until every subscriber has its next context. The broker
 * looks at each file once a second. */
static uint64_t reset_all(const struct bench *bench, struct crowd *crowd, unsigned contexts)
{
	uint64_t began;

	for (unsigned i = 0; i < bench->grown.endpoints; i++)
		make_next(bench, i);
	began = bench_now();
	for (unsigned i = 0; i < bench->grown.endpoints; i++)
		reset(bench, i);
	crowd_await(crowd, contexts);
	return bench_now() - began;
}

void row_reset_all(const struct bench *bench)
{
	char socket[108];
	const struct crowd_spec spec = {
		.socket = bench_path(socket, sizeof(socket), bench->run, "ctx.sock"),
		.pki = bench->pki,
		.identity = "sensor-",
		.identities = bench->grown.tenants,
		.endpoint = "e",
		.endpoints = bench->grown.endpoints,
		.members = bench->grown.connections,
		.window = 64};
	struct crowd *crowd = crowd_open(&spec);

	for (unsigned i = 0; i < bench->rounds; i++)
		bench_report(bench->row, (double)reset_all(bench, crowd, i + 2) / NS_PER_MS, -1);
	crowd_close(crowd);
}
