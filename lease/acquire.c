/* SPDX-License-Identifier: Apache-2.0 */
/* A request for a lease: checked against the terms of its policy, queued, granted, preempting. */
#include "lease/lease.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lease/life.h"
#include "proto/mishap.h"

static const struct lease_range whole = {.start = 0, .last = UINT64_MAX};

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
	r = lease_check_room(engine, LEASE_SLOT_ALL, engine->nleases, engine->limits.leases);
	if (r)
		return r;
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

static int lease_index(struct lease_engine *engine, struct lease *lease)
{
	HASH_ADD(hh, engine->leases, view.id, sizeof(lease->view.id), lease);
	if (!lease->hh.tbl)
		return -ENOMEM;
	lease->order.id = lease->view.id;
	idtree_insert(&engine->order, &lease->order);
	return 0;
}

static int lease_enter(struct lease *lease, struct lease_endpoint *endpoint,
	struct lease_account *account, uint64_t session)
{
	struct lease_engine *engine = lease->engine;

	lease->endpoint = endpoint;
	lease->account = account;
	lease->view.endpoint = endpoint->id;
	if (lease_index(engine, lease))
		return -ENOMEM;
	if (lease_attach(lease, session)) {
		lease_unindex(lease);
		return -ENOMEM;
	}
	engine->nleases++;
	DL_APPEND2(endpoint->leases, lease, peer_prev, peer_next);
	return 0;
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
	view->user = request->user;
	view->state = LEASE_WAITING;
	view->ttl_ns = request->ttl_ns
			       ? clamp(request->ttl_ns, terms->ttl_min_ns, terms->ttl_max_ns)
			       : terms->ttl_max_ns;
	view->hold_max_ns = terms->hold_max_ns;
	lease->leases_max = terms->leases;
	lease->view.wait_until_ns =
		lease_after(now_ns, clamp(request->wait_ns, 0, terms->wait_max_ns));
}

static int check_quota(const struct lease_endpoint *endpoint, const struct lease_account *account,
	struct lease_engine *engine, const struct lease_terms *terms)
{
	int r = lease_check_room(engine, LEASE_SLOT_LEASES, account->leases, terms->leases);

	if (!r)
		r = lease_check_room(engine, LEASE_SLOT_WAITS, account->waits, terms->waits);
	if (!r)
		r = lease_check_room(
			engine, LEASE_SLOT_QUEUE, endpoint->nwaiters, engine->limits.waiters);
	return r;
}

int lease_acquire(struct lease_engine *engine, uint64_t now_ns, const struct lease_request *request,
	const struct lease_terms *terms, uint64_t *ret_id)
{
	struct lease_endpoint *endpoint = lease_endpoint_find(engine, request->endpoint);
	struct lease_account *account;
	struct lease *lease;
	int r;

	if (request->priority > terms->priority_max)
		return VMSIG_ERR_FORBIDDEN;
	if (!endpoint || !endpoint->ready)
		return VMSIG_ERR_NOT_READY;
	r = MISHAP("acquire-memory") ? -ENOMEM
				     : lease_alloc(&lease, engine, request->tenant, request->ranges,
					       request->nranges);
	if (r)
		return r;
	account = lease_account_get(engine, request->tenant);
	r = account ? check_quota(endpoint, account, engine, terms) : -ENOMEM;
	lease_set_terms(lease, now_ns, request, terms);
	/* Another host's may be in the way. */
	while (lease_get(engine, engine->next_id))
		engine->next_id++;
	lease->view.id = engine->next_id;
	if (!r)
		r = lease_enter(lease, endpoint, account, request->session);
	if (r) {
		lease_account_put(engine, account);
		lease_discard(lease);
		return r;
	}
	account->waits++;
	queue_insert(lease);
	if (request->no_wait && queue_is_blocked(lease)) {
		lease_finish(lease);
		lease_free(lease);
		return VMSIG_ERR_LEASE_HELD;
	}
	engine->next_id++;
	lease_timer_update(lease);
	*ret_id = lease->view.id;
	settle_endpoint(endpoint, now_ns);
	return 0;
}

int lease_adopt(struct lease_engine *engine, uint64_t now_ns, const struct lease_view *view)
{
	struct lease_endpoint *endpoint;
	struct lease_account *account;
	struct lease *lease;
	int r;

	if (lease_get(engine, view->id) || view->id == 0)
		return VMSIG_ERR_BAD_REQUEST;
	endpoint = lease_endpoint_get(engine, view->endpoint);
	if (!endpoint)
		return -ENOMEM;
	r = lease_alloc(&lease, engine, view->tenant, view->ranges, view->nranges);
	if (r)
		return r;
	lease->endpoint = endpoint;
	r = lease_overlaps_held(lease) ? VMSIG_ERR_BAD_REQUEST
				       : rangeset_reserve(&endpoint->held, lease->view.nranges);
	account = r ? NULL : lease_account_get(engine, view->tenant);
	if (!r && !account)
		r = -ENOMEM;
	lease->view.id = view->id;
	if (!r)
		r = lease_enter(lease, endpoint, account, LEASE_NO_SESSION);
	if (r) {
		lease_account_put(engine, account);
		lease_discard(lease);
		return r;
	}
	lease->view = *view;
	lease->view.tenant = lease->tenant;
	lease->view.ranges = lease->ranges;
	lease->view.nranges = view->nranges ? view->nranges : 1;
	lease->view.session = LEASE_NO_SESSION;
	lease->view.state = LEASE_ACTIVE;
	lease->view.told = true;
	lease->view.reason = VMSIG_ERR_OK;
	lease->view.revoke_at_ns = UINT64_MAX;
	lease->view.endpoint = endpoint->id;
	account->leases++;
	rangeset_insert(&endpoint->held, lease->ranges, lease->view.nranges, lease);
	lease_timer_update(lease);
	lease_advance(engine, now_ns);
	return 0;
}

int lease_restore(struct lease_engine *engine, uint64_t now_ns, const struct lease_view *view)
{
	int r = lease_adopt(engine, now_ns, view);

	if (!r && engine->next_id <= view->id)
		engine->next_id = view->id + 1;
	return r;
}
