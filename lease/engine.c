/* SPDX-License-Identifier: Apache-2.0 */
/* All leases of a broker: endpoints, holders, what the store says, time, and what may be written.
 */
#include "lease/lease.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lease/life.h"

struct lease_endpoint *lease_endpoint_find(const struct lease_engine *engine, uint32_t id)
{
	struct lease_endpoint *endpoint = NULL;

	HASH_FIND(hh, engine->endpoints, &id, sizeof(id), endpoint);
	return endpoint;
}

struct lease_endpoint *lease_endpoint_get(struct lease_engine *engine, uint32_t id)
{
	struct lease_endpoint *endpoint = lease_endpoint_find(engine, id);

	if (endpoint)
		return endpoint;
	endpoint = calloc(1, sizeof(*endpoint));
	if (!endpoint)
		return NULL;
	endpoint->id = id;
	endpoint->engine = engine;
	HASH_ADD(hh, engine->endpoints, id, sizeof(endpoint->id), endpoint);
	if (!endpoint->hh.tbl) {
		free(endpoint);
		return NULL;
	}
	return endpoint;
}

static void endpoint_free(struct lease_endpoint *endpoint)
{
	assert(endpoint->held.n == 0 && endpoint->nwaiters == 0);
	HASH_DEL(endpoint->engine->endpoints, endpoint);
	rangeset_deinit(&endpoint->held);
	free(endpoint);
}

/* ---- engine ---- */

void lease_set_limits(struct lease_engine *engine, const struct lease_limits *limits)
{
	engine->limits = *limits;
	if (engine->limits.ranges > LEASE_RANGES_MAX)
		engine->limits.ranges = LEASE_RANGES_MAX;
}

int lease_engine_new(
	struct lease_engine **ret_engine, const struct lease_limits *limits, uint64_t next_id)
{
	struct lease_engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return -ENOMEM;
	lease_set_limits(engine, limits);
	engine->next_id = next_id ? next_id : 1;
	*ret_engine = engine;
	return 0;
}

void lease_number_from(struct lease_engine *engine, uint64_t next_id)
{
	engine->next_id = next_id ? next_id : 1;
}

struct lease_shortage lease_shortage(const struct lease_engine *engine)
{
	return engine->shortage;
}

struct lease_engine *lease_engine_free(struct lease_engine *engine)
{
	struct lease_endpoint *endpoint, *next_endpoint;
	struct lease *lease, *next_lease;

	if (!engine)
		return NULL;
	/* HASH_ITER takes the next ones before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, engine->leases, lease, next_lease) {
		if (!lease->ended)
			lease_finish(lease);
		lease_free(lease);
	}
	HASH_ITER (hh, engine->endpoints, endpoint, next_endpoint) {
		endpoint_free(endpoint);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	assert(!engine->accounts && !engine->sessions && engine->nleases == 0);
	timerheap_deinit(&engine->timers);
	free(engine);
	return NULL;
}

static void endpoint_drop_leases(struct lease_endpoint *endpoint, uint64_t now_ns,
	enum vmsig_error reason, const uint32_t *except_epoch)
{
	struct lease *lease, *next;

	/* Waiters first, so that nothing is granted in between only to be ended again. */
	DL_FOREACH_SAFE (endpoint->waiters, lease, next)
		lease_refuse(lease, reason);
	DL_FOREACH_SAFE2 (endpoint->leases, lease, next, peer_next) {
		if (!except_epoch || lease->view.epoch != *except_epoch)
			lease_drop(lease, now_ns, reason);
	}
}

static void endpoint_set_away(struct lease_endpoint *endpoint, bool away)
{
	struct lease *lease;

	endpoint->away = away;
	DL_FOREACH2 (endpoint->leases, lease, peer_next)
		lease_timer_update(lease);
}

/* What was due meanwhile is due now. */
static void endpoint_back(struct lease_endpoint *endpoint)
{
	if (endpoint->away)
		endpoint_set_away(endpoint, false);
}

int lease_endpoint_ready(
	struct lease_engine *engine, uint64_t now_ns, uint32_t endpoint_id, uint32_t epoch)
{
	struct lease_endpoint *endpoint = lease_endpoint_get(engine, endpoint_id);

	if (!endpoint)
		return -ENOMEM;
	endpoint_back(endpoint);
	if (endpoint->ready && endpoint->epoch == epoch)
		return 0;
	endpoint_drop_leases(endpoint, now_ns, VMSIG_ERR_STALE_EPOCH, &epoch);
	endpoint->epoch = epoch;
	endpoint->ready = true;
	return 0;
}

