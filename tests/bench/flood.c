/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/flood.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/wire/vmsig.pb-c.h"
#include "tests/bench/line.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_write.h"

#define SENSOR "flood-sensor"     /* as the configuration of `run` says */
#define OPERATOR "flood-operator" /* the same */
#define VICTIM "other"            /* the endpoint that they may write to */
#define STRANGER_UID 65001u       /* the first one; nobody the policy knows */
#define ELEMENTS 520000u          /* of two bytes: most of a frame of 1 MiB */
#define GLOBS 16u
#define RANGES 64u
#define WAITERS 60u
#define BULK (16u << 20)
#define BULK_LEASES 5u   /* of a connection */
#define BULK_POLL_MS 100 /* what was refused is tried again */

struct attacker {
	const struct bench *bench;
	unsigned number; /* of its kind */
};

/* ---- lines ---- */

static struct chan *open_as(const struct bench *bench, const char *socket, const char *identity)
{
	struct tls_ctx *tls = line_tls(bench->pki, identity, TLS_CLIENT);
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__Hello hello = VMSIG__HELLO__INIT;
	struct chan *chan;
	uint8_t buf[64];
	char path[108];
	size_t len;

	/* Hello is the same message on every plane. */
	hello.version = 1;
	request.request_id = 1;
	request.body_case = VMSIG__CTX_REQUEST__BODY_HELLO;
	request.hello = &hello;
	chan = line_open(bench_path(path, sizeof(path), bench->run, socket), tls);
	tls_ctx_unref(tls);
	line_send(chan, buf, vmsig__ctx_request__pack(&request, buf));
	(void)line_receive(chan, &len);
	return chan;
}

/* Sends and takes whatever has come, so that the broker is never waited for. */
static bool push(struct chan *chan, const uint8_t *data, size_t len)
{
	struct pollfd poller = {.fd = chan_socket(chan), .events = POLLIN | POLLOUT};
	const uint8_t *answer;
	size_t answer_len;
	int r = chan_send(chan, data, len, NULL, 0);

	if (r)
		return false;
	while ((r = chan_drain(chan)) == VMSIG_ERR_WOULD_BLOCK) {
		(void)!poll(&poller, 1, -1);
		(void)!chan_fill(chan);
		while (!chan_recv(chan, &answer, &answer_len))
			;
	}
	(void)!chan_fill(chan);
	while (!chan_recv(chan, &answer, &answer_len))
		;
	return r == 0;
}

/* ---- what they do ---- */

