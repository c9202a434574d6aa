/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEASE_LIFE_H
#define LEASE_LIFE_H

/*
 * The engine's inside: its objects, and the steps of a lease's life that the calls of
 * lease.h are made of. Nobody outside lease/ includes this.
 */

#include <stdbool.h>
#include <stdint.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

#include "lease/idtree.h"
#include "lease/lease.h"
#include "lease/rangeset.h"
#include "lease/timerheap.h"

/* What a tenant has of what its terms bound; lease.h says why it is counted here. */
struct lease_account {
	char tenant[LEASE_NAME_MAX + 1];
	uint32_t leases, waits;
	UT_hash_handle hh;
};

struct lease_endpoint {
	struct lease_engine *engine;
	uint32_t id;
	uint32_t epoch;
	bool ready;
	bool away; /* ends are another host's to decide */
	uint32_t nwaiters;
	struct rangeset held;  /* STORING, ACTIVE, DRAINING */
	struct lease *leases;  /* that have not ended, of all states */
	struct lease *waiters; /* by priority, then arrival */
	struct lease
		*unsettled; /* waiters that nobody is known to be in the way of, in that order */
	struct lease_endpoint *prev, *next; /* in engine->unsettled */
	bool is_unsettled;
	UT_hash_handle hh;
};

/* A connection's leases. Lives while it has some. */
struct lease_session {
	uint64_t id;
	struct lease *leases;
	UT_hash_handle hh;
};

struct lease {
	struct lease_view view;
	char tenant[LEASE_NAME_MAX + 1];
	struct lease_engine *engine;
	struct lease_endpoint *endpoint;
	struct lease_account *account;
	struct lease_session *session; /* NULL: view.session is LEASE_NO_SESSION */
	uint64_t orphan_until_ns;
	uint32_t leases_max; /* that the tenant may hold, this one included */
	uint32_t applying;
	bool wanted; /* while it was STORING, by somebody who may preempt it */
	struct timerheap_node timer;
	struct idtree_node order;
	struct lease *prev, *next;           /* in endpoint->waiters */
	struct lease *peer_prev, *peer_next; /* in endpoint->leases */
	struct lease *session_prev, *session_next;

	/* WAITING: the one it waits for, a held one or the nearest waiter before it; NULL: it is
	 * in endpoint->unsettled. Whose ranges are in the way has the others in `watchers`. */
	struct lease *blocker, *watchers;
	struct lease *watch_prev, *watch_next; /* in blocker->watchers or endpoint->unsettled */

	uint32_t pending; /* 1 << enum lease_action_kind */
	bool ended;       /* freed when the last pending action was taken */
	struct lease *action_prev, *action_next;

	UT_hash_handle hh;
	struct lease_range ranges[];
};

struct lease_engine {
	struct lease_limits limits;
	uint64_t next_id;
	uint32_t nleases;
	struct lease *leases; /* by id */
	struct idtree order;  /* of ids */
	struct lease_endpoint *endpoints;
	struct lease_endpoint *unsettled;
	struct lease_session *sessions;
	struct lease_account *accounts;
	struct timerheap timers;
	struct lease *actions;
	struct lease_shortage shortage; /* of the last request that was refused for one */
};

/* Notes what is used up when one more is beyond the limit. VMSIG_ERR_QUOTA. */
__attribute__((warn_unused_result)) int lease_check_room(
	struct lease_engine *engine, enum lease_slot slot, uint64_t used, uint64_t limit);

struct lease_endpoint *lease_endpoint_find(const struct lease_engine *engine, uint32_t id);
/* Finds or makes it; NULL without memory. */
struct lease_endpoint *lease_endpoint_get(struct lease_engine *engine, uint32_t id);

/* Finds or makes the tenant's account; NULL without memory. lease_account_put() frees one that is
 * charged nothing. */
struct lease_account *lease_account_get(struct lease_engine *engine, const char *tenant);
void lease_account_put(struct lease_engine *engine, struct lease_account *account);

/* Marks an action to be taken; unact() takes it back. Neither allocates. */
void lease_act(struct lease *lease, enum lease_action_kind kind);
void lease_unact(struct lease *lease, enum lease_action_kind kind);

struct lease *lease_get(const struct lease_engine *engine, uint64_t id);

/* STORING, ACTIVE or DRAINING: its ranges are taken. */
static inline bool lease_is_held(const struct lease *lease)
{
	return lease->view.state != LEASE_WAITING;
}

/* The state's due moment changed. */
void lease_timer_update(struct lease *lease);
/* Out of its endpoint and account; freed after its last action was taken. */
void lease_finish(struct lease *lease);
void lease_free(struct lease *lease);

/* Nobody finds it any more. */
void lease_unindex(struct lease *lease);

/* Puts it among the session's; LEASE_NO_SESSION: among nobody's. -ENOMEM. */
__attribute__((warn_unused_result)) int lease_attach(struct lease *lease, uint64_t session);

bool lease_overlaps_held(const struct lease *lease);

/* From WAITING to STORING: the ranges are taken, the store is asked. -ENOMEM. */
__attribute__((warn_unused_result)) int lease_claim(struct lease *lease);

/* A waiter's request fails. */
void lease_refuse(struct lease *lease, enum vmsig_error reason);
/* ---- queue.c ---- */

/* Into its endpoint's queue, unsettled. */
void queue_insert(struct lease *lease);
void queue_remove(struct lease *lease);
/* Who waits for it has to be looked at: it was granted, or is gone. */
void queue_wake(struct lease *lease);
/* Whether somebody is in the way of a waiter that may not wait. */
bool queue_is_blocked(const struct lease *lease);
/* Whether somebody who may preempt `holder` still waits for what it holds. */
bool queue_wants(const struct lease *holder);
/* The nearest waiter before it that wants some of the same bytes, or whoever holds some; or NULL.
 * `steps` grows by how many comparisons that took. */
struct lease *queue_before(const struct lease *lease, size_t *steps);
struct lease *queue_holder(const struct lease *lease, size_t *steps);
/* From now on it is looked at again when that one is gone. */
void queue_watch(struct lease *lease, struct lease *blocker);

/* ---- settle.c ---- */

/* Looks at waiters whose way may be free: grants what can be granted, in order, and asks
 * holders of lower priority to go. Ends after a bounded amount of work, the rest is
 * engine->unsettled. */
void settle_endpoint(struct lease_endpoint *endpoint, uint64_t now_ns);
/* The holder learns that it has to go. */
void settle_preempt(struct lease *holder, uint64_t now_ns);

/* ---- end.c ---- */

/* A waiting or storing lease goes; an active one drains: no byte is admitted from here on,
 * and what is being applied ends first. */
void lease_drop(struct lease *lease, uint64_t now_ns, enum vmsig_error reason);
/* After the last write of a draining lease. */
void lease_drained(struct lease *lease, uint64_t now_ns);

static inline uint64_t lease_earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* now + span without wrapping; never UINT64_MAX, which means "no moment". */
uint64_t lease_after(uint64_t now_ns, uint64_t span_ns);

#endif
