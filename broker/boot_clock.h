/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_BOOT_CLOCK_H
#define BROKER_BOOT_CLOCK_H

/* The clock of all deadlines of leases: it counts while the host is suspended. */

#include <stdint.h>
#include <time.h>

/* CLOCK_BOOTTIME in nanoseconds. */
static inline uint64_t boot_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#endif
