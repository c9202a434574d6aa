/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_FLOOD_H
#define TESTS_BENCH_FLOOD_H

/*
 * Tenants within their default quotas, and strangers, that make the broker work as hard as they
 * can. In processes of their own that take what CPU is left (SCHED_IDLE), so that what others lose
 * they lose inside of the broker.
 */

#include "tests/bench/bench.h"

#define FLOOD_NAME "flood_" /* what the rows' names begin with */

struct flood {
	pid_t pid; /* of the attackers' process group */
};

/* The kind is the row's name without FLOOD_NAME. Returns when it has begun. */
void flood_start(struct flood *flood, const struct bench *bench, const char *kind);
void flood_stop(struct flood *flood);

#endif
