/* SPDX-License-Identifier: Apache-2.0 */
/* A member that never stops sending: the loop goes on beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/etcd/etcd.h"

#define TURNS 50 /* in which others are served */
#define LINES 64 /* sent at once */
#define HEADER                                                                                     \
	"{\"result\":{\"header\":{\"cluster_id\":\"1\",\"member_id\":\"1\",\"revision\":\"1\"}"
#define BEGUN HEADER ",\"created\":true}}\n"
#define NOTHING HEADER "}}\n"
#define VERSION "{\"etcdserver\":\"3.5.0\"}"

struct flooded {
	uv_loop_t loop;
	uv_check_t turn;
	struct etcd *etcd;
	unsigned turns;
	bool heard, closed;
};

/* ---- the member ---- */

static void say(int fd, const char *text)
{
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		_exit(0);
}

static void say_chunk(int fd, const char *text)
{
	char head[32];

	snprintf(head, sizeof(head), "%zx\r\n", strlen(text));
	say(fd, head);
	say(fd, text);
	say(fd, "\r\n");
}

/* Lines that say nothing, until nobody reads them. */
static void flood(int fd)
{
	static char lines[LINES * sizeof(NOTHING)];

	for (size_t i = 0; i < LINES; i++)
		memcpy(lines + i * (sizeof(NOTHING) - 1), NOTHING, sizeof(NOTHING));
	say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	say_chunk(fd, BEGUN);
	for (;;)
		say_chunk(fd, lines);
}

static void answer(int fd)
{
	char request[4096], reply[256];
	ssize_t n = recv(fd, request, sizeof(request) - 1, 0);

	if (n <= 0)
		_exit(0);
	request[n] = 0;
	if (strstr(request, "/v3/watch"))
		flood(fd);
	snprintf(reply, sizeof(reply),
		"HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
		strlen(VERSION), VERSION);
	say(fd, reply);
}

static void be_member(int listener)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			_exit(1);
		answer(fd);
		close(fd);
	}
}

static pid_t member_start(char *ret_url, size_t size)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(listener >= 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 8), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	snprintf(ret_url, size, "http://127.0.0.1:%u", ntohs(address.sin_port));
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		be_member(listener);
	close(listener);
	return pid;
}

/* ---- who is flooded ---- */

static void on_answered(void *arg, const struct txn_answer *answer)
{
}

static void on_noticed(void *arg, const struct txn_notice *notice)
{
}

static void on_closed(void *arg)
{
	((struct flooded *)arg)->closed = true;
}

static void on_turn(uv_check_t *check)
{
	struct flooded *flooded = check->data;
	struct etcd_status status;

	etcd_status(flooded->etcd, &status);
	/* The watch has begun. */
	flooded->heard = flooded->heard || status.answers;
	if (!flooded->heard || ++flooded->turns < TURNS)
		return;
	uv_close((uv_handle_t *)check, NULL);
	etcd_close(flooded->etcd, on_closed, flooded);
}

static void the_loop_goes_on(void **state)
{
	static struct flooded flooded;
	char url[64];
	const char *const urls[] = {url};
	const struct txn_request watch = {
		.kind = TXN_WATCH, .number = 1, .prefix = "/a", .revision = 0};
	struct etcd_options options = {.loop = &flooded.loop,
		.urls = urls,
		.nurls = 1,
		.answered = on_answered,
		.noticed = on_noticed};
	pid_t member = member_start(url, sizeof(url));

	(void)state;
	assert_int_equal(uv_loop_init(&flooded.loop), 0);
	assert_int_equal(uv_check_init(&flooded.loop, &flooded.turn), 0);
	flooded.turn.data = &flooded;
	uv_check_start(&flooded.turn, on_turn);
	assert_int_equal(etcd_new(&flooded.etcd, &options), 0);
	assert_int_equal(etcd_send(flooded.etcd, &watch), 0);
	uv_run(&flooded.loop, UV_RUN_DEFAULT);
	assert_true(flooded.closed);
	assert_int_equal(uv_loop_close(&flooded.loop), 0);
	kill(member, SIGKILL);
	assert_int_equal(waitpid(member, NULL, 0), member);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_loop_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
