/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/wire.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/daemon.h"

#define LINES 8 /* a client that comes again has left its earlier ones */
#define PIECE 4096
#define TICK_MS 5

struct line {
	int ends[2]; /* of the client, of the broker; -1: none */
	size_t carried[2];
	bool first; /* it has the fault */
};

struct wire {
	pthread_t thread;
	pthread_mutex_t lock;
	int listener;
	char target[108];
	struct line lines[LINES];
	bool ending, spoilt, armed;
	enum wire_fault fault;
	enum wire_way way;
	size_t at;
};

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	assert_true(strlen(path) < sizeof(addr.sun_path));
	strcpy(addr.sun_path, path);
	return addr;
}

static void line_end(struct line *line)
{
	for (int i = 0; i < 2; i++) {
		if (line->ends[i] >= 0)
			close(line->ends[i]);
		line->ends[i] = -1;
	}
}

static struct line *line_free(struct wire *wire)
{
	for (size_t i = 0; i < LINES; i++) {
		if (wire->lines[i].ends[0] < 0)
			return &wire->lines[i];
	}
	return NULL;
}

static void welcome(struct wire *wire)
{
	struct sockaddr_un addr = address(wire->target);
	struct line *line = line_free(wire);
	int client = accept4(wire->listener, NULL, NULL, SOCK_CLOEXEC);

	if (client < 0)
		return;
	if (!line) {
		close(client);
		return;
	}
	*line = (struct line){.ends = {client, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)},
		.first = wire->armed};
	wire->armed = false;
	if (connect(line->ends[1], (struct sockaddr *)&addr, sizeof(addr)))
		line_end(line);
}

/* Whether the bytes go on; at its byte the fault happens. */
static bool pass(struct wire *wire, struct line *line, int way, char *piece, ssize_t *n)
{
	size_t at = wire->at - line->carried[way];
	bool here = line->first && (int)wire->way == way && wire->at >= line->carried[way] &&
		    at < (size_t)*n;

	if (!here)
		return true;
	wire->spoilt = true;
	if (wire->fault == WIRE_FLIP) {
		piece[at] ^= 1;
		return true;
	}
	*n = (ssize_t)at;
	return false;
}

/* Whether the line is still there. */
static void carry(struct wire *wire, struct line *line, int way)
{
	char piece[PIECE];
	ssize_t n = recv(line->ends[way], piece, sizeof(piece), MSG_DONTWAIT);
	bool goes_on = n > 0 && pass(wire, line, way, piece, &n);

	if (n > 0 && send(line->ends[!way], piece, (size_t)n, MSG_NOSIGNAL) != n)
		goes_on = false;
	if (n > 0)
		line->carried[way] += (size_t)n;
	if (!goes_on && !(wire->fault == WIRE_STOP && line->first && wire->spoilt))
		line_end(line);
}

/* One that stands still is not read from any more. */
static bool is_read(const struct wire *wire, const struct line *line)
{
	return line->ends[0] >= 0 && !(line->first && wire->spoilt && wire->fault == WIRE_STOP);
}

static void look(struct wire *wire)
{
	for (size_t i = 0; i < LINES; i++) {
		struct line *line = &wire->lines[i];

		for (int way = 0; way < 2; way++) {
			struct pollfd ready = {.fd = line->ends[way], .events = POLLIN};

			if (is_read(wire, line) && poll(&ready, 1, 0) == 1)
				carry(wire, line, way);
		}
	}
}

static size_t list(struct wire *wire, struct pollfd fds[static 1 + 2 * LINES])
{
	size_t n = 0;

	fds[n++] = (struct pollfd){.fd = wire->listener, .events = POLLIN};
	for (size_t i = 0; i < LINES; i++) {
		for (int way = 0; way < 2 && is_read(wire, &wire->lines[i]); way++)
			fds[n++] =
				(struct pollfd){.fd = wire->lines[i].ends[way], .events = POLLIN};
	}
	return n;
}

static void *run(void *arg)
{
	struct wire *wire = arg;
	bool ending = false;

	while (!ending) {
		struct pollfd fds[1 + 2 * LINES];
		size_t n;

		pthread_mutex_lock(&wire->lock);
		n = list(wire, fds);
		pthread_mutex_unlock(&wire->lock);
		poll(fds, n, TICK_MS);
		pthread_mutex_lock(&wire->lock);
		if (fds[0].revents)
			welcome(wire);
		look(wire);
		ending = wire->ending;
		pthread_mutex_unlock(&wire->lock);
	}
	return NULL;
}

struct wire *wire_open(const char *path, const char *target)
{
	struct sockaddr_un addr = address(path);
	struct wire *wire = calloc(1, sizeof(*wire));

	assert_non_null(wire);
	snprintf(wire->target, sizeof(wire->target), "%s", target);
	for (size_t i = 0; i < LINES; i++)
		wire->lines[i].ends[0] = wire->lines[i].ends[1] = -1;
	wire->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(wire->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(wire->listener, LINES), 0);
	assert_int_equal(pthread_mutex_init(&wire->lock, NULL), 0);
	assert_int_equal(pthread_create(&wire->thread, NULL, run, wire), 0);
	return wire;
}

struct wire *wire_close(struct wire *wire)
{
	if (!wire)
		return NULL;
	pthread_mutex_lock(&wire->lock);
	wire->ending = true;
	pthread_mutex_unlock(&wire->lock);
	pthread_join(wire->thread, NULL);
	for (size_t i = 0; i < LINES; i++)
		line_end(&wire->lines[i]);
	close(wire->listener);
	pthread_mutex_destroy(&wire->lock);
	free(wire);
	return NULL;
}

void wire_spoil(struct wire *wire, enum wire_fault fault, enum wire_way way, size_t at)
{
	pthread_mutex_lock(&wire->lock);
	for (size_t i = 0; i < LINES; i++)
		line_end(&wire->lines[i]);
	wire->fault = fault;
	wire->way = way;
	wire->at = at;
	wire->spoilt = false;
	wire->armed = true;
	pthread_mutex_unlock(&wire->lock);
}

bool wire_was_spoilt(struct wire *wire)
{
	bool spoilt;

	pthread_mutex_lock(&wire->lock);
	spoilt = wire->spoilt;
	pthread_mutex_unlock(&wire->lock);
	return spoilt;
}
