/* SPDX-License-Identifier: Apache-2.0 */
#include "lease/lease.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lease/life.h"

static const struct lease_range whole = {.start = 0, .last = UINT64_MAX};

static struct endpoint *endpoint_find(const struct lease_engine *engine, uint32_t id)
{
	struct endpoint *endpoint = NULL;

	HASH_FIND(hh, engine->endpoints, &id, sizeof(id), endpoint);
	return endpoint;
}

static struct endpoint *endpoint_get(struct lease_engine *engine, uint32_t id)
{
	struct endpoint *endpoint = endpoint_find(engine, id);

	if (endpoint)
		return endpoint;
	endpoint = calloc(1, sizeof(*endpoint));
	if (!endpoint)
		return NULL;
	endpoint->id = id;
	HASH_ADD(hh, engine->endpoints, id, sizeof(endpoint->id), endpoint);
	if (!endpoint->hh.tbl) {
		free(endpoint);
		return NULL;
	}
	return endpoint;
}

/* ---- engine ---- */

int lease_engine_new(
	struct lease_engine **ret_engine, const struct lease_limits *limits, uint64_t next_id)
{
	struct lease_engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return -ENOMEM;
	engine->limits = *limits;
	if (engine->limits.ranges > LEASE_RANGES_MAX)
		engine->limits.ranges = LEASE_RANGES_MAX;
	engine->next_id = next_id ? next_id : 1;
	*ret_engine = engine;
	return 0;
}

struct lease_engine *lease_engine_free(struct lease_engine *engine)
{
	struct endpoint *endpoint, *next_endpoint;
	struct lease *lease, *next_lease;

	if (!engine)
		return NULL;
	HASH_ITER (hh, engine->leases, lease, next_lease) {
		if (!lease->ended)
			lease_finish(lease);
		lease_free(lease);
	}
	HASH_ITER (hh, engine->endpoints, endpoint, next_endpoint) {
		assert(endpoint->held.n == 0 && endpoint->nwaiters == 0);
		HASH_DEL(engine->endpoints, endpoint);
		rangeset_deinit(&endpoint->held);
		free(endpoint);
	}
	assert(!engine->accounts && engine->nleases == 0);
	timerheap_deinit(&engine->timers);
	free(engine);
	return NULL;
}

static void endpoint_drop_leases(struct endpoint *endpoint, struct lease_engine *engine,
	uint64_t now_ns, enum vmsig_error reason, const uint32_t *except_epoch)
{
	struct lease *lease, *next;

	/* Waiters first, so that nothing is granted in between only to be ended again. */
	DL_FOREACH_SAFE (endpoint->waiters, lease, next)
		lease_refuse(lease, reason);
	HASH_ITER (hh, engine->leases, lease, next) {
		if (lease->endpoint != endpoint || lease->ended)
			continue;
		if (!except_epoch || lease->view.epoch != *except_epoch)
			lease_drop(lease, now_ns, reason);
	}
}

int lease_endpoint_ready(
	struct lease_engine *engine, uint64_t now_ns, uint32_t endpoint_id, uint32_t epoch)
{
	struct endpoint *endpoint = endpoint_get(engine, endpoint_id);

	if (!endpoint)
		return -ENOMEM;
	if (endpoint->ready && endpoint->epoch == epoch)
		return 0;
	endpoint_drop_leases(endpoint, engine, now_ns, VMSIG_ERR_STALE_EPOCH, &epoch);
	endpoint->epoch = epoch;
	endpoint->ready = true;
	return 0;
}

void lease_endpoint_down(
	struct lease_engine *engine, uint64_t now_ns, uint32_t endpoint_id, enum vmsig_error reason)
{
	struct endpoint *endpoint = endpoint_find(engine, endpoint_id);

	if (!endpoint)
		return;
	endpoint->ready = false;
	endpoint_drop_leases(endpoint, engine, now_ns, reason, NULL);
}

/* ---- acquiring ---- */

