/* SPDX-License-Identifier: Apache-2.0 */
/* How a lease ends: at once, or after the write that is being applied. Who waited for it is next.
 */
#include "lease/life.h"

void lease_drained(struct lease *lease, uint64_t now_ns)
{
	struct lease_endpoint *endpoint = lease->endpoint;

	lease_finish(lease);
	lease_act(lease, LEASE_ACT_STORE_END);
	lease_act(lease, LEASE_ACT_ENDED);
	settle_endpoint(endpoint, now_ns);
}

/* Ends a held lease: no byte is admitted from here on. What is being applied ends first. */
static void lease_end(struct lease *lease, uint64_t now_ns, enum vmsig_error reason)
{
	if (lease->view.state == LEASE_DRAINING)
		return;
	lease->view.state = LEASE_DRAINING;
	lease->view.reason = reason;
	lease->view.revoke_at_ns = UINT64_MAX;
	lease_unact(lease, LEASE_ACT_STORE_RENEW);
	lease_unact(lease, LEASE_ACT_NOTICE);
	lease_timer_update(lease);
	if (!lease->applying)
		lease_drained(lease, now_ns);
}

/* A lease that the store is still working on was never granted to anybody. */
static void lease_abandon(struct lease *lease, uint64_t now_ns, enum vmsig_error reason)
{
	struct lease_endpoint *endpoint = lease->endpoint;

	if (lease->view.state == LEASE_STORING) {
		lease_unact(lease, LEASE_ACT_STORE_GRANT);
		lease_act(lease, LEASE_ACT_STORE_END);
	}
	lease_refuse(lease, reason);
	settle_endpoint(endpoint, now_ns);
}

void lease_drop(struct lease *lease, uint64_t now_ns, enum vmsig_error reason)
{
	if (lease->view.state == LEASE_WAITING || lease->view.state == LEASE_STORING)
		lease_abandon(lease, now_ns, reason);
	else
		lease_end(lease, now_ns, reason);
}
