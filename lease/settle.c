/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settling: waiters whose way may be free are looked at. What can be granted is, in order, and who
 * holds what somebody more urgent wants is asked to go.
 */
#include "lease/life.h"
#include "proto/mishap.h"

/* Comparisons of ranges in one call: some hundred microseconds. */
#ifndef SETTLE_STEPS
#define SETTLE_STEPS 65536
#endif

/* ---- preemption ---- */

void settle_preempt(struct lease *held, uint64_t now_ns)
{
	held->view.revoke_at_ns = lease_after(now_ns, held->engine->limits.preempt_grace_ns);
	lease_act(held, LEASE_ACT_NOTICE);
	lease_timer_update(held);
}

/* Tells every holder of lower priority in the way of `waiter` that it has to go. */
static void preempt_for(const struct lease *waiter, uint64_t now_ns, size_t *steps)
{
	for (size_t i = 0; i < waiter->view.nranges; i++) {
		struct lease *held;
		size_t cursor = 0;

		while ((held = rangeset_overlap(
				&waiter->endpoint->held, &waiter->ranges[i], &cursor))) {
			++*steps;
			if (held->view.priority >= waiter->view.priority)
				continue;
			if (held->view.state == LEASE_STORING)
				held->wanted = true;
			else if (held->view.state == LEASE_ACTIVE &&
				 held->view.revoke_at_ns == UINT64_MAX)
				settle_preempt(held, now_ns);
		}
	}
}

/* ---- settling ---- */

/* What the tenant holds is counted when it gets more, not when it asks: it may have got others
 * meanwhile. */
static void grant(struct lease *lease)
{
	if (lease->account->leases >= lease->leases_max)
		lease_refuse(lease, VMSIG_ERR_QUOTA);
	else if (lease_claim(lease) < 0)
		lease_refuse(lease, VMSIG_ERR_NO_MEMORY);
}

static void settle_one(struct lease *lease, uint64_t now_ns, size_t *steps)
{
	struct lease *blocker = queue_before(lease, steps);

	if (!blocker) {
		blocker = queue_holder(lease, steps);
		if (blocker)
			preempt_for(lease, now_ns, steps);
	}
	if (!blocker) {
		grant(lease);
		return;
	}
	queue_watch(lease, blocker);
}

void settle_endpoint(struct lease_endpoint *endpoint, uint64_t now_ns)
{
	struct lease_endpoint **list = &endpoint->engine->unsettled;
	size_t steps = 0;

	while (endpoint->unsettled && steps < SETTLE_STEPS && !MISHAP("settle-early"))
		settle_one(endpoint->unsettled, now_ns, &steps);
	if (!endpoint->unsettled == !endpoint->is_unsettled)
		return;
	endpoint->is_unsettled = !endpoint->is_unsettled;
	if (endpoint->is_unsettled)
		DL_APPEND(*list, endpoint);
	else
		DL_DELETE(*list, endpoint);
}
