/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One session looking at one endpoint: what it was told, and so what it still has to be told.
 */
#include "broker/read/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/mishap.h"

static bool is_servable(const struct subscription *subscription)
{
	return service_is_due(subscription->endpoint, subscription->session);
}

bool subscription_owes_invalidation(const struct subscription *subscription)
{
	return subscription->told_epoch &&
	       subscription->told_epoch != subscription->endpoint->epoch;
}

static bool owes_context(const struct subscription *subscription)
{
	return core_state_is_readable(subscription->endpoint->state) && is_servable(subscription) &&
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
	if (!subscription->endpoint || subscription_owes_invalidation(subscription))
		return DUE_NEWS;
	if (owes_context(subscription))
		return DUE_CONTEXT;
	return owes_news(subscription) ? DUE_NEWS : DUE_NONE;
}

void subscription_sort(struct subscription *subscription)
{
	due_set(subscription, next_due(subscription));
}

void subscription_update(struct subscription *subscription)
{
	struct session *session = subscription->session;

	subscription_sort(subscription);
	if (subscription->due == DUE_NEWS ||
		(subscription->due == DUE_CONTEXT &&
			(!session->inflight.outstanding || session->inflight.unsaid) &&
			session->inflight.line != LINE_WAITING))
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
	subscription = MISHAP("subscription-memory") ? NULL : calloc(1, sizeof(*subscription));
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
