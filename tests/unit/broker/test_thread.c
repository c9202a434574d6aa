/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: how they ask to be scheduled, and that they hear no signals. */
#include "broker/thread.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cmocka.h>

#define STEPS 7

/* Of the thread that asked. */
struct seen {
	int policy, nice;
	sigset_t blocked;
};

static void look(struct seen *seen)
{
	seen->policy = sched_getscheduler(0);
	seen->nice = getpriority(PRIO_PROCESS, (id_t)gettid());
	pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
}

static void *patient(void *arg)
{
	thread_be_patient(STEPS);
	look(arg);
	return NULL;
}

static void *prompt(void *arg)
{
	thread_be_prompt();
	look(arg);
	return NULL;
}

static struct seen run(void *(*main)(void *arg))
{
	struct seen seen = {0};
	pthread_t thread;

	assert_int_equal(thread_start(&thread, NULL, SIGUSR1, main, &seen), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	return seen;
}

static void who_is_patient_gives_way_alone(void **state)
{
	struct seen before, after, seen;

	look(&before);
	seen = run(patient);
	look(&after);
	assert_int_equal(seen.policy, SCHED_BATCH);
	assert_int_equal(seen.nice, before.nice + STEPS < 19 ? before.nice + STEPS : 19);
	assert_int_equal(after.policy, before.policy);
	assert_int_equal(after.nice, before.nice);
}

/* Short slices are no priority. */
static void who_is_prompt_has_no_more_than_others(void **state)
{
	struct seen before, seen;

	look(&before);
	seen = run(prompt);
	assert_int_equal(seen.policy, SCHED_OTHER);
	assert_int_equal(seen.nice, before.nice);
}

static void signals_are_not_for_threads(void **state)
{
	struct seen seen = run(prompt);

	assert_true(sigismember(&seen.blocked, SIGTERM));
	assert_true(sigismember(&seen.blocked, SIGHUP));
	assert_false(sigismember(&seen.blocked, SIGUSR1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_patient_gives_way_alone),
		cmocka_unit_test(who_is_prompt_has_no_more_than_others),
		cmocka_unit_test(signals_are_not_for_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
