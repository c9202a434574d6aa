/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/log_writer.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broker/thread.h"

#define LOST_MAX 256 /* bytes of the record that tells of lost ones */

enum state { DIRECT, QUEUED, SILENT };

/* Records lie in the ring one after the other, each behind its length. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t work; /* something is queued, or it is the end */
	pthread_cond_t idle; /* nothing is */
	pthread_t thread;
	enum state state;
	bool ending, writing;
	char *ring;
	size_t head, len;
	unsigned long lost, lost_ever;
	log_writer_lost_fn tell;
} writer = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

static void write_all(const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(STDERR_FILENO, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		/* Nobody reads any more, or there is no standard error. */
		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

/* ---- the ring ---- */

static void ring_add(const void *bytes, size_t len)
{
	size_t tail = (writer.head + writer.len) % LOG_WRITER_BYTES;
	size_t first = LOG_WRITER_BYTES - tail < len ? LOG_WRITER_BYTES - tail : len;

	memcpy(writer.ring + tail, bytes, first);
	memcpy(writer.ring, (const char *)bytes + first, len - first);
	writer.len += len;
}

static void ring_copy(size_t at, void *bytes, size_t len)
{
	size_t start = (writer.head + at) % LOG_WRITER_BYTES;
	size_t first = LOG_WRITER_BYTES - start < len ? LOG_WRITER_BYTES - start : len;

	memcpy(bytes, writer.ring + start, first);
	memcpy((char *)bytes + first, writer.ring, len - first);
}

static bool ring_put(const char *text, size_t len)
{
	const uint16_t size = (uint16_t)len;

	if (LOG_WRITER_BYTES - writer.len < sizeof(size) + len)
		return false;
	ring_add(&size, sizeof(size));
	ring_add(text, len);
	return true;
}

/* As many whole records as one write(2) may have without being mixed with others' output. */
static size_t ring_take(char text[static PIPE_BUF])
{
	size_t total = 0;

	while (writer.len) {
		uint16_t size;

		ring_copy(0, &size, sizeof(size));
		if (total + size > PIPE_BUF)
			break;
		ring_copy(sizeof(size), text + total, size);
		total += size;
		writer.head = (writer.head + sizeof(size) + size) % LOG_WRITER_BYTES;
		writer.len -= sizeof(size) + size;
	}
	return total;
}

static void tell_lost(void)
{
	char text[LOST_MAX];

	if (writer.lost && ring_put(text, writer.tell(text, sizeof(text), writer.lost)))
		writer.lost = 0;
}

/* ---- the thread ---- */

static void *writer_run(void *arg)
{
	char text[PIPE_BUF];

	pthread_mutex_lock(&writer.lock);
	for (;;) {
		size_t len = ring_take(text);

		if (len) {
			writer.writing = true;
			pthread_mutex_unlock(&writer.lock);
			write_all(text, len);
			pthread_mutex_lock(&writer.lock);
			writer.writing = false;
		} else if (writer.lost) {
			tell_lost();
		} else {
			pthread_cond_signal(&writer.idle);
			if (writer.ending)
				break;
			pthread_cond_wait(&writer.work, &writer.lock);
		}
	}
	pthread_mutex_unlock(&writer.lock);
	return NULL;
}

int log_writer_start(log_writer_lost_fn lost)
{
	pthread_condattr_t monotonic;
	int r;

	writer.ring = malloc(LOG_WRITER_BYTES);
	if (!writer.ring)
		return -ENOMEM;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&writer.idle, &monotonic);
	pthread_condattr_destroy(&monotonic);
	writer.tell = lost;
	writer.ending = false;
	r = thread_start(&writer.thread, NULL, 0, writer_run, NULL);
	if (r) {
		free(writer.ring);
		return r;
	}
	writer.state = QUEUED;
	return 0;
}

void log_writer_stop(void)
{
	struct timespec until;
	bool over = true;

	if (writer.state != QUEUED)
		return;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LOG_WRITER_PARTING_MS / 1000;
	pthread_mutex_lock(&writer.lock);
	writer.ending = true;
	pthread_cond_signal(&writer.work);
	while (over && (writer.len || writer.lost || writer.writing))
		over = pthread_cond_timedwait(&writer.idle, &writer.lock, &until) == 0;
	writer.state = over ? DIRECT : SILENT;
	pthread_mutex_unlock(&writer.lock);
	/* A write that does not end is left to the end of the process. */
	if (!over)
		return;
	pthread_join(writer.thread, NULL);
	free(writer.ring);
}

void log_writer_put(const char *text, size_t len)
{
	enum state state;

	pthread_mutex_lock(&writer.lock);
	state = writer.state;
	if (state == QUEUED) {
		tell_lost();
		if (writer.lost || !ring_put(text, len))
			writer.lost++, writer.lost_ever++;
		pthread_cond_signal(&writer.work);
	}
	pthread_mutex_unlock(&writer.lock);
	if (state == DIRECT)
		write_all(text, len);
}

unsigned long log_writer_lost(void)
{
	unsigned long lost;

	pthread_mutex_lock(&writer.lock);
	lost = writer.lost_ever;
	pthread_mutex_unlock(&writer.lock);
	return lost;
}
