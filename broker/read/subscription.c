/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/read/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum vmsig_guard demanded_guard(
	const struct endpoint *endpoint, const struct session *session)
{
	enum vmsig_guard tenant = (enum vmsig_guard)session->tenant->min_guard;

	return endpoint->min_guard > tenant ? endpoint->min_guard : tenant;
}

static bool is_guarded(const struct endpoint *endpoint, const struct session *session)
{
	return endpoint_guard(endpoint, session->uid) >= demanded_guard(endpoint, session);
}

static bool is_servable(const struct subscription *subscription)
{
	return is_guarded(subscription->endpoint, subscription->session);
}

/* Told of an epoch that is over, or of nothing about the present one. */
static bool owes_invalidation(const struct subscription *subscription)
{
	return subscription->told_epoch &&
	       subscription->told_epoch != subscription->endpoint->epoch;
}

static bool owes_context(const struct subscription *subscription)
{
	return subscription->endpoint->state == VMSIG_STATE_READY && is_servable(subscription) &&
	       subscription->told_context != subscription->endpoint->context;
}

static bool owes_news(const struct subscription *subscription)
{
	const struct endpoint *endpoint = subscription->endpoint;

	if (subscription->told_news == endpoint->news)
		return false;
	/* A context says READY by itself, and an invalidation that it boots. */
	return endpoint->state != VMSIG_STATE_READY || !is_servable(subscription);
}

static struct subscription **due_list(struct subscription *subscription)
{
	return subscription->due == DUE_CONTEXT ? &subscription->session->due_context
						: &subscription->session->due_news;
}

static void due_set(struct subscription *subscription, int due)
{
	if ((int)subscription->due == due)
		return;
	if (subscription->due != DUE_NONE)
		DL_DELETE2(*due_list(subscription), subscription, due_prev, due_next);
	subscription->due = due;
	if (due != DUE_NONE)
		DL_APPEND2(*due_list(subscription), subscription, due_prev, due_next);
}

static int next_due(const struct subscription *subscription)
{
	if (!subscription->endpoint || owes_invalidation(subscription))
		return DUE_NEWS;
	if (owes_context(subscription))
		return DUE_CONTEXT;
	return owes_news(subscription) ? DUE_NEWS : DUE_NONE;
}

void subscription_update(struct subscription *subscription)
{
	struct session *session = subscription->session;

	due_set(subscription, next_due(subscription));
	if (subscription->due == DUE_NEWS ||
		(subscription->due == DUE_CONTEXT && !session->outstanding &&
			session->line != LINE_WAITING))
		action_add(session->core, QUEUE_SESSION, &session->own, CORE_ACT_NOTIFY);
}

struct subscription *subscription_find(struct session *session, uint32_t id)
{
	struct subscription *subscription = NULL;

	HASH_FIND(hh, session->index, &id, sizeof(id), subscription);
	return subscription;
}

/* ---- counting ---- */

static int audience_join(struct subscription *subscription)
{
	const struct tenant *tenant = subscription->session->tenant;
	struct endpoint *endpoint = subscription->endpoint;
	struct audience *audience;

	DL_SEARCH_SCALAR(endpoint->audiences, audience, tenant, tenant);
	if (!audience) {
		audience = calloc(1, sizeof(*audience));
		if (!audience)
			return -ENOMEM;
		audience->tenant = tenant;
		DL_APPEND(endpoint->audiences, audience);
	}
	audience->count++;
	subscription->audience = audience;
	return 0;
}

static void audience_leave(struct subscription *subscription)
{
	struct audience *audience = subscription->audience;

	subscription->audience = NULL;
	if (!audience || --audience->count)
		return;
	DL_DELETE(subscription->endpoint->audiences, audience);
	free(audience);
}

int subscription_count_anew(struct subscription *subscription)
{
	audience_leave(subscription);
	return audience_join(subscription);
}

/* ---- coming and going ---- */

