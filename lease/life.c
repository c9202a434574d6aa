/* SPDX-License-Identifier: Apache-2.0 */
#include "lease/life.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- actions ---- */

void lease_act(struct lease *lease, enum lease_action_kind kind)
{
	struct lease_engine *engine = lease->engine;

	if (!lease->pending)
		DL_APPEND2(engine->actions, lease, action_prev, action_next);
	lease->pending |= 1u << kind;
}

static void unact(struct lease *lease, enum lease_action_kind kind)
{
	bool was = lease->pending != 0;

	lease->pending &= ~(1u << kind);
	if (was && !lease->pending)
		DL_DELETE2(lease->engine->actions, lease, action_prev, action_next);
}

/* ---- accounts ---- */

struct account *account_get(struct lease_engine *engine, const char *tenant)
{
	struct account *account = NULL;

	HASH_FIND_STR(engine->accounts, tenant, account);
	if (account)
		return account;
	account = calloc(1, sizeof(*account));
	if (!account)
		return NULL;
	strcpy(account->tenant, tenant);
	HASH_ADD_STR(engine->accounts, tenant, account);
	if (!account->hh.tbl) {
		free(account);
		return NULL;
	}
	return account;
}

void account_put(struct lease_engine *engine, struct account *account)
{
	if (account && !account->leases && !account->waits) {
		HASH_DEL(engine->accounts, account);
		free(account);
	}
}

/* ---- leases ---- */

struct lease *lease_get(const struct lease_engine *engine, uint64_t id)
{
	struct lease *lease = NULL;

	HASH_FIND(hh, engine->leases, &id, sizeof(id), lease);
	return lease;
}

uint64_t lease_after(uint64_t now, uint64_t span)
{
	return span > UINT64_MAX - 1 - now ? UINT64_MAX - 1 : now + span;
}

void lease_timer_update(struct lease *lease)
{
	const struct lease_view *view = &lease->view;
	uint64_t due = TIMERHEAP_NEVER;

	if (lease->ended)
		due = TIMERHEAP_NEVER;
	else if (view->state == LEASE_WAITING || view->state == LEASE_STORING)
		due = lease->wait_until_ns;
	else if (view->state == LEASE_ACTIVE)
		due = lease_earlier(view->deadline_ns,
			lease_earlier(view->revoke_at_ns, lease->orphan_until_ns));
	timerheap_set(&lease->engine->timers, &lease->timer, due);
}

/* The last step of a lease's life; it stays in memory until its actions were taken. */
void lease_finish(struct lease *lease)
{
	struct lease_engine *engine = lease->engine;

	if (lease_is_held(lease)) {
		for (size_t i = 0; i < lease->view.nranges; i++)
			rangeset_remove(&lease->endpoint->held, &lease->ranges[i]);
		lease->account->leases--;
	} else {
		DL_DELETE(lease->endpoint->waiters, lease);
		lease->endpoint->nwaiters--;
		lease->account->waits--;
	}
	account_put(engine, lease->account);
	lease->account = NULL;
	lease->ended = true;
	lease_timer_update(lease);
}

void lease_free(struct lease *lease)
{
	struct lease_engine *engine = lease->engine;

	HASH_DEL(engine->leases, lease);
	timerheap_unreserve(&engine->timers);
	engine->nleases--;
	free(lease);
}

bool lease_overlaps_held(const struct lease *lease)
{
	for (size_t i = 0; i < lease->view.nranges; i++) {
		size_t cursor = 0;

		if (rangeset_overlap(&lease->endpoint->held, &lease->ranges[i], &cursor))
			return true;
	}
	return false;
}

static bool overlaps_lease(const struct lease *a, const struct lease *b)
{
	for (size_t i = 0; i < a->view.nranges; i++) {
		for (size_t j = 0; j < b->view.nranges; j++) {
			if (lease_range_overlaps(&a->ranges[i], &b->ranges[j]))
				return true;
		}
	}
	return false;
}

/* A waiter that stands behind a conflicting one must not pass it (I9). */
bool lease_overlaps_earlier_waiter(const struct lease *lease)
{
	struct lease *other;

	DL_FOREACH (lease->endpoint->waiters, other) {
		if (other == lease)
			return false;
		if (overlaps_lease(other, lease))
			return true;
	}
	return false;
}

