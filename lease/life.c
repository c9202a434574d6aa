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

void lease_unact(struct lease *lease, enum lease_action_kind kind)
{
	bool was = lease->pending != 0;

	lease->pending &= ~(1u << kind);
	if (was && !lease->pending)
		DL_DELETE2(lease->engine->actions, lease, action_prev, action_next);
}

/* ---- accounts ---- */

struct lease_account *lease_account_get(struct lease_engine *engine, const char *tenant)
{
	struct lease_account *account = NULL;

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

int lease_check_room(
	struct lease_engine *engine, enum lease_slot slot, uint64_t used, uint64_t limit)
{
	if (used < limit)
		return 0;
	engine->shortage = (struct lease_shortage){.slot = slot, .used = used, .limit = limit};
	return VMSIG_ERR_QUOTA;
}

void lease_account_put(struct lease_engine *engine, struct lease_account *account)
{
	if (account && !account->leases && !account->waits) {
		HASH_DEL(engine->accounts, account);
		free(account);
	}
}

/* ---- sessions ---- */

static struct lease_session *session_get(struct lease_engine *engine, uint64_t id)
{
	struct lease_session *session = NULL;

	HASH_FIND(hh, engine->sessions, &id, sizeof(id), session);
	if (session)
		return session;
	session = calloc(1, sizeof(*session));
	if (!session)
		return NULL;
	session->id = id;
	HASH_ADD(hh, engine->sessions, id, sizeof(session->id), session);
	if (!session->hh.tbl) {
		free(session);
		return NULL;
	}
	return session;
}

static void lease_detach(struct lease *lease)
{
	struct lease_session *session = lease->session;

	lease->session = NULL;
	lease->view.session = LEASE_NO_SESSION;
	if (!session)
		return;
	DL_DELETE2(session->leases, lease, session_prev, session_next);
	if (session->leases)
		return;
	HASH_DEL(lease->engine->sessions, session);
	free(session);
}

int lease_attach(struct lease *lease, uint64_t id)
{
	struct lease_session *session =
		id == LEASE_NO_SESSION ? NULL : session_get(lease->engine, id);

	if (!session && id != LEASE_NO_SESSION)
		return -ENOMEM;
	if (session == lease->session)
		return 0;
	lease_detach(lease);
	if (!session)
		return 0;
	lease->session = session;
	lease->view.session = id;
	DL_APPEND2(session->leases, lease, session_prev, session_next);
	return 0;
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
		due = lease->view.wait_until_ns;
	else if (view->state == LEASE_ACTIVE && !lease->endpoint->away)
		due = lease_earlier(view->deadline_ns,
			lease_earlier(view->revoke_at_ns, lease->orphan_until_ns));
	timerheap_set(&lease->engine->timers, &lease->timer, due);
}

/* The last step of a lease's life; it stays in memory until its actions were taken. */
void lease_finish(struct lease *lease)
{
	struct lease_engine *engine = lease->engine;

	if (lease_is_held(lease)) {
		rangeset_remove(&lease->endpoint->held, lease);
		lease->account->leases--;
	} else {
		queue_remove(lease);
		lease->account->waits--;
	}
	queue_wake(lease);
	DL_DELETE2(lease->endpoint->leases, lease, peer_prev, peer_next);
	lease_account_put(engine, lease->account);
	lease->account = NULL;
	lease->ended = true;
	lease_timer_update(lease);
}

void lease_unindex(struct lease *lease)
{
	HASH_DEL(lease->engine->leases, lease);
	idtree_remove(&lease->engine->order, &lease->order);
}

void lease_free(struct lease *lease)
{
	struct lease_engine *engine = lease->engine;

	lease_detach(lease);
	lease_unindex(lease);
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

int lease_claim(struct lease *lease)
{
	struct lease_endpoint *endpoint = lease->endpoint;
	int r = rangeset_reserve(&endpoint->held, lease->view.nranges);

	if (r < 0)
		return r;
	queue_remove(lease);
	lease->account->waits--;
	lease->account->leases++;
	rangeset_insert(&endpoint->held, lease->ranges, lease->view.nranges, lease);
	lease->view.state = LEASE_STORING;
	lease->view.epoch = endpoint->epoch;
	lease_act(lease, LEASE_ACT_STORE_GRANT);
	lease_timer_update(lease);
	/* Who waits behind it may have to ask others to go as well. */
	queue_wake(lease);
	return 0;
}

void lease_refuse(struct lease *lease, enum vmsig_error reason)
{
	lease->view.reason = reason;
	lease_finish(lease);
	lease_act(lease, LEASE_ACT_REFUSED);
}