static int attach(struct subscription *subscription, struct endpoint *endpoint)
{
	subscription->endpoint = endpoint;
	if (audience_join(subscription) < 0) {
		subscription->endpoint = NULL;
		return -ENOMEM;
	}
	memcpy(subscription->name, endpoint->name, sizeof(subscription->name));
	subscription->asks = pattern_count(subscription->session, endpoint->name);
	/* Neither count was told, whatever value they have reached. */
	subscription->told_news = endpoint->news - 1;
	subscription->told_context = endpoint->context - 1;
	DL_APPEND2(endpoint->subscriptions, subscription, ep_prev, ep_next);
	endpoint->nsubscriptions++;
	subscription_update(subscription);
	return 0;
}

static void detach(struct subscription *subscription)
{
	struct endpoint *endpoint = subscription->endpoint;

	if (!endpoint)
		return;
	audience_leave(subscription);
	DL_DELETE2(endpoint->subscriptions, subscription, ep_prev, ep_next);
	endpoint->nsubscriptions--;
	subscription->endpoint = NULL;
}

int subscription_add(struct session *session, struct endpoint *endpoint)
{
	struct subscription *subscription = subscription_find(session, endpoint->id);

	/* One that parted and was not told so: there is nothing to tell but what is new. */
	if (subscription)
		return subscription->endpoint ? 0 : attach(subscription, endpoint);
	subscription = calloc(1, sizeof(*subscription));
	if (!subscription)
		return -ENOMEM;
	subscription->session = session;
	subscription->id = endpoint->id;
	HASH_ADD(hh, session->index, id, sizeof(subscription->id), subscription);
	if (!subscription->hh.tbl) {
		free(subscription);
		return -ENOMEM;
	}
	DL_APPEND(session->subscriptions, subscription);
	if (attach(subscription, endpoint) < 0) {
		subscription_free(subscription);
		return -ENOMEM;
	}
	return 0;
}

void subscription_free(struct subscription *subscription)
{
	struct session *session = subscription->session;

	due_set(subscription, DUE_NONE);
	detach(subscription);
	DL_DELETE(session->subscriptions, subscription);
	HASH_DELETE(hh, session->index, subscription);
	free(subscription);
}

void subscription_part(struct subscription *subscription)
{
	subscription->last_epoch = subscription->endpoint->epoch;
	detach(subscription);
	subscription_update(subscription);
}

/* ---- delivering ---- */

static void delivery_init(struct core_delivery *delivery, const struct subscription *subscription,
	enum vmsig_event_kind kind)
{
	const struct endpoint *endpoint = subscription->endpoint;

	*delivery = (struct core_delivery){
		.kind = kind,
		.endpoint = subscription->id,
		.name = subscription->name,
		.detail = "",
		.epoch = subscription->last_epoch,
		.state = VMSIG_STATE_GONE,
		.ram_fd = -1,
	};
	if (!endpoint)
		return;
	delivery->name = endpoint->name;
	delivery->detail = endpoint->detail;
	delivery->epoch = endpoint->epoch;
	delivery->state = endpoint->state;
	delivery->guard = endpoint_guard(endpoint, subscription->session->uid);
}

static const char *guard_detail(const struct endpoint *endpoint, const struct session *session)
{
	static const char *const details[] = {
		[VMSIG_GUARD_NONE] = "",
		[VMSIG_GUARD_MODE] =
			"WEAK_GUARD: weaker than the min_guard 'mode' of the policy: give "
			"the holder a uid that is neither root nor the RAM file's "
			"owner",
		[VMSIG_GUARD_RO_MOUNT] =
			"WEAK_GUARD: weaker than the min_guard 'ro-mount' of the policy: back "
			"guest RAM by a file on a tmpfs (memory-backend-file)",
		[VMSIG_GUARD_SEALED] =
			"WEAK_GUARD: weaker than the min_guard 'sealed' of the policy: only RAM "
			"in a sealed memfd satisfies it",
	};

	return details[demanded_guard(endpoint, session)];
}

const char *subscription_detail(const struct endpoint *endpoint, const struct session *session)
{
	if (!session || endpoint->state != VMSIG_STATE_READY || is_guarded(endpoint, session))
		return endpoint->detail;
	return guard_detail(endpoint, session);
}

