/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_CONNS_H
#define BROKER_NET_CONNS_H

/*
 * All connections together: their life, the policy that they pay by, the moment of a turn in
 * which everything that was queued is sent, and the bound for what nobody reads.
 */

#include "broker/net/state.h"

/* Members up to `user` are set. -ENOMEM. */
__attribute__((warn_unused_result)) int conns_init(struct conns *conns);
/* None is left, and nothing is charged. */
void conns_deinit(struct conns *conns);
/* A new policy: nothing is charged to the tenants of the old one any more. -ENOMEM: nothing has
 * changed. */
__attribute__((warn_unused_result)) int conns_set_policy(
	struct conns *conns, const struct config *config);
/* The connection's peer is known: from now on it is looked at when its certificate ends. */
void conns_note_expiry(struct conns *conns, struct conn *conn);
/* The time of day: those whose certificates have ended are verified anew, and so closed. */
void conns_expire(struct conns *conns, int64_t now_s);
/* Once per turn of the loop: sends what is queued, then closes the heaviest connections while all
 * together, or those of a tenant, have too much unread. A queue has its own bound, but many
 * connections have many queues. */
void conns_flush(struct conns *conns);
/* What they count. */
void conns_add_stats(const struct conns *conns, struct metrics *metrics);

#endif
