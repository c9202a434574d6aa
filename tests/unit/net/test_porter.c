/* SPDX-License-Identifier: Apache-2.0 */
/* The porter's process: what it lets through, and what it says when it has no room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "broker/net/closer.h"
#include "broker/net/porter.h"
#include "tests/support/foreign.h"

#define UID 4711u
#define STANDARD 3 /* descriptors that it has in any case, beside its way to us */
#define ENOUGH 64  /* numbers of descriptors, for all that a step needs */

static struct {
	uv_loop_t loop;
	struct porter *porter;
	struct closer *closer;
	bool closed, answered;
	int result;
	unsigned foreign;
	size_t nfds;
} stage;

static void on_done(struct porter_request *request, const struct porter_catch *catch)
{
	stage.answered = true;
	stage.result = catch->result;
	stage.foreign = catch->foreign;
	stage.nfds = catch->nfds;
	for (size_t i = 0; i < catch->nfds; i++)
		close(catch->fds[i]);
}

static void on_closed(void *arg)
{
	stage.closed = true;
}

static int setup(void **state)
{
	memset(&stage, 0, sizeof(stage));
	assert_int_equal(uv_loop_init(&stage.loop), 0);
	assert_int_equal(closer_new(&stage.closer, NULL, NULL), 0);
	assert_int_equal(porter_start(&stage.porter), 0);
	assert_int_equal(porter_open(stage.porter, &stage.loop, stage.closer), 0);
	return 0;
}

static int teardown(void **state)
{
	porter_close(stage.porter, on_closed, NULL);
	while (!stage.closed)
		uv_run(&stage.loop, UV_RUN_ONCE);
	porter_stop(stage.porter);
	closer_free(stage.closer);
	assert_int_equal(uv_loop_close(&stage.loop), 0);
	return 0;
}

/* The only child. 0: the kernel does not tell. */
static pid_t porter_pid(void)
{
	char path[64];
	int pid = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)gettid());
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%d", &pid) != 1)
		pid = 0;
	fclose(file);
	return pid;
}

/* What becomes of a message that brings these, in the broker. */
static void send_through(const int *fds, size_t nfds)
{
	struct porter_request request = {.done = on_done, .uid = UID};
	int pair[2];

	stage.answered = false;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	for (size_t i = 0; i < nfds; i++)
		assert_int_equal(foreign_send(pair[0], "x", 1, fds[i]), 0);
	request.socket = pair[1];
	porter_ask(stage.porter, &request);
	while (!stage.answered)
		uv_run(&stage.loop, UV_RUN_ONCE);
	close(pair[0]);
	close(pair[1]);
}

static void a_memfd_comes_through(void **state)
{
	int fd = memfd_create("vmsig-test", MFD_CLOEXEC);

	send_through(&fd, 1);
	assert_int_equal(stage.result, 0);
	assert_int_equal(stage.nfds, 1);
	assert_true(porter_serves(stage.porter, UID));
	close(fd);
}

static void anything_else_stays_there(void **state)
{
	int pipes[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	send_through(&pipes[1], 1);
	assert_int_equal(stage.foreign, 1);
	assert_int_equal(stage.nfds, 0);
	assert_true(porter_bars(stage.porter, UID));
	assert_false(porter_bars(stage.porter, UID + 1));
	close(pipes[0]);
	close(pipes[1]);
}

/* Others may have filled it. Whoever is served then is told so, and served later. */
static void one_without_room_answers(void **state)
{
	int fd = memfd_create("vmsig-test", MFD_CLOEXEC);
	struct rlimit limit;
	bool was_cut = false;
	pid_t pid = porter_pid();

	if (!pid)
		skip();
	send_through(&fd, 1);
	assert_int_equal(prlimit(pid, RLIMIT_NOFILE, NULL, &limit), 0);
	for (limit.rlim_cur = STANDARD; limit.rlim_cur < ENOUGH; limit.rlim_cur++) {
		assert_int_equal(prlimit(pid, RLIMIT_NOFILE, &limit, NULL), 0);
		send_through(&fd, 1);
		if (stage.result) {
			assert_int_equal(stage.result, -EMFILE);
			assert_int_equal(stage.nfds, 0);
			was_cut = true;
		} else {
			assert_int_equal(stage.nfds, 1);
		}
	}
	assert_true(was_cut);
	/* Threads of its own close what it has passed on. */
	while (stage.result)
		send_through(&fd, 1);
	close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_memfd_comes_through),
		T(anything_else_stays_there),
		T(one_without_room_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
