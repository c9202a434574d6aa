/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/thread.h"

#include <signal.h>

int thread_start(pthread_t *ret_thread, const pthread_attr_t *attr, int spared,
	void *(*run)(void *arg), void *arg)
{
	sigset_t blocked, before;
	int r;

	/* A thread starts with the mask of the one that makes it. */
	sigfillset(&blocked);
	if (spared)
		sigdelset(&blocked, spared);
	pthread_sigmask(SIG_SETMASK, &blocked, &before);
	r = pthread_create(ret_thread, attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}