void lease_endpoint_down(
	struct lease_engine *engine, uint64_t now_ns, uint32_t endpoint_id, enum vmsig_error reason)
{
	struct lease_endpoint *endpoint = lease_endpoint_find(engine, endpoint_id);

	if (!endpoint)
		return;
	endpoint->ready = false;
	endpoint_back(endpoint);
	endpoint_drop_leases(endpoint, now_ns, reason, NULL);
}

void lease_endpoint_away(struct lease_engine *engine, uint32_t endpoint_id)
{
	struct lease_endpoint *endpoint = lease_endpoint_find(engine, endpoint_id);

	if (endpoint)
		endpoint_set_away(endpoint, true);
}

void lease_endpoint_forget(struct lease_engine *engine, uint32_t endpoint_id)
{
	struct lease_endpoint *endpoint = lease_endpoint_find(engine, endpoint_id);

	/* Leases that have ended are there until their last action was taken. */
	if (endpoint && !endpoint->leases && !endpoint->is_unsettled && !engine->actions)
		endpoint_free(endpoint);
}

/* ---- the store's answers ---- */

void lease_stored(struct lease_engine *engine, uint64_t now_ns, uint64_t id, uint64_t token)
{
	struct lease *lease = lease_get(engine, id);
	struct lease_view *view;

	/* Abandoned meanwhile: the store was told to forget it. */
	if (!lease || lease->ended || lease->view.state != LEASE_STORING)
		return;
	view = &lease->view;
	view->token = token;
	view->state = LEASE_ACTIVE;
	view->granted_ns = now_ns;
	view->hold_until_ns = lease_after(now_ns, view->hold_max_ns);
	view->deadline_ns = lease_earlier(lease_after(now_ns, view->ttl_ns), view->hold_until_ns);
	lease_act(lease, LEASE_ACT_GRANTED);
	lease_timer_update(lease);
	/* Somebody of higher priority may have come while the store was busy. */
	if (lease->wanted && queue_wants(lease))
		settle_preempt(lease, now_ns);
}

void lease_told(struct lease_engine *engine, uint64_t id)
{
	struct lease *lease = lease_get(engine, id);

	if (lease)
		lease->view.told = true;
}

void lease_store_failed(
	struct lease_engine *engine, uint64_t now_ns, uint64_t id, enum vmsig_error reason)
{
	struct lease *lease = lease_get(engine, id);

	if (lease && !lease->ended && lease->view.state == LEASE_STORING)
		lease_drop(lease, now_ns, reason);
}

/* ---- holding ---- */

/* The fence. Building with VMSIG_UNFENCED takes it away, which the simulator must notice:
 * the pair proves that the simulator can see. */
static bool token_matches(const struct lease *lease, uint64_t token)
{
#ifdef VMSIG_UNFENCED
	return true;
#else
	return lease->view.token == token;
#endif
}

/* The lease that (tenant, id, token) names, if its time is not over at `now_ns`. */
static int lease_authorise(const struct lease_engine *engine, uint64_t now_ns, const char *tenant,
	uint64_t id, uint64_t token, struct lease **ret_lease)
{
	struct lease *lease = lease_get(engine, id);

	if (!lease || strcmp(lease->tenant, tenant) != 0 || !lease_is_held(lease) ||
		lease->view.state == LEASE_STORING || !token_matches(lease, token))
		return VMSIG_ERR_NO_LEASE;
	if (lease->view.state == LEASE_DRAINING)
		return lease->view.reason ? (int)lease->view.reason : VMSIG_ERR_NO_LEASE;
	if (now_ns >= lease->view.deadline_ns || now_ns >= lease->orphan_until_ns)
		return lease->endpoint->away ? VMSIG_ERR_BUSY : VMSIG_ERR_LEASE_EXPIRED;
	if (now_ns >= lease->view.revoke_at_ns && queue_wants(lease))
		return lease->endpoint->away ? VMSIG_ERR_BUSY : VMSIG_ERR_LEASE_REVOKED;
	*ret_lease = lease;
	return 0;
}

int lease_renew(struct lease_engine *engine, uint64_t now_ns, const char *tenant, uint64_t id,
	uint64_t token, uint64_t *ret_deadline_ns)
{
	struct lease *lease;
	int r = lease_authorise(engine, now_ns, tenant, id, token, &lease);

	if (r)
		return r;
	lease->view.deadline_ns =
		lease_earlier(lease_after(now_ns, lease->view.ttl_ns), lease->view.hold_until_ns);
	lease_act(lease, LEASE_ACT_STORE_RENEW);
	lease_timer_update(lease);
	*ret_deadline_ns = lease->view.deadline_ns;
	return 0;
}