static void deliver_news(struct subscription *subscription, struct core_delivery *delivery)
{
	struct endpoint *endpoint = subscription->endpoint;

	if (owes_invalidation(subscription)) {
		delivery_init(delivery, subscription, VMSIG_EV_MEMCTX_INVALIDATED);
		/* Says that it boots, unless there is a reason to tell as well. */
		if (endpoint->state == VMSIG_STATE_BOOTING && !endpoint->detail[0])
			subscription->told_news = endpoint->news;
		subscription->told_context = endpoint->context - 1;
	} else {
		delivery_init(delivery, subscription, VMSIG_EV_ENDPOINT_STATE);
		if (endpoint->state == VMSIG_STATE_READY)
			delivery->detail = guard_detail(endpoint, subscription->session);
		subscription->told_news = endpoint->news;
	}
	subscription->told_epoch = endpoint->epoch;
}

static void deliver_farewell(struct subscription *subscription, struct core_delivery *delivery)
{
	/* The name lives on in the session's scratch: the subscription does not. */
	delivery_init(delivery, subscription, VMSIG_EV_ENDPOINT_STATE);
	memcpy(subscription->session->farewell, subscription->name, sizeof(subscription->name));
	delivery->name = subscription->session->farewell;
	delivery->detail = "the endpoint is not there any more";
	subscription_free(subscription);
}

static void charge_inflight(struct session *session, uint64_t now_ns)
{
	struct core *core = session->core;

	session->outstanding = true;
	session->take_by_ns = now_ns + core->limits.take_timeout_ns;
	core->inflight++;
	DL_APPEND2(core->outstanding, session, out_prev, out_next);
}

/* The registration is asked anew for each delivery; only the epoch is ours (R3). */
static int deliver_context(
	struct subscription *subscription, uint64_t now_ns, struct core_delivery *delivery)
{
	struct endpoint *endpoint = subscription->endpoint;
	int fd = endpoint->reg.share_fd(endpoint->reg.ctx);

	/* Out of descriptors, or the file is going: the adapter finds out and ends the session. */
	if (fd < 0)
		return VMSIG_ERR_BUSY;
	subscription->told_news = endpoint->news;
	subscription->told_context = endpoint->context;
	subscription->told_epoch = endpoint->epoch;
	delivery_init(delivery, subscription, VMSIG_EV_MEMCTX);
	endpoint->reg.describe(endpoint->reg.ctx, &delivery->pod, &delivery->segs, &delivery->nseg);
	delivery->pod.epoch = endpoint->epoch;
	delivery->pod.nseg = delivery->nseg;
	delivery->pod.flags |= VMSIG_MEMCTX_RDONLY;
	delivery->system = endpoint->system;
	delivery->ram_fd = fd;
	charge_inflight(subscription->session, now_ns);
	return 0;
}

int core_session_pull(struct session *session, uint64_t now_ns, struct core_delivery *ret_delivery)
{
	struct subscription *subscription;
	int r = session_catch_up(session);

	if (r)
		return r;
	subscription = session->due_news;
	/* Nothing is told before what it says was stored (R6). */
	if (session->core->queues[QUEUE_ENDPOINT]) {
		action_add(session->core, QUEUE_SESSION, &session->own, CORE_ACT_NOTIFY);
		return VMSIG_ERR_WOULD_BLOCK;
	}
	if (subscription && !subscription->endpoint) {
		deliver_farewell(subscription, ret_delivery);
		return 0;
	}
	if (subscription) {
		deliver_news(subscription, ret_delivery);
	} else {
		subscription = session->due_context;
		if (!subscription) {
			session_leave_line(session);
			session_give_turns(session->core);
			return VMSIG_ERR_WOULD_BLOCK;
		}
		if (!session_may_carry(session))
			return VMSIG_ERR_WOULD_BLOCK;
		r = deliver_context(subscription, now_ns, ret_delivery);
		if (r) {
			session_give_turns(session->core);
			return r;
		}
	}
	due_set(subscription, next_due(subscription));
	return 0;
}

void core_session_put_back(struct session *session, uint32_t id)
{
	struct subscription *subscription = subscription_find(session, id);

	session_release_inflight(session);
	if (!subscription || !subscription->endpoint)
		return;
	subscription->told_context = subscription->endpoint->context - 1;
	due_set(subscription, next_due(subscription));
}
