/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/thread.h"

#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NICE_MOST 19
#define SHORT_SLICE_NS 100000u /* the shortest that the kernel gives */

/* sched_setattr(2), which the C library of Debian 12 does not have. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period; /* ns; of an ordinary thread the first is its slice */
};

int thread_start(pthread_t *ret_thread, const pthread_attr_t *attr, int spared,
	void *(*run)(void *arg), void *arg)
{
	sigset_t blocked, before;
	int r;

	/* A thread starts with the mask of the one that makes it. */
	sigfillset(&blocked);
	/* Of the thread's own doing: where it is blocked the process ends before it says why. */
	sigdelset(&blocked, SIGSYS);
	if (spared)
		sigdelset(&blocked, spared);
	pthread_sigmask(SIG_SETMASK, &blocked, &before);
	r = pthread_create(ret_thread, attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

static void set_attributes(int policy, int nice, uint64_t slice_ns)
{
	const struct attributes attributes = {.size = sizeof(attributes),
		.policy = (uint32_t)policy,
		.nice = nice,
		.runtime = slice_ns};

	(void)!syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void thread_be_prompt(void)
{
	/* Of this thread alone: setpriority(2), "C library/kernel differences". */
	set_attributes(SCHED_OTHER, getpriority(PRIO_PROCESS, (id_t)gettid()), SHORT_SLICE_NS);
}

void thread_be_patient(int steps)
{
	int nice = getpriority(PRIO_PROCESS, (id_t)getpid()) + steps;

	set_attributes(SCHED_BATCH, nice < NICE_MOST ? nice : NICE_MOST, 0);
}
