/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/relay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAIRS 64 /* connections at once */

/* The descriptors of a connection are next to each other; what is -1 is free. */
static struct pollfd polled[1 + 2 * PAIRS];

static struct sockaddr_in at_loopback(unsigned port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void take(int listener, unsigned port)
{
	const struct sockaddr_in address = at_loopback(port);
	int client = accept(listener, NULL, NULL), server = socket(AF_INET, SOCK_STREAM, 0);
	size_t i = 1;

	while (i < 1 + 2 * PAIRS && polled[i].fd >= 0)
		i += 2;
	if (client < 0 || server < 0 || i >= 1 + 2 * PAIRS ||
		connect(server, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		close(client);
		close(server);
		return;
	}
	polled[i] = (struct pollfd){.fd = client, .events = POLLIN};
	polled[i + 1] = (struct pollfd){.fd = server, .events = POLLIN};
}

/* Whether the connection goes on. */
static bool hand_on(int from, int to)
{
	char bytes[16384];
	ssize_t n = recv(from, bytes, sizeof(bytes), 0);

	return n > 0 && send(to, bytes, (size_t)n, MSG_NOSIGNAL) == n;
}

static void serve(size_t pair)
{
	struct pollfd *ends = &polled[1 + 2 * pair];

	for (size_t i = 0; i < 2 && ends[0].fd >= 0; i++) {
		if (!ends[i].revents || hand_on(ends[i].fd, ends[1 - i].fd))
			continue;
		close(ends[0].fd);
		close(ends[1].fd);
		ends[0].fd = ends[1].fd = -1;
	}
}

static _Noreturn void run(int listener, unsigned port)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t i = 1; i < 1 + 2 * PAIRS; i++)
		polled[i].fd = -1;
	polled[0] = (struct pollfd){.fd = listener, .events = POLLIN};
	for (;;) {
		if (poll(polled, 1 + 2 * PAIRS, -1) < 0)
			_exit(1);
		for (size_t pair = 0; pair < PAIRS; pair++)
			serve(pair);
		if (polled[0].revents)
			take(listener, port);
	}
}

void relay_start(struct relay *relay, unsigned port)
{
	struct sockaddr_in address = at_loopback(0);
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(listener >= 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, PAIRS), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	relay->port = ntohs(address.sin_port);
	relay->pid = fork();
	assert_true(relay->pid >= 0);
	if (!relay->pid)
		run(listener, port);
	close(listener);
}

void relay_end(struct relay *relay)
{
	if (!relay->pid)
		return;
	kill(relay->pid, SIGKILL);
	waitpid(relay->pid, NULL, 0);
	relay->pid = 0;
}
