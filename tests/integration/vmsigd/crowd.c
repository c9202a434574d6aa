/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/vmsigd/crowd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CROWD_MAX 512
#define LINE_MAX_BYTES 4096
#define ZEROES "00000000-0000-0000-0000-000000000000"

struct one {
	char path[108];
	char name[512], uuid[64];
	enum crowd_manner manner;
	int listener, client; /* -1: none */
	unsigned visits;
	char line[LINE_MAX_BYTES];
	size_t len;
};

struct crowd {
	pthread_t thread;
	pthread_mutex_t lock;
	int poke;
	bool over;
	struct one *all[CROWD_MAX];
	size_t n;
};

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* ---- a client ---- */

static void hang_up(struct one *one)
{
	close(one->client);
	one->client = -1;
	one->len = 0;
}

static void say(struct one *one, const char *text)
{
	if (send(one->client, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		hang_up(one);
}

static void answer(struct one *one)
{
	const char *id = strstr(one->line, "\"id\":");
	unsigned long number = id ? strtoul(id + 5, NULL, 10) : 0;
	char text[1024];

	if (one->manner != CROWD_HONEST)
		return;
	if (strstr(one->line, "\"query-name\"") && one->name[0])
		snprintf(text, sizeof(text), "{\"return\": {\"name\": \"%s\"}, \"id\": %lu}\r\n",
			one->name, number);
	else if (strstr(one->line, "\"query-uuid\""))
		snprintf(text, sizeof(text), "{\"return\": {\"UUID\": \"%s\"}, \"id\": %lu}\r\n",
			one->uuid, number);
	else if (strstr(one->line, "\"qmp_capabilities\"") || strstr(one->line, "\"query-name\""))
		snprintf(text, sizeof(text), "{\"return\": {}, \"id\": %lu}\r\n", number);
	else
		snprintf(text, sizeof(text),
			"{\"error\": {\"class\": \"GenericError\", \"desc\": \"not here\"}, "
			"\"id\": %lu}\r\n",
			number);
	say(one, text);
}

static void hear(struct one *one)
{
	ssize_t n = recv(one->client, one->line + one->len, sizeof(one->line) - 1 - one->len, 0);
	char *end;

	if (n <= 0) {
		hang_up(one);
		return;
	}
	one->len += (size_t)n;
	one->line[one->len] = '\0';
	while (one->client >= 0 && (end = strchr(one->line, '\n'))) {
		*end = '\0';
		answer(one);
		if (one->client < 0)
			return;
		one->len -= (size_t)(end + 1 - one->line);
		memmove(one->line, end + 1, one->len + 1);
	}
}

static void talk(struct one *one)
{
	static const char event[] = "{\"event\": \"X\", \"timestamp\": {\"seconds\": 1, "
				    "\"microseconds\": 1}}\r\n";

	if (send(one->client, event, sizeof(event) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
		errno != EAGAIN)
		hang_up(one);
}

static void welcome(struct one *one)
{
	one->client = accept4(one->listener, NULL, NULL, SOCK_CLOEXEC);
	if (one->client < 0)
		return;
	one->visits++;
	if (one->manner == CROWD_GARBAGE)
		say(one, "SSH-2.0-OpenSSH_9.2\r\n");
	else if (one->manner != CROWD_SILENT)
		say(one, "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, "
			 "\"major\": 7}}, \"capabilities\": []}}\r\n");
}

/* ---- the thread ---- */

static short wanted(const struct one *one)
{
	return one->client >= 0 && one->manner == CROWD_TALKER ? POLLIN | POLLOUT : POLLIN;
}

static nfds_t list(const struct crowd *crowd, struct pollfd *fds)
{
	fds[0] = (struct pollfd){.fd = crowd->poke, .events = POLLIN};
	for (size_t i = 0; i < crowd->n; i++)
		fds[i + 1] =
			(struct pollfd){.fd = crowd->all[i]->client >= 0 ? crowd->all[i]->client
									 : crowd->all[i]->listener,
				.events = wanted(crowd->all[i])};
	return crowd->n + 1;
}

static void serve(struct one *one, short events)
{
	if (one->client < 0)
		welcome(one);
	else if (events & (POLLIN | POLLHUP | POLLERR))
		hear(one);
	else
		talk(one);
}

static void *run(void *arg)
{
	static struct pollfd fds[CROWD_MAX + 1];
	struct crowd *crowd = arg;
	uint64_t n;

	pthread_mutex_lock(&crowd->lock);
	while (!crowd->over) {
		nfds_t count = list(crowd, fds);

		pthread_mutex_unlock(&crowd->lock);
		check(poll(fds, count, -1) >= 0 || errno == EINTR);
		pthread_mutex_lock(&crowd->lock);
		/* What was polled may be another one's by now. */
		if (read(crowd->poke, &n, sizeof(n)) > 0)
			continue;
		for (nfds_t i = 1; i < count; i++) {
			if (fds[i].revents)
				serve(crowd->all[i - 1], fds[i].revents);
		}
	}
	pthread_mutex_unlock(&crowd->lock);
	return NULL;
}

static void poke(struct crowd *crowd)
{
	uint64_t one = 1;

	check(write(crowd->poke, &one, sizeof(one)) == sizeof(one));
}

/* ---- from the test ---- */

struct crowd *crowd_new(void)
{
	struct crowd *crowd = calloc(1, sizeof(*crowd));

	check(crowd != NULL);
	pthread_mutex_init(&crowd->lock, NULL);
	crowd->poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	check(crowd->poke >= 0);
	check(pthread_create(&crowd->thread, NULL, run, crowd) == 0);
	return crowd;
}

static void one_free(struct one *one)
{
	if (one->client >= 0)
		close(one->client);
	close(one->listener);
	free(one);
}

struct crowd *crowd_free(struct crowd *crowd)
{
	if (!crowd)
		return NULL;
	pthread_mutex_lock(&crowd->lock);
	crowd->over = true;
	pthread_mutex_unlock(&crowd->lock);
	poke(crowd);
	pthread_join(crowd->thread, NULL);
	for (size_t i = 0; i < crowd->n; i++)
		one_free(crowd->all[i]);
	close(crowd->poke);
	pthread_mutex_destroy(&crowd->lock);
	free(crowd);
	return NULL;
}

void crowd_add(struct crowd *crowd, const char *path, const char *name, const char *uuid,
	enum crowd_manner manner)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct one *one = calloc(1, sizeof(*one));

	check(one && crowd->n < CROWD_MAX);
	check((size_t)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path) <
		sizeof(addr.sun_path));
	snprintf(one->path, sizeof(one->path), "%s", path);
	snprintf(one->name, sizeof(one->name), "%s", name ? name : "");
	snprintf(one->uuid, sizeof(one->uuid), "%s", uuid ? uuid : ZEROES);
	one->manner = manner;
	one->client = -1;
	one->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	check(one->listener >= 0);
	check(bind(one->listener, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	check(listen(one->listener, 1) == 0);
	pthread_mutex_lock(&crowd->lock);
	crowd->all[crowd->n++] = one;
	poke(crowd);
	pthread_mutex_unlock(&crowd->lock);
}

static size_t find(const struct crowd *crowd, const char *path)
{
	size_t i = 0;

	while (i < crowd->n && strcmp(crowd->all[i]->path, path) != 0)
		i++;
	check(i < crowd->n);
	return i;
}

void crowd_end(struct crowd *crowd, const char *path, bool is_killed)
{
	size_t i;

	pthread_mutex_lock(&crowd->lock);
	i = find(crowd, path);
	if (!is_killed)
		check(unlink(path) == 0);
	one_free(crowd->all[i]);
	crowd->all[i] = crowd->all[--crowd->n];
	poke(crowd);
	pthread_mutex_unlock(&crowd->lock);
}

unsigned crowd_visits(struct crowd *crowd, const char *path)
{
	unsigned visits;

	pthread_mutex_lock(&crowd->lock);
	visits = crowd->all[find(crowd, path)]->visits;
	pthread_mutex_unlock(&crowd->lock);
	return visits;
}