/* ---- leaving ----
 *
 * What was due by now comes first: whoever has to go has gone by then, and a waiter who leaves
 * takes no revocation back that somebody may have been told of. */

int lease_release(struct lease_engine *engine, uint64_t now_ns, const char *tenant, uint64_t id,
	uint64_t token)
{
	struct lease *lease;
	int r;

	lease_advance(engine, now_ns);
	lease = lease_get(engine, id);
	if (lease && !lease->ended && strcmp(lease->tenant, tenant) == 0 &&
		(lease->view.state == LEASE_WAITING || lease->view.state == LEASE_STORING)) {
		lease_drop(lease, now_ns, VMSIG_ERR_OK);
		return 0;
	}
	r = lease_authorise(engine, now_ns, tenant, id, token, &lease);
	if (!r && lease->endpoint->away)
		r = VMSIG_ERR_BUSY;
	if (r)
		return r;
	lease_drop(lease, now_ns, VMSIG_ERR_OK);
	return 0;
}

int lease_resume(struct lease_engine *engine, uint64_t now_ns, const char *tenant, uint32_t uid,
	uint64_t id, uint64_t token, uint64_t session, void *user)
{
	struct lease *lease;
	int r = lease_authorise(engine, now_ns, tenant, id, token, &lease);

	if (r)
		return r;
	if (lease->view.uid != uid)
		return VMSIG_ERR_NO_LEASE;
	r = lease_attach(lease, session);
	if (r)
		return r;
	lease->view.user = user;
	lease->orphan_until_ns = UINT64_MAX;
	/* The notice went to a connection that is gone. */
	if (lease->view.revoke_at_ns != UINT64_MAX)
		lease_act(lease, LEASE_ACT_NOTICE);
	lease_timer_update(lease);
	return 0;
}

int lease_revoke(struct lease_engine *engine, uint64_t now_ns, uint64_t id, enum vmsig_error reason)
{
	struct lease *lease;

	lease_advance(engine, now_ns);
	lease = lease_get(engine, id);
	if (!lease || lease->ended)
		return VMSIG_ERR_NO_LEASE;
	/* What is not durable was not packed either. */
	if (reason != VMSIG_ERR_IO && lease->view.state == LEASE_ACTIVE && lease->endpoint->away)
		return VMSIG_ERR_BUSY;
	lease_drop(lease, now_ns, reason);
	return 0;
}

static void orphan(struct lease *lease, uint64_t now_ns)
{
	/* Without a session nothing is allocated. */
	(void)!lease_attach(lease, LEASE_NO_SESSION);
	lease->view.user = NULL;
	if (lease->ended)
		return;
	if (lease->view.state == LEASE_WAITING || lease->view.state == LEASE_STORING) {
		lease_drop(lease, now_ns, VMSIG_ERR_DISCONNECTED);
	} else if (lease->view.state == LEASE_ACTIVE) {
		lease->orphan_until_ns = lease_after(now_ns, lease->engine->limits.resume_grace_ns);
		lease_timer_update(lease);
	}
}

void lease_disconnect(struct lease_engine *engine, uint64_t now_ns, uint64_t id)
{
	struct lease_session *session = NULL;
	struct lease *lease, *next;

	lease_advance(engine, now_ns);
	HASH_FIND(hh, engine->sessions, &id, sizeof(id), session);
	if (!session)
		return;
	/* The session goes with the last of them. */
	DL_FOREACH_SAFE2 (session->leases, lease, next, session_next)
		orphan(lease, now_ns);
}

/* ---- writing ---- */

/* Of the sorted ranges only the last one that starts early enough can. */
static bool covers(const struct lease *lease, const struct lease_range *range)
{
	size_t low = 0, high = lease->view.nranges;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (lease->ranges[mid].start <= range->start)
			low = mid + 1;
		else
			high = mid;
	}
	return low && range->last <= lease->ranges[low - 1].last;
}

int lease_admit(const struct lease_engine *engine, uint64_t now_ns, const char *tenant, uint64_t id,
	uint64_t token, uint32_t epoch, const struct lease_range *range)
{
	struct lease *lease;
	int r = lease_authorise(engine, now_ns, tenant, id, token, &lease);

	if (r)
		return r;
	if (lease->view.epoch != epoch || lease->endpoint->epoch != epoch ||
		!lease->endpoint->ready)
		return VMSIG_ERR_STALE_EPOCH;
	return covers(lease, range) ? 0 : VMSIG_ERR_OUT_OF_RANGE;
}

int lease_write_begin(struct lease_engine *engine, uint64_t id)
{
	struct lease *lease = lease_get(engine, id);

	if (!lease || lease->view.state != LEASE_ACTIVE)
		return VMSIG_ERR_NO_LEASE;
	lease->applying++;
	return 0;
}