static void frames(const struct attacker *attacker)
{
	struct chan *chan = open_as(attacker->bench, "write.sock", OPERATOR);
	uint8_t *frame = malloc(2 * ELEMENTS + 64);
	size_t len = 0;

	if (!frame)
		return;
	memcpy(frame, "\x08\x02\x42", 3);
	len = 3;
	for (uint32_t left = 2 * ELEMENTS; left; left >>= 7)
		frame[len++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
	for (unsigned i = 0; i < ELEMENTS; i++, len += 2)
		memcpy(frame + len, "\x3a", 2);
	while (push(chan, frame, len))
		;
}

static size_t glob_pack(uint8_t *buf, bool subscribe, unsigned number)
{
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__Unsubscribe gone = VMSIG__UNSUBSCRIBE__INIT;
	Vmsig__Subscribe come = VMSIG__SUBSCRIBE__INIT;
	char glob[16];

	snprintf(glob, sizeof(glob), "*e*%u*", number);
	request.request_id = 2;
	come.endpoint = gone.endpoint = glob;
	if (subscribe) {
		request.body_case = VMSIG__CTX_REQUEST__BODY_SUBSCRIBE;
		request.subscribe = &come;
	} else {
		request.body_case = VMSIG__CTX_REQUEST__BODY_UNSUBSCRIBE;
		request.unsubscribe = &gone;
	}
	return vmsig__ctx_request__pack(&request, buf);
}

static void globs(const struct attacker *attacker)
{
	struct chan *chan = open_as(attacker->bench, "ctx.sock", SENSOR);
	bool going = true;
	uint8_t buf[64];

	for (unsigned i = 0; going; i++)
		going = push(chan, buf, glob_pack(buf, i / GLOBS % 2 == 0, i % GLOBS));
}

/* Asks, reads nothing, and comes again when it was thrown out. */
static void unread(const struct attacker *attacker)
{
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__List list = VMSIG__LIST__INIT;
	uint8_t buf[64];
	size_t len;

	request.request_id = 2;
	request.body_case = VMSIG__CTX_REQUEST__BODY_LIST;
	request.list = &list;
	len = vmsig__ctx_request__pack(&request, buf);
	for (;;) {
		struct chan *chan = open_as(attacker->bench, "ctx.sock", SENSOR);
		struct pollfd poller = {.fd = chan_socket(chan), .events = POLLOUT};
		int r = 0;

		while (r == 0 || r == VMSIG_ERR_WOULD_BLOCK) {
			if (r)
				(void)!poll(&poller, 1, -1);
			else if (chan_send(chan, buf, len, NULL, 0))
				break;
			r = chan_drain(chan);
		}
		chan_free(chan);
	}
}

/* Leases of many ranges: they wait for the first, or are refused for the whole. */
static void leases(const struct attacker *attacker, const char *endpoint, size_t nranges)
{
	struct chan *chan = open_as(attacker->bench, "write.sock", OPERATOR);
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__LeaseAcquire acquire = VMSIG__LEASE_ACQUIRE__INIT;
	static Vmsig__Range ranges[256], *pointers[256];
	static uint8_t buf[16384];

	for (size_t i = 0; i < nranges; i++) {
		vmsig__range__init(&ranges[i]);
		ranges[i].start = i * 0x10000;
		ranges[i].last = ranges[i].start + 0xfff;
		pointers[i] = &ranges[i];
	}
	request.request_id = 2;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_ACQUIRE;
	request.lease_acquire = &acquire;
	acquire.endpoint = (char *)(uintptr_t)endpoint;
	acquire.ranges = pointers;
	acquire.n_ranges = nranges;
	acquire.wait_ms = 20; /* and then the next one waits */
	while (push(chan, buf, vmsig__write_request__pack(&request, buf)))
		;
}

static void waiters(const struct attacker *attacker)
{
	leases(attacker, VICTIM, RANGES);
}

static void refusals(const struct attacker *attacker)
{
	leases(attacker, "there is none", 256);
}

static int bulk_data(void)
{
	int fd = memfd_create("flood", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, BULK) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		bench_die("memfd: %s", strerror(errno));
	return fd;
}

struct bulk {
	vmsig_lease *lease;
	uint64_t at;
	int fd;
	bool idle;
};

static void bulk_done(void *arg, const vmsig_write_result *result)
{
	struct bulk *bulk = arg;

	bulk->idle = true;
}

static void bulk_push(struct bulk *bulk, vmsig_writer *writer)
{
	const vmsig_lease_range range = {.start = bulk->at, .last = bulk->at + (BULK - 1)};
	const vmsig_lease_request request = {
		.endpoint = VICTIM, .ranges = &range, .nranges = 1, .ttl_ms = 30000};
	int r;

	if (!bulk->lease &&
		vmsig_lease_acquire_wait(writer, &request, &bulk->lease, BENCH_WAIT_MS)) {
		bulk->lease = NULL;
		return;
	}
	r = vmsig_write_bulk(bulk->lease, bulk->at, 0, 0, bulk->fd, 0, BULK, 0, bulk_done, bulk);
	if (!r)
		bulk->idle = false;
	else if (!vmsig_error_retryable(r))
		bulk->lease = NULL; /* it is over; the handle keeps it until it is closed */
}

/* Several leases, so that one waits while another one is written under. */
static void bulks(const struct attacker *attacker)
{
	const struct bench *bench = attacker->bench;
	char socket[108], identity[256], error[256];
	const vmsig_options options = {
		.socket_path = bench_path(socket, sizeof(socket), bench->run, "write.sock"),
		.identity_dir = bench_path(identity, sizeof(identity), bench->pki, OPERATOR)};
	struct bulk all[BULK_LEASES];
	int fd = bulk_data();
	vmsig_writer *writer;

	if (vmsig_writer_open(&writer, &options, error, sizeof(error)))
		bench_die("%s", error);
	for (size_t i = 0; i < BULK_LEASES; i++)
		all[i] = (struct bulk){.fd = fd,
			.idle = true,
			.at = (attacker->number * BULK_LEASES + i) * (uint64_t)BULK};
	for (;;) {
		struct pollfd poller = {.fd = vmsig_writer_fd(writer)};

		for (size_t i = 0; i < BULK_LEASES; i++) {
			if (all[i].idle)
				bulk_push(&all[i], writer);
		}
		poller.events = vmsig_writer_poll_events(writer);
		(void)!poll(&poller, 1, BULK_POLL_MS);
		(void)!vmsig_writer_process(writer);
	}
}

/* ---- strangers ---- */

static int stranger_connect(const struct bench *bench)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	bench_path(addr.sun_path, sizeof(addr.sun_path), bench->run, "ctx.sock");
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static void churn(const struct attacker *attacker)
{
	if (seteuid(STRANGER_UID + attacker->number) < 0)
		bench_die("seteuid: %s", strerror(errno));
	for (;;) {
		int fd = stranger_connect(attacker->bench);

		if (fd >= 0)
			close(fd);
	}
}

/* A thousand of them, who come again when they are thrown out. */
static void silent(const struct attacker *attacker)
{
	enum { EACH = 4, UIDS = 250 };
	struct pollfd pollers[EACH * UIDS];

	for (size_t i = 0; i < EACH * UIDS; i++)
		pollers[i] = (struct pollfd){.fd = -1, .events = POLLIN};
	for (;;) {
		for (size_t i = 0; i < EACH * UIDS; i++) {
			if (pollers[i].fd >= 0 && !pollers[i].revents)
				continue;
			if (pollers[i].fd >= 0)
				close(pollers[i].fd);
			if (seteuid(0) < 0 || seteuid(STRANGER_UID + (unsigned)i / EACH) < 0)
				bench_die("seteuid: %s", strerror(errno));
			pollers[i].fd = stranger_connect(attacker->bench);
			pollers[i].revents = 0;
		}
		(void)!poll(pollers, EACH * UIDS, 100);
	}
}

/* ---- all of a kind ---- */

static const struct {
	const char *name;
	void (*run)(const struct attacker *attacker);
	unsigned count; /* processes, a connection each */
} kinds[] = {
	{"frames", frames, 4},
	{"globs", globs, 16},
	{"unread", unread, 48},
	{"waiters", waiters, 4},
	{"bulk", bulks, 12},
	{"refusals", refusals, 4},
	{"churn", churn, 3},
	{"silent", silent, 1},
};

static size_t kind_find(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].name, name) == 0)
			return i;
	}
	bench_die("there is no flood '%s'", name);
}

/* Each attacker lives as long as this process. */
__attribute__((noreturn)) static void run_all(const struct bench *bench, size_t kind)
{
	const struct sched_param lowest = {.sched_priority = 0};

	setpgid(0, 0);
	if (sched_setscheduler(0, SCHED_IDLE, &lowest) < 0)
		bench_die("SCHED_IDLE: %s", strerror(errno));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < kinds[kind].count; i++) {
		const struct attacker attacker = {.bench = bench, .number = i};

		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			kinds[kind].run(&attacker);
			_exit(0);
		}
	}
	for (;;)
		pause();
}

void flood_start(struct flood *flood, const struct bench *bench, const char *kind)
{
	size_t which = kind_find(kind);

	flood->pid = fork();
	if (flood->pid < 0)
		bench_die("fork: %s", strerror(errno));
	if (flood->pid == 0)
		run_all(bench, which);
	/* Both sides, whoever comes first; it may be there already. */
	(void)setpgid(flood->pid, flood->pid);
	usleep(1000000);
}

void flood_stop(struct flood *flood)
{
	kill(-flood->pid, SIGKILL);
	waitpid(flood->pid, NULL, 0);
}
