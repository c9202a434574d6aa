/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_SENSOR_H
#define TESTS_BENCH_SENSOR_H

/* A sensor that asks for the context of `vm` and gives it back, through libvmsig. */

#include "tests/bench/bench.h"
#include "vmsig/vmsig.h"
#include "vmsig/vmsig_mem.h"

/* The context of `vm`, with the root of its kernel. */
vmsig_mem *sensor_context(const struct bench *bench, uint64_t *ret_kcr3);
vmsig *sensor_open(const struct bench *bench);
/* Subscribes `n` times, and times each until the context is there. ns. */
void sensor_subscribe(vmsig *v, unsigned n, uint64_t *times);

#endif