/* Tells every holder of lower priority in the way of `waiter` that it has to go. */
static void preempt_for(struct lease *waiter, uint64_t now_ns)
{
	struct lease_engine *engine = waiter->engine;

	for (size_t i = 0; i < waiter->view.nranges; i++) {
		struct lease *holder;
		size_t cursor = 0;

		while ((holder = rangeset_overlap(
				&waiter->endpoint->held, &waiter->ranges[i], &cursor))) {
			if (holder->view.state != LEASE_ACTIVE ||
				holder->view.priority >= waiter->view.priority ||
				holder->view.revoke_at_ns != UINT64_MAX)
				continue;
			holder->view.revoke_at_ns =
				lease_after(now_ns, engine->limits.preempt_grace_ns);
			lease_act(holder, LEASE_ACT_NOTICE);
			lease_timer_update(holder);
		}
	}
}

/* Whether somebody who may preempt `holder` still waits for what it holds. */
bool lease_preemption_stands(const struct lease *holder)
{
	struct lease *waiter;

	DL_FOREACH (holder->endpoint->waiters, waiter) {
		if (waiter->view.priority <= holder->view.priority)
			return false;
		if (overlaps_lease(waiter, holder))
			return true;
	}
	return false;
}

/* From WAITING to STORING: the ranges are taken, the store is asked. */
static int lease_claim(struct lease *lease)
{
	struct endpoint *endpoint = lease->endpoint;
	int r = rangeset_reserve(&endpoint->held, lease->view.nranges);

	if (r < 0)
		return r;
	DL_DELETE(endpoint->waiters, lease);
	endpoint->nwaiters--;
	lease->account->waits--;
	lease->account->leases++;
	for (size_t i = 0; i < lease->view.nranges; i++)
		rangeset_insert(&endpoint->held, &lease->ranges[i], lease);
	lease->view.state = LEASE_STORING;
	lease->view.epoch = endpoint->epoch;
	lease_act(lease, LEASE_ACT_STORE_GRANT);
	lease_timer_update(lease);
	return 0;
}

void lease_refuse(struct lease *lease, enum vmsig_error reason)
{
	lease->view.reason = reason;
	lease_finish(lease);
	lease_act(lease, LEASE_ACT_REFUSED);
}

/* Grants what can be granted, in order, and asks holders of lower priority to go. */
void endpoint_grant(struct endpoint *endpoint, uint64_t now_ns)
{
	struct lease *lease, *next;

	DL_FOREACH_SAFE (endpoint->waiters, lease, next) {
		if (lease_overlaps_earlier_waiter(lease))
			continue;
		if (lease_overlaps_held(lease))
			preempt_for(lease, now_ns);
		else if (lease_claim(lease) < 0)
			lease_refuse(lease, VMSIG_ERR_NO_MEMORY);
	}
}

void lease_drained(struct lease *lease, uint64_t now_ns)
{
	struct endpoint *endpoint = lease->endpoint;

	lease_finish(lease);
	lease_act(lease, LEASE_ACT_STORE_END);
	lease_act(lease, LEASE_ACT_ENDED);
	endpoint_grant(endpoint, now_ns);
}

/* Ends a held lease: no byte is admitted from here on. What is being applied ends first. */
static void lease_end(struct lease *lease, uint64_t now_ns, enum vmsig_error reason)
{
	if (lease->view.state == LEASE_DRAINING)
		return;
	lease->view.state = LEASE_DRAINING;
	lease->view.reason = reason;
	lease->view.revoke_at_ns = UINT64_MAX;
	unact(lease, LEASE_ACT_STORE_RENEW);
	unact(lease, LEASE_ACT_NOTICE);
	lease_timer_update(lease);
	if (!lease->applying)
		lease_drained(lease, now_ns);
}

/* A lease that the store is still working on was never granted to anybody. */
static void lease_abandon(struct lease *lease, uint64_t now_ns, enum vmsig_error reason)
{
	struct endpoint *endpoint = lease->endpoint;

	if (lease->view.state == LEASE_STORING) {
		unact(lease, LEASE_ACT_STORE_GRANT);
		lease_act(lease, LEASE_ACT_STORE_END);
	}
	lease_refuse(lease, reason);
	endpoint_grant(endpoint, now_ns);
}

void lease_drop(struct lease *lease, uint64_t now_ns, enum vmsig_error reason)
{
	if (lease->view.state == LEASE_WAITING || lease->view.state == LEASE_STORING)
		lease_abandon(lease, now_ns, reason);
	else
		lease_end(lease, now_ns, reason);
}
