/* SPDX-License-Identifier: Apache-2.0 */
/* What a service manager keeps from one broker to the next. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/manager.h"

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */
#define ASIDE 16   /* descriptors are made from there on, and then handed in */
#define OLD "1-2"
#define NEW "1-3"

/* The other ends: handed in as well, under names that are none of a broker's, because others are
 * closed. */
enum { OLD_PEER = FIRST_FD + 2, NEW_PEER };

static void hand_in(int fd, int as)
{
	int aside = fcntl(fd, F_DUPFD_CLOEXEC, ASIDE);

	assert_true(aside >= 0);
	close(fd);
	assert_int_equal(dup2(aside, as), as);
	close(aside);
}

static void connect_pair(int as, int peer)
{
	int ends[2], aside;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	aside = fcntl(ends[1], F_DUPFD_CLOEXEC, ASIDE);
	close(ends[1]);
	hand_in(ends[0], as);
	hand_in(aside, peer);
}

/* As systemd starts the next broker. */
static int setup(void **state)
{
	char pid[32];

	connect_pair(FIRST_FD, OLD_PEER);
	connect_pair(FIRST_FD + 1, NEW_PEER);
	snprintf(pid, sizeof(pid), "%d", getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "4", 1);
	setenv("LISTEN_FDNAMES", "qmp/web1/" OLD ":qmp/web2/" NEW ":peer:peer", 1);
	return manager_begin();
}

static int teardown(void **state)
{
	manager_end();
	return 0;
}

static bool is_open(int peer)
{
	char byte;

	return recv(peer, &byte, 1, MSG_DONTWAIT) < 0;
}

/* Whoever asks takes it, asks QEMU something, and gives it back for who takes it next. */
static uint64_t take_and_return(const char *rest)
{
	char name[MANAGER_NAME_MAX];
	int fd = manager_take("qmp", rest, name);
	uint64_t before_ns;

	assert_true(fd >= 0);
	before_ns = uv_hrtime();
	manager_return(name, fd);
	return before_ns;
}

static void test_what_was_given_back_is_not_forgotten_with_what_nobody_asked_for(void **state)
{
	uint64_t before_ns = take_and_return(NEW);
	char name[MANAGER_NAME_MAX];
	int fd;

	manager_forget(before_ns);
	assert_false(is_open(OLD_PEER));
	assert_true(is_open(NEW_PEER));
	fd = manager_take("qmp", NEW, name);
	assert_true(fd >= 0);
	assert_string_equal(name, "qmp/web2/" NEW);
	close(fd);
}

static void test_what_was_given_back_is_forgotten_in_its_time(void **state)
{
	(void)take_and_return(OLD);
	(void)take_and_return(NEW);
	manager_forget(uv_hrtime() + 1);
	assert_false(is_open(OLD_PEER));
	assert_false(is_open(NEW_PEER));
}

static void test_what_is_taken_is_nobody_elses_to_forget(void **state)
{
	char name[MANAGER_NAME_MAX];
	int fd = manager_take("qmp", OLD, name);

	manager_forget(uv_hrtime() + 1);
	assert_true(is_open(OLD_PEER));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_what_was_given_back_is_not_forgotten_with_what_nobody_asked_for, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_what_was_given_back_is_forgotten_in_its_time, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_what_is_taken_is_nobody_elses_to_forget, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
