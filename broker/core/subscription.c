/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/core/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum vmsig_guard demanded_guard(const struct subscription *subscription)
{
	enum vmsig_guard endpoint = subscription->endpoint->min_guard;
	enum vmsig_guard tenant = (enum vmsig_guard)subscription->session->tenant->min_guard;

	return endpoint > tenant ? endpoint : tenant;
}

static bool is_servable(const struct subscription *subscription)
{
	return endpoint_guard(subscription->endpoint, subscription->session->uid) >=
	       demanded_guard(subscription);
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
		(subscription->due == DUE_CONTEXT && !session->outstanding && !session->waiting))
		action_add(session->core, QUEUE_SESSION, &session->own, CORE_ACT_NOTIFY);
}

struct subscription *subscription_find(struct session *session, const struct endpoint *endpoint)
{
	struct subscription *subscription;

	DL_FOREACH (session->subscriptions, subscription) {
		if (subscription->endpoint == endpoint)
			return subscription;
	}
	return NULL;
}

int subscription_add(struct session *session, struct endpoint *endpoint)
{
	struct subscription *subscription;

	if (subscription_find(session, endpoint))
		return 0;
	subscription = calloc(1, sizeof(*subscription));
	if (!subscription)
		return -ENOMEM;
	subscription->session = session;
	subscription->endpoint = endpoint;
	subscription->id = endpoint->id;
	memcpy(subscription->name, endpoint->name, sizeof(subscription->name));
	/* Neither count was told, whatever value they have reached. */
	subscription->told_news = endpoint->news - 1;
	subscription->told_context = endpoint->context - 1;
	DL_APPEND(session->subscriptions, subscription);
	DL_APPEND2(endpoint->subscriptions, subscription, ep_prev, ep_next);
	subscription_update(subscription);
	return 0;
}

void subscription_free(struct subscription *subscription)
{
	due_set(subscription, DUE_NONE);
	DL_DELETE(subscription->session->subscriptions, subscription);
	if (subscription->endpoint)
		DL_DELETE2(subscription->endpoint->subscriptions, subscription, ep_prev, ep_next);
	free(subscription);
}

void subscription_part(struct subscription *subscription)
{
	DL_DELETE2(subscription->endpoint->subscriptions, subscription, ep_prev, ep_next);
	if (subscription->told_epoch < subscription->endpoint->epoch)
		subscription->told_epoch = subscription->endpoint->epoch;
	subscription->endpoint = NULL;
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
		.epoch = subscription->told_epoch,
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

static const char *guard_detail(const struct subscription *subscription)
{
	static const char *const details[] = {
		[VMSIG_GUARD_NONE] = "",
		[VMSIG_GUARD_MODE] = "guard weaker than the policy's min_guard 'mode': give the "
				     "holder a uid that is neither root nor the RAM file's owner",
		[VMSIG_GUARD_RO_MOUNT] =
			"guard weaker than the policy's min_guard 'ro-mount': back "
			"guest RAM by a file on a tmpfs (memory-backend-file)",
		[VMSIG_GUARD_SEALED] =
			"guard weaker than the policy's min_guard 'sealed': only RAM "
			"in a sealed memfd satisfies it",
	};

	return details[demanded_guard(subscription)];
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
			delivery->detail = guard_detail(subscription);
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
	delivery->ram_fd = fd;
	charge_inflight(subscription->session, now_ns);
	return 0;
}

/* Whether the session may have a MEMCTX in flight now; else it gets in line. */
static bool may_carry(struct session *session)
{
	struct core *core = session->core;

	if (session->outstanding || session->waiting)
		return false;
	if (core->inflight < core->limits.inflight)
		return true;
	session->waiting = true;
	DL_APPEND2(core->waiting, session, wait_prev, wait_next);
	return false;
}

int core_session_pull(struct session *session, uint64_t now_ns, struct core_delivery *ret_delivery)
{
	struct subscription *subscription = session->due_news;

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
		int r;

		subscription = session->due_context;
		if (!subscription) {
			/* It may have been this session's turn to carry one. */
			session_wake_waiting(session->core);
			return VMSIG_ERR_WOULD_BLOCK;
		}
		if (!may_carry(session))
			return VMSIG_ERR_WOULD_BLOCK;
		r = deliver_context(subscription, now_ns, ret_delivery);
		if (r)
			return r;
	}
	due_set(subscription, next_due(subscription));
	return 0;
}

void core_session_put_back(struct session *session, uint32_t id)
{
	struct endpoint *endpoint = endpoint_by_id(session->core, id);
	struct subscription *subscription = endpoint ? subscription_find(session, endpoint) : NULL;

	session_release_inflight(session);
	if (!subscription)
		return;
	subscription->told_context = endpoint->context - 1;
	due_set(subscription, next_due(subscription));
}
