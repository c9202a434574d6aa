/* SPDX-License-Identifier: Apache-2.0 */
/* A thread's waits for a CPU: they come of others on its CPU, and not of sleep. */
#include "broker/runqueue.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MS 1000000ull

static uint64_t now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void share_one_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	assert_int_equal(sched_setaffinity(0, sizeof(set), &set), 0);
}

static void waits_come_of_others_on_the_cpu(void **state)
{
	int fd = runqueue_open();
	uint64_t before, start_ns;
	pid_t other;

	assert_true(fd >= 0);
	share_one_cpu();
	other = fork();
	assert_true(other >= 0);
	while (other == 0)
		;
	before = runqueue_waited_ns(fd);
	start_ns = now();
	/* Two that never sleep take turns. */
	while (runqueue_waited_ns(fd) < before + 10 * MS)
		;
	assert_true(now() - start_ns >= 10 * MS);
	kill(other, SIGKILL);
	assert_int_equal(waitpid(other, NULL, 0), other);
	close(fd);
}

static void what_cannot_be_known_is_nothing(void **state)
{
	assert_int_equal(runqueue_waited_ns(-1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits_come_of_others_on_the_cpu),
		cmocka_unit_test(what_cannot_be_known_is_nothing),
	};

	return cmocka_run_group_tests_name("runqueue", tests, NULL, NULL);
}