void lease_write_end(struct lease_engine *engine, uint64_t now_ns, uint64_t id)
{
	struct lease *lease = lease_get(engine, id);

	assert(lease && lease->applying);
	if (--lease->applying == 0 && lease->view.state == LEASE_DRAINING)
		lease_drained(lease, now_ns);
}

/* ---- looking ---- */

bool lease_find(const struct lease_engine *engine, uint64_t id, struct lease_view *ret_view)
{
	struct lease *lease = lease_get(engine, id);

	if (!lease || lease->ended)
		return false;
	*ret_view = lease->view;
	return true;
}

bool lease_is_untold(const struct lease_engine *engine, uint64_t id)
{
	const struct lease *lease = lease_get(engine, id);

	return lease && !lease->ended && lease->pending & 1u << LEASE_ACT_GRANTED;
}

bool lease_is_ending(const struct lease_engine *engine, uint64_t id, struct lease_view *ret_view)
{
	const struct lease *lease = lease_get(engine, id);

	if (!lease || !(lease->ended ? lease->pending & 1u << LEASE_ACT_STORE_END
				     : lease->view.state == LEASE_DRAINING))
		return false;
	*ret_view = lease->view;
	return true;
}

static struct lease *lease_of_order(struct idtree_node *node)
{
	return (struct lease *)(void *)((char *)node - offsetof(struct lease, order));
}

bool lease_next(const struct lease_engine *engine, uint64_t *cursor, struct lease_view *ret_view)
{
	struct idtree_node *node = idtree_after(&engine->order, *cursor);

	while (node && lease_of_order(node)->ended)
		node = idtree_after(&engine->order, node->id);
	if (!node)
		return false;
	*cursor = node->id;
	*ret_view = lease_of_order(node)->view;
	return true;
}

/* ---- time and actions ---- */

static void lease_due(struct lease *lease, uint64_t now_ns)
{
	struct lease_view *view = &lease->view;

	if (view->state == LEASE_WAITING || view->state == LEASE_STORING) {
		lease_drop(lease, now_ns, VMSIG_ERR_TIMEOUT);
	} else if (now_ns >= view->deadline_ns || now_ns >= lease->orphan_until_ns) {
		lease_drop(lease, now_ns, VMSIG_ERR_LEASE_EXPIRED);
	} else if (queue_wants(lease)) {
		lease_drop(lease, now_ns, VMSIG_ERR_LEASE_REVOKED);
	} else {
		view->revoke_at_ns = UINT64_MAX;
		lease_timer_update(lease);
	}
}

static struct lease *lease_of_timer(struct timerheap_node *node)
{
	return (struct lease *)(void *)((char *)node - offsetof(struct lease, timer));
}

void lease_advance(struct lease_engine *engine, uint64_t now_ns)
{
	struct lease_endpoint *endpoint, *next;
	struct timerheap_node *node;

	while ((node = timerheap_first(&engine->timers)) && node->due <= now_ns)
		lease_due(lease_of_timer(node), now_ns);
	DL_FOREACH_SAFE (engine->unsettled, endpoint, next)
		settle_endpoint(endpoint, now_ns);
}

uint64_t lease_deadline(const struct lease_engine *engine)
{
	struct timerheap_node *node = timerheap_first(&engine->timers);

	/* Work that was left over, or actions to take, wait for nothing. */
	if (engine->unsettled || engine->actions)
		return 0;
	return node ? node->due : UINT64_MAX;
}

bool lease_has_actions(const struct lease_engine *engine)
{
	return engine->actions != NULL;
}

bool lease_first_action(struct lease_engine *engine, struct lease_action *ret_action)
{
	struct lease *lease = engine->actions;

	/* A lease whose last action was taken is freed at the next call, because the view that
	 * was handed out borrows from it. */
	while (lease && !lease->pending) {
		DL_DELETE2(engine->actions, lease, action_prev, action_next);
		lease_free(lease);
		lease = engine->actions;
	}
	if (!lease)
		return false;
	ret_action->kind = (enum lease_action_kind)__builtin_ctz(lease->pending);
	ret_action->lease = lease->view;
	return true;
}

bool lease_next_action(struct lease_engine *engine, struct lease_action *ret_action)
{
	struct lease *lease;

	if (!lease_first_action(engine, ret_action))
		return false;
	lease = engine->actions;
	lease->pending &= ~(1u << ret_action->kind);
	if (!lease->pending && !lease->ended)
		DL_DELETE2(engine->actions, lease, action_prev, action_next);
	return true;
}
