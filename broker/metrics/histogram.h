/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_METRICS_HISTOGRAM_H
#define BROKER_METRICS_HISTOGRAM_H

/*
 * How long something took, counted in log-linear buckets: each power of two of nanoseconds from
 * 1 us to 16 s is divided into four, so that a quantile is known to a quarter at worst. A fixed
 * size, and no allocation: embedded in what does it. Pure; belongs to one thread.
 */

#include <stdint.h>

#define HISTOGRAM_FIRST_LOG 10u /* what is below 1,024 ns is one bucket */
#define HISTOGRAM_LOGS 24u      /* and what is from 2^34 ns on another */
#define HISTOGRAM_PARTS 4u
#define HISTOGRAM_BUCKETS (HISTOGRAM_LOGS * HISTOGRAM_PARTS + 2u)

struct histogram {
	uint64_t counts[HISTOGRAM_BUCKETS];
	uint64_t count, sum_ns;
};

void histogram_add(struct histogram *histogram, uint64_t ns);
/* The bucket's largest value; UINT64_MAX: the last one has none. */
uint64_t histogram_upper_ns(unsigned bucket);
/* The upper bound of the bucket in which the part `q` (0 to 1) of all is reached; 0: there is
 * nothing in it. */
uint64_t histogram_quantile_ns(const struct histogram *histogram, double q);

#endif
