/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_POLICY_RATE_H
#define BROKER_POLICY_RATE_H

/*
 * How much of something may happen in a second: a token bucket. A second's worth can be saved
 * up; what is spent beyond that is a debt. Embedded in what it bounds; pure, time comes in.
 */

#include <stdint.h>

struct rate {
	double level; /* what may be spent now; below 0: owed */
	uint64_t at_ns;
};

/* Full. `per_second` above 0. */
void rate_init(struct rate *rate, uint64_t now_ns, double per_second);
/* Nanoseconds until `need` may be spent; 0: now. The same `per_second` at each call, or a new
 * one after the policy was replaced. */
uint64_t rate_wait(struct rate *rate, uint64_t now_ns, double per_second, double need);
/* After rate_wait() at the same moment. */
void rate_spend(struct rate *rate, double amount);
/* What was spent for something that did not happen. */
void rate_refund(struct rate *rate, double amount);

#endif
