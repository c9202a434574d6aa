/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_THREAD_H
#define BROKER_THREAD_H

/*
 * Starts a thread that no signal is delivered to: signals are the loop's, and what they
 * interrupted elsewhere would have to expect that.
 */

#include <pthread.h>

/* Runs run(arg). `attr` may be NULL; `spared` is the one signal that the thread does take, 0 for
 * none. 0 or -errno. */
__attribute__((warn_unused_result)) int thread_start(pthread_t *ret_thread,
	const pthread_attr_t *attr, int spared, void *(*run)(void *arg), void *arg);

#endif
