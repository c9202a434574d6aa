/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/metrics/histogram.h"

static unsigned bucket_of(uint64_t ns)
{
	unsigned log, part;

	if (ns < 1u << HISTOGRAM_FIRST_LOG)
		return 0;
	log = 63u - (unsigned)__builtin_clzll(ns);
	if (log >= HISTOGRAM_FIRST_LOG + HISTOGRAM_LOGS)
		return HISTOGRAM_BUCKETS - 1;
	/* The two bits behind the highest one. */
	part = (unsigned)(ns >> (log - 2)) & (HISTOGRAM_PARTS - 1);
	return 1 + (log - HISTOGRAM_FIRST_LOG) * HISTOGRAM_PARTS + part;
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
	histogram->counts[bucket_of(ns)]++;
	histogram->count++;
	histogram->sum_ns += ns;
}

uint64_t histogram_upper_ns(unsigned bucket)
{
	unsigned log, part;

	if (bucket >= HISTOGRAM_BUCKETS - 1)
		return UINT64_MAX;
	if (bucket == 0)
		return (1u << HISTOGRAM_FIRST_LOG) - 1;
	log = HISTOGRAM_FIRST_LOG + (bucket - 1) / HISTOGRAM_PARTS;
	part = (bucket - 1) % HISTOGRAM_PARTS;
	return (1ull << log) + ((uint64_t)(part + 1) << (log - 2)) - 1;
}

uint64_t histogram_quantile_ns(const struct histogram *histogram, double q)
{
	uint64_t seen = 0, wanted = (uint64_t)(q * (double)histogram->count);

	if (!histogram->count)
		return 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->counts[i];
		if (seen > wanted || seen == histogram->count)
			return histogram_upper_ns(i);
	}
	return UINT64_MAX;
}
