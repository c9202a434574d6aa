/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_MOMENT_H
#define CLIENTS_COMMON_MOMENT_H

/* Moments of CLOCK_MONOTONIC in nanoseconds, as the library's deadlines are. */

#include <stdint.h>
#include <time.h>

#define MOMENT_NEVER INT64_MAX

int64_t moment_now(void);
int64_t moment_in_ms(uint32_t ms);
/* Milliseconds until then as poll(2) takes them, rounded up; 0 for what is over, -1 for never. */
int moment_left_ms(int64_t moment);
/* The same as ppoll(2) takes it, into `buf`; NULL for never. */
const struct timespec *moment_left(int64_t moment, struct timespec *buf);

#endif
