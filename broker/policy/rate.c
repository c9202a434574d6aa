/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/policy/rate.h"

#define NS_PER_S 1e9
#define WAIT_MAX_NS 3600e9 /* a debt is told as no longer than that */

void rate_init(struct rate *rate, uint64_t now_ns, double per_second)
{
	*rate = (struct rate){.level = per_second, .at_ns = now_ns};
}

uint64_t rate_wait(struct rate *rate, uint64_t now_ns, double per_second, double need)
{
	double seconds = now_ns > rate->at_ns ? (double)(now_ns - rate->at_ns) / NS_PER_S : 0;
	double wait;

	rate->at_ns = now_ns;
	rate->level += seconds * per_second;
	if (rate->level > per_second)
		rate->level = per_second;
	if (rate->level >= need)
		return 0;
	wait = (need - rate->level) / per_second * NS_PER_S;
	return wait > WAIT_MAX_NS ? (uint64_t)WAIT_MAX_NS : (uint64_t)wait + 1;
}

void rate_spend(struct rate *rate, double amount)
{
	rate->level -= amount;
}

void rate_refund(struct rate *rate, double amount)
{
	rate->level += amount;
}
