/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_THREAD_H
#define BROKER_THREAD_H

/*
 * Threads: one that no signal is delivered to, because signals are the loop's, and what they
 * interrupted elsewhere would have to expect that; and how the kernel's scheduler treats them. The
 * loop has everybody's writes, so it runs as soon as it has something to do, and what works for it
 * runs when nobody else wants the CPU. Where the kernel knows less of that, things only take
 * longer.
 */

#include <pthread.h>

/* Runs run(arg). `attr` may be NULL; `spared` is the one signal that the thread does take, 0 for
 * none. 0 or -errno. */
__attribute__((warn_unused_result)) int thread_start(pthread_t *ret_thread,
	const pthread_attr_t *attr, int spared, void *(*run)(void *arg), void *arg);

/* The calling thread asks for short slices (Linux 6.12): when it wakes it need not wait for the
 * end of another's, and its share of the CPU is what it was. Threads that it starts do the same. */
void thread_be_prompt(void);
/* The calling thread gives way to the process' first one, the loop's: by so many steps of nice(2),
 * to 19 at most, and when it wakes nobody loses the CPU to it. */
void thread_be_patient(int steps);

#endif
