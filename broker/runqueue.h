/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_RUNQUEUE_H
#define BROKER_RUNQUEUE_H

/*
 * How long a thread has been ready to run and has not run, as the kernel counts it
 * (/proc/thread-self/schedstat).
 */

#include <stdint.h>

/* For the calling thread. The descriptor is the caller's; -errno: the kernel does not tell. */
__attribute__((warn_unused_result)) int runqueue_open(void);
/* Nanoseconds altogether; 0: not known. A system call, and it does not block. */
uint64_t runqueue_waited_ns(int fd);

#endif
