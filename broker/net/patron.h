/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_PATRON_H
#define BROKER_NET_PATRON_H

/*
 * What a tenant of the policy pays for at the door, whichever of its uids and planes it uses:
 * connections, how fast it opens more, what they have not read, and being refused again and again.
 * They live as long as one
 * policy: a new one has new patrons, and connections that stay are charged to them.
 */

#include "broker/config/config.h"
#include "broker/policy/account.h"
#include "broker/policy/rate.h"

/* What a tenant may do for nothing some times in a second, and pays for beyond that. */
enum patron_act {
	/* Being refused: more than an honest client comes to that polls for a lease which somebody
	 * else has. */
	PATRON_REFUSAL,
	/* What the audit log keeps of a guest that it provides: guests are reset less often. */
	PATRON_DEED,
	/* A look at all guests of the fleet: etcd is read for it, and who watches needs no more
	 * than some in a second. */
	PATRON_SURVEY,
	PATRON_ACTS
};

enum patron_slot { PATRON_CONNECTIONS, PATRON_UNREAD };

struct patron {
	struct account account; /* by enum patron_slot; UNREAD in bytes */
	struct rate connects, acts[PATRON_ACTS];
};

struct patrons {
	struct patron *list; /* as config->tenants */
	size_t n;
};

/* -ENOMEM. */
__attribute__((warn_unused_result)) int patrons_init(
	struct patrons *patrons, const struct config *config, uint64_t now_ns);
/* Nothing is charged to them any more. */
void patrons_deinit(struct patrons *patrons);
/* Of a tenant in the configuration that they were made for. */
struct patron *patron_of(
	struct patrons *patrons, const struct config *config, const struct grant_tenant *tenant);
/* One connect more in this second. VMSIG_ERR_QUOTA: *ret_refusal says so. */
__attribute__((warn_unused_result)) int patron_connect(struct patron *patron,
	const struct grant_tenant *tenant, const struct account_actor *actor, uint64_t now_ns,
	struct account_refusal *ret_refusal);
/* Nanoseconds of the loop's time that an act costs the tenant beside what it took; 0 for those that
 * cost nothing. */
uint64_t patron_act(struct patron *patron, enum patron_act act, uint64_t now_ns);
/* How many of them in a second. */
uint32_t patron_allowance(enum patron_act act);

#endif
