/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_MEM_CLOCK_H
#define CLIENTS_MEM_CLOCK_H

/*
 * The clock that a coherent read looks at: CLOCK_MONOTONIC_COARSE. The kernel puts the code that
 * reads it into each process (vdso(7)); to call that without the C library in between is a third of
 * what a look costs.
 */

#include <stdint.h>
#include <time.h>

#define MEM_CLOCK CLOCK_MONOTONIC_COARSE

/* As clock_gettime(2). */
typedef int (*mem_clock_fn)(clockid_t clock, struct timespec *ret_now);

/* The kernel's, or the C library's where that is not to be found. Never NULL. */
mem_clock_fn mem_clock_find(void);

/* Nanoseconds. */
static inline uint64_t mem_clock_now(mem_clock_fn clock)
{
	struct timespec now;

	(void)clock(MEM_CLOCK, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
