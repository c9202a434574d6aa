/* SPDX-License-Identifier: Apache-2.0 */
/* What the holder wants to be told of: asked for again on each new connection. */
#include "clients/lib/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct client_subscription *client_subscription_find(const vmsig *v, const char *pattern)
{
	struct client_subscription *subscription;

	for (subscription = v->subscriptions; subscription; subscription = subscription->next) {
		if (strcmp(subscription->pattern, pattern) == 0)
			return subscription;
	}
	return NULL;
}

void client_subscription_free(vmsig *v, struct client_subscription *subscription)
{
	struct client_subscription **at = &v->subscriptions;

	while (*at != subscription)
		at = &(*at)->next;
	*at = subscription->next;
	v->nsubscriptions--;
	free(subscription);
}

int vmsig_subscribe(vmsig *v, const char *pattern)
{
	struct client_subscription *subscription, **end;

	if (!pattern || !system_name_ok(pattern))
		return client_fail(v, -VMSIG_ERR_BAD_REQUEST,
			"a pattern is 1 to %d visible ASCII characters", VMSIG_NAME_MAX);
	if (client_subscription_find(v, pattern))
		return 0;
	if (v->nsubscriptions >= CLIENT_SUBSCRIPTIONS_MAX)
		return client_fail(v, -VMSIG_ERR_QUOTA,
			"%u subscriptions are made already; use a glob", CLIENT_SUBSCRIPTIONS_MAX);
	subscription = calloc(1, sizeof(*subscription));
	if (!subscription)
		return client_fail(v, -VMSIG_ERR_NO_MEMORY, "out of memory for a subscription");
	memcpy(subscription->pattern, pattern, strlen(pattern) + 1);
	subscription->answer = -1;
	backoff_init(&subscription->backoff, v->link.settings.backoff_min_ms,
		v->link.settings.backoff_max_ms);
	for (end = &v->subscriptions; *end; end = &(*end)->next)
		;
	*end = subscription;
	v->nsubscriptions++;
	return 0;
}

static int unsubscribe_send(vmsig *v, const char *pattern)
{
	Vmsig__Unsubscribe body = VMSIG__UNSUBSCRIBE__INIT;
	uint64_t id;

	body.endpoint = (char *)(uintptr_t)pattern;
	return uplink_request(&v->link, VMSIG__CTX_REQUEST__BODY_UNSUBSCRIBE, &body, NULL, 0, &id);
}

int vmsig_unsubscribe(vmsig *v, const char *pattern)
{
	struct client_subscription *subscription =
		pattern ? client_subscription_find(v, pattern) : NULL;
	int r = 0;

	if (!subscription)
		return client_fail(v, -VMSIG_ERR_NO_SUCH_ENDPOINT, "there is no subscription to %s",
			pattern ? pattern : "nothing");
	if (subscription->granted || subscription->request_id)
		r = unsubscribe_send(v, pattern);
	if (r > 0)
		return client_fail(
			v, -r, "%s: cannot be unsubscribed now: %s", pattern, vmsig_error_text(r));
	if (r < 0)
		return client_fail(v, -VMSIG_ERR_NO_MEMORY, "out of memory for a request");
	client_subscription_free(v, subscription);
	return 0;
}

void client_subscription_all_reset(vmsig *v)
{
	struct client_subscription *subscription;

	for (subscription = v->subscriptions; subscription; subscription = subscription->next) {
		subscription->request_id = 0;
		subscription->granted = false;
		subscription->retry_at = 0;
		backoff_reset(&subscription->backoff);
	}
}

static int subscription_ask(vmsig *v, struct client_subscription *subscription, int64_t now)
{
	Vmsig__Subscribe body = VMSIG__SUBSCRIBE__INIT;
	int r;

	body.endpoint = subscription->pattern;
	r = uplink_request(&v->link, VMSIG__CTX_REQUEST__BODY_SUBSCRIBE, &body, NULL, 0,
		&subscription->request_id);
	if (r)
		return r;
	subscription->asked_until = client_after(now, v->link.settings.request_timeout_ms);
	return 0;
}

static bool is_due(const struct client_subscription *subscription, int64_t now)
{
	return !subscription->granted && !subscription->request_id && subscription->retry_at <= now;
}

int client_subscription_all_ask(vmsig *v, int64_t now)
{
	struct client_subscription *subscription;

	for (subscription = v->subscriptions; subscription; subscription = subscription->next) {
		int r = is_due(subscription, now) ? subscription_ask(v, subscription, now) : 0;

		/* The send queue is full: the rest follows when the broker has read. */
		if (r == VMSIG_ERR_QUOTA)
			return 0;
		if (r)
			return r;
	}
	return 0;
}

int64_t client_subscription_all_deadline(const vmsig *v)
{
	const struct client_subscription *subscription;
	int64_t deadline = CLIENT_NEVER;

	for (subscription = v->subscriptions; subscription; subscription = subscription->next) {
		int64_t at = subscription->request_id ? subscription->asked_until
						      : subscription->retry_at;

		if (!subscription->granted && at < deadline)
			deadline = at;
	}
	return deadline;
}

bool client_subscription_all_overdue(const vmsig *v, int64_t now)
{
	const struct client_subscription *subscription;

	for (subscription = v->subscriptions; subscription; subscription = subscription->next) {
		if (subscription->request_id && subscription->asked_until <= now)
			return true;
	}
	return false;
}

static struct client_subscription *subscription_by_id(const vmsig *v, uint64_t request_id)
{
	struct client_subscription *subscription;

	for (subscription = v->subscriptions; subscription; subscription = subscription->next) {
		if (subscription->request_id == request_id)
			return subscription;
	}
	return NULL;
}

static void subscription_tell(vmsig *v, struct client_subscription *subscription, const char *text)
{
	vmsig_delivery *delivery =
		delivery_queue_add(&v->queue, VMSIG_EV_SUBSCRIBED, subscription->pattern);

	delivery->error = -subscription->answer;
	delivery_set_text(delivery, text);
}

/* To be asked for again, unless it never worked and never will. */
static void subscription_refused(vmsig *v, struct client_subscription *subscription)
{
	if (!subscription->proven && !vmsig_error_retryable(subscription->answer)) {
		client_subscription_free(v, subscription);
		return;
	}
	subscription->retry_at = client_after(client_now(), backoff_next(&subscription->backoff));
}

bool client_subscription_answer(vmsig *v, uint64_t request_id, int error, const char *text)
{
	struct client_subscription *subscription = subscription_by_id(v, request_id);
	bool news;

	if (!subscription)
		return false;
	news = subscription->answer != error;
	subscription->answer = error;
	subscription->request_id = 0;
	subscription->granted = !error;
	if (subscription->blocking) {
		if (error)
			client_fail(v, error, "%s: %s", subscription->pattern, text);
		subscription->proven = !error;
		/* Whoever waits decides what becomes of it. */
		subscription->retry_at = CLIENT_NEVER;
		return true;
	}
	if (news)
		subscription_tell(v, subscription, text);
	if (error)
		subscription_refused(v, subscription);
	else
		subscription->proven = true;
	return true;
}