static int range_compare(const void *a, const void *b)
{
	const struct lease_range *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static int ranges_copy(struct lease *lease, const struct lease_range *ranges, size_t n)
{
	if (!n) {
		lease->ranges[0] = whole;
		n = 1;
	} else {
		memcpy(lease->ranges, ranges, n * sizeof(*ranges));
	}
	qsort(lease->ranges, n, sizeof(*ranges), range_compare);
	for (size_t i = 0; i < n; i++) {
		if (lease->ranges[i].last < lease->ranges[i].start)
			return VMSIG_ERR_BAD_REQUEST;
		if (i && lease->ranges[i].start <= lease->ranges[i - 1].last)
			return VMSIG_ERR_BAD_REQUEST;
	}
	lease->view.ranges = lease->ranges;
	lease->view.nranges = n;
	return 0;
}

/* A lease that is in no list yet; undone with lease_discard(). */
static int lease_alloc(struct lease **ret_lease, struct lease_engine *engine, const char *tenant,
	const struct lease_range *ranges, size_t nranges)
{
	struct lease *lease;
	int r;

	if (nranges > engine->limits.ranges || strlen(tenant) > LEASE_NAME_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	if (engine->nleases >= engine->limits.leases)
		return VMSIG_ERR_QUOTA;
	lease = calloc(1, sizeof(*lease) + (nranges ? nranges : 1) * sizeof(lease->ranges[0]));
	if (!lease)
		return -ENOMEM;
	r = ranges_copy(lease, ranges, nranges);
	if (!r)
		r = timerheap_reserve(&engine->timers);
	if (r) {
		free(lease);
		return r;
	}
	lease->engine = engine;
	strcpy(lease->tenant, tenant);
	lease->view.tenant = lease->tenant;
	lease->view.revoke_at_ns = lease->orphan_until_ns = UINT64_MAX;
	*ret_lease = lease;
	return 0;
}

static void lease_discard(struct lease *lease)
{
	timerheap_unreserve(&lease->engine->timers);
	free(lease);
}

static int lease_enter(struct lease *lease, struct endpoint *endpoint, struct account *account)
{
	struct lease_engine *engine = lease->engine;

	lease->endpoint = endpoint;
	lease->account = account;
	lease->view.endpoint = endpoint->id;
	HASH_ADD(hh, engine->leases, view.id, sizeof(lease->view.id), lease);
	if (!lease->hh.tbl)
		return -ENOMEM;
	engine->nleases++;
	return 0;
}

static void waiter_insert(struct lease *lease)
{
	struct endpoint *endpoint = lease->endpoint;
	struct lease *behind;

	DL_FOREACH (endpoint->waiters, behind) {
		if (behind->view.priority < lease->view.priority)
			break;
	}
	if (behind)
		DL_PREPEND_ELEM(endpoint->waiters, behind, lease);
	else
		DL_APPEND(endpoint->waiters, lease);
	endpoint->nwaiters++;
	lease->account->waits++;
}

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
	return value < low ? low : value > high ? high : value;
}

static void lease_set_terms(struct lease *lease, uint64_t now_ns,
	const struct lease_request *request, const struct lease_terms *terms)
{
	struct lease_view *view = &lease->view;

	view->uid = request->uid;
	view->priority = request->priority;
	view->session = request->session;
	view->user = request->user;
	view->state = LEASE_WAITING;
	view->ttl_ns = request->ttl_ns
			       ? clamp(request->ttl_ns, terms->ttl_min_ns, terms->ttl_max_ns)
			       : terms->ttl_max_ns;
	/* Becomes a moment when the lease is granted. */
	view->hold_until_ns = terms->hold_max_ns;
	lease->wait_until_ns = lease_after(now_ns, clamp(request->wait_ns, 0, terms->wait_max_ns));
}

/* Whether the waiting lease would have to wait, that is be overtaken by nobody. */
static bool has_conflict(const struct lease *lease)
{
	return lease_overlaps_held(lease) || lease_overlaps_earlier_waiter(lease);
}

static int check_quota(const struct endpoint *endpoint, const struct account *account,
	const struct lease_engine *engine, const struct lease_terms *terms)
{
	if (account->leases >= terms->leases || account->waits >= terms->waits ||
		endpoint->nwaiters >= engine->limits.waiters)
		return VMSIG_ERR_QUOTA;
	return 0;
}

int lease_acquire(struct lease_engine *engine, uint64_t now_ns, const struct lease_request *request,
	const struct lease_terms *terms, uint64_t *ret_id)
{
	struct endpoint *endpoint = endpoint_find(engine, request->endpoint);
	struct account *account;
	struct lease *lease;
	int r;

	if (request->priority > terms->priority_max)
		return VMSIG_ERR_FORBIDDEN;
	if (!endpoint || !endpoint->ready)
		return VMSIG_ERR_NOT_READY;
	r = lease_alloc(&lease, engine, request->tenant, request->ranges, request->nranges);
	if (r)
		return r;
	account = account_get(engine, request->tenant);
	r = account ? check_quota(endpoint, account, engine, terms) : -ENOMEM;
	lease_set_terms(lease, now_ns, request, terms);
	lease->view.id = engine->next_id;
	if (!r)
		r = lease_enter(lease, endpoint, account);
	if (r) {
		account_put(engine, account);
		lease_discard(lease);
		return r;
	}
	waiter_insert(lease);
	if (request->no_wait && has_conflict(lease)) {
		lease_finish(lease);
		lease_free(lease);
		return VMSIG_ERR_LEASE_HELD;
	}
	engine->next_id++;
	lease_timer_update(lease);
	*ret_id = lease->view.id;
	endpoint_grant(endpoint, now_ns);
	return 0;
}

int lease_restore(struct lease_engine *engine, uint64_t now_ns, const struct lease_view *view)
{
	struct endpoint *endpoint;
	struct account *account;
	struct lease *lease;
	int r;

	if (lease_get(engine, view->id) || view->id == 0)
		return VMSIG_ERR_BAD_REQUEST;
	endpoint = endpoint_get(engine, view->endpoint);
	if (!endpoint)
		return -ENOMEM;
	r = lease_alloc(&lease, engine, view->tenant, view->ranges, view->nranges);
	if (r)
		return r;
	lease->endpoint = endpoint;
	r = lease_overlaps_held(lease) ? VMSIG_ERR_BAD_REQUEST
				       : rangeset_reserve(&endpoint->held, lease->view.nranges);
	account = r ? NULL : account_get(engine, view->tenant);
	if (!r && !account)
		r = -ENOMEM;
	lease->view.id = view->id;
	if (!r)
		r = lease_enter(lease, endpoint, account);
	if (r) {
		account_put(engine, account);
		lease_discard(lease);
		return r;
	}
	lease->view = *view;
	lease->view.tenant = lease->tenant;
	lease->view.ranges = lease->ranges;
	lease->view.nranges = view->nranges ? view->nranges : 1;
	lease->view.session = LEASE_NO_SESSION;
	lease->view.state = LEASE_ACTIVE;
	lease->view.reason = VMSIG_ERR_OK;
	lease->view.revoke_at_ns = UINT64_MAX;
	lease->view.endpoint = endpoint->id;
	account->leases++;
	for (size_t i = 0; i < lease->view.nranges; i++)
		rangeset_insert(&endpoint->held, &lease->ranges[i], lease);
	if (engine->next_id <= view->id)
		engine->next_id = view->id + 1;
	lease_timer_update(lease);
	lease_advance(engine, now_ns);
	return 0;
}

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
	view->hold_until_ns = lease_after(now_ns, view->hold_until_ns);
	view->deadline_ns = lease_earlier(lease_after(now_ns, view->ttl_ns), view->hold_until_ns);
	lease_act(lease, LEASE_ACT_GRANTED);
	lease_timer_update(lease);
	/* Somebody of higher priority may have come while the store was busy. */
	endpoint_grant(lease->endpoint, now_ns);
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
		return VMSIG_ERR_LEASE_EXPIRED;
	if (now_ns >= lease->view.revoke_at_ns && lease_preemption_stands(lease))
		return VMSIG_ERR_LEASE_REVOKED;
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

int lease_release(struct lease_engine *engine, uint64_t now_ns, const char *tenant, uint64_t id,
	uint64_t token)
{
	struct lease *lease = lease_get(engine, id);
	int r;

	if (lease && !lease->ended && strcmp(lease->tenant, tenant) == 0 &&
		(lease->view.state == LEASE_WAITING || lease->view.state == LEASE_STORING)) {
		lease_drop(lease, now_ns, VMSIG_ERR_OK);
		return 0;
	}
	r = lease_authorise(engine, now_ns, tenant, id, token, &lease);
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
	lease->view.session = session;
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
	struct lease *lease = lease_get(engine, id);

	if (!lease || lease->ended)
		return VMSIG_ERR_NO_LEASE;
	lease_drop(lease, now_ns, reason);
	return 0;
}

void lease_disconnect(struct lease_engine *engine, uint64_t now_ns, uint64_t session)
{
	struct lease *lease, *next;

	HASH_ITER (hh, engine->leases, lease, next) {
		if (lease->view.session != session)
			continue;
		lease->view.session = LEASE_NO_SESSION;
		lease->view.user = NULL;
		if (lease->ended)
			continue;
		if (lease->view.state == LEASE_WAITING || lease->view.state == LEASE_STORING) {
			lease_drop(lease, now_ns, VMSIG_ERR_DISCONNECTED);
		} else if (lease->view.state == LEASE_ACTIVE) {
			lease->orphan_until_ns =
				lease_after(now_ns, engine->limits.resume_grace_ns);
			lease_timer_update(lease);
		}
	}
}

/* ---- writing ---- */

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
	for (size_t i = 0; i < lease->view.nranges; i++) {
		if (lease->ranges[i].start <= range->start && range->last <= lease->ranges[i].last)
			return 0;
	}
	return VMSIG_ERR_OUT_OF_RANGE;
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

bool lease_next(const struct lease_engine *engine, uint64_t *cursor, struct lease_view *ret_view)
{
	struct lease *lease = lease_get(engine, *cursor);

	/* The table iterates in order of insertion, which is the order of ids. */
	lease = lease ? lease->hh.next : engine->leases;
	while (lease && (lease->ended || lease->view.id <= *cursor))
		lease = lease->hh.next;
	if (!lease)
		return false;
	*cursor = lease->view.id;
	*ret_view = lease->view;
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
	} else if (lease_preemption_stands(lease)) {
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
	struct timerheap_node *node;

	while ((node = timerheap_first(&engine->timers)) && node->due <= now_ns)
		lease_due(lease_of_timer(node), now_ns);
}

uint64_t lease_deadline(const struct lease_engine *engine)
{
	struct timerheap_node *node = timerheap_first(&engine->timers);

	return node ? node->due : UINT64_MAX;
}

bool lease_next_action(struct lease_engine *engine, struct lease_action *ret_action)
{
	struct lease *lease = engine->actions;
	enum lease_action_kind kind;

	/* A lease whose last action was taken is freed at the next call, because the view that
	 * was handed out borrows from it. */
	while (lease && !lease->pending) {
		DL_DELETE2(engine->actions, lease, action_prev, action_next);
		lease_free(lease);
		lease = engine->actions;
	}
	if (!lease)
		return false;
	kind = (enum lease_action_kind)__builtin_ctz(lease->pending);
	ret_action->kind = kind;
	ret_action->lease = lease->view;
	lease->pending &= ~(1u << kind);
	if (!lease->pending && !lease->ended)
		DL_DELETE2(engine->actions, lease, action_prev, action_next);
	return true;
}
