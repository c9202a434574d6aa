/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that do not close at once. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/net/closer.h"
#include "tests/support/foreign.h"

#define UID 4711u

static void await_closed(struct closer *closer)
{
	while (closer_pending(closer))
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void it_closes(void **state)
{
	struct closer *closer;
	int fds[2];
	char byte;

	assert_int_equal(closer_new(&closer, NULL, NULL), 0);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		closer_give(closer, fds[1], UID);
		assert_int_equal(read(fds[0], &byte, 1), 0);
		close(fds[0]);
	}
	await_closed(closer);
	assert_int_equal(closer_stuck_of(closer, UID), 0);
	closer_free(closer);
}

/* More of them than threads; alone, each would wait for minutes. */
static void what_lingers_is_ended(void **state)
{
	int peers[CLOSER_THREADS + 4];
	struct closer *closer;

	assert_int_equal(closer_new(&closer, NULL, NULL), 0);
	for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++)
		closer_give(closer, foreign_lingering(&peers[i]), UID);
	await_closed(closer);
	closer_free(closer);
	for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++)
		close(peers[i]);
}

static void the_end_waits_for_what_is_left(void **state)
{
	struct closer *closer;
	int fds[2];
	char byte;

	assert_int_equal(closer_new(&closer, NULL, NULL), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	closer_give(closer, fds[1], UID);
	closer_free(closer);
	assert_int_equal(read(fds[0], &byte, 1), 0);
	close(fds[0]);
}

static void without_one_it_is_done_at_once(void **state)
{
	int fds[2];
	char byte;

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	closer_give(NULL, fds[1], UID);
	assert_int_equal(read(fds[0], &byte, 1), 0);
	close(fds[0]);
	assert_int_equal(closer_pending(NULL), 0);
	assert_int_equal(closer_stuck_of(NULL, UID), 0);
	assert_null(closer_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_closes),
		cmocka_unit_test(what_lingers_is_ended),
		cmocka_unit_test(the_end_waits_for_what_is_left),
		cmocka_unit_test(without_one_it_is_done_at_once),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
