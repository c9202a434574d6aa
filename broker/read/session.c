/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One reader: what it asks for, by patterns, and what follows from them and its policy: its
 * subscriptions. Patterns meet endpoints that have come when the session is pulled.
 */
#include "broker/read/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/mishap.h"

static const struct account_kind kind = {.owner = "connection",
	.slots = {[SESSION_PATTERNS] = {"subscriptions", "quota.subscriptions",
			  "end one, or have it raised"},
		[SESSION_GLOBS] = {"globs among the subscriptions", "quota.globs",
			"subscribe to plain names, or have it raised"}}};

static struct account_actor actor_of(const struct session *session)
{
	return (struct account_actor){.tenant = session->tenant->name, .uid = session->uid};
}

static void set_limits(struct session *session)
{
	const struct tenant_quota *quota = &session->tenant->quota;

	account_set_limit(&session->account, SESSION_PATTERNS, quota->subscriptions);
	account_set_limit(&session->account, SESSION_GLOBS, quota->globs);
}

int session_new(struct session **ret_session, struct core *core, const struct tenant *tenant,
	uint32_t uid, void *user)
{
	struct session *session = MISHAP("session-memory") ? NULL : calloc(1, sizeof(*session));
	struct account_actor actor;
	int r;

	if (!session)
		return -ENOMEM;
	session->core = core;
	session->tenant = tenant;
	session->uid = uid;
	session->user = user;
	session->own.session = session;
	session->seen = core->births;
	actor = actor_of(session);
	r = charge_take(&session->place, &core->account, CORE_SESSIONS, 1, &actor, &core->refusal);
	if (!r)
		r = inflight_join(session);
	if (r) {
		charge_refund(&session->place);
		free(session);
		return r;
	}
	account_init(&session->account, &kind, "");
	set_limits(session);
	DL_APPEND(core->sessions, session);
	*ret_session = session;
	return 0;
}

struct session *session_free(struct session *session)
{
	struct core *core;

	if (!session)
		return NULL;
	core = session->core;
	while (session->subscriptions)
		subscription_free(session->subscriptions);
	while (session->patterns)
		pattern_free(session, session->patterns);
	account_deinit(&session->account);
	inflight_leave(session);
	action_drop(core, QUEUE_SESSION, &session->own);
	DL_DELETE(core->sessions, session);
	charge_refund(&session->place);
	free(session);
	return NULL;
}

void *session_user(const struct session *session)
{
	return session->user;
}

void session_take_files(struct session *session)
{
	struct subscription *subscription;

	session->takes_files = true;
	DL_FOREACH (session->subscriptions, subscription) {
		if (subscription->endpoint)
			subscription_update(subscription);
	}
}

static void session_disconnect(struct session *session, enum vmsig_error error)
{
	session->error = error;
	action_add(session->core, QUEUE_SESSION, &session->own, CORE_ACT_DISCONNECT);
}

/* ---- what it asks for ---- */

/* What the policy does not show any more goes as if the endpoint did. */
static void part_hidden(struct session *session)
{
	struct subscription *subscription, *next;

	DL_FOREACH_SAFE (session->subscriptions, subscription, next) {
		if (subscription->endpoint &&
			!tenant_sees(session->tenant, &subscription->endpoint->subject))
			subscription_part(subscription);
	}
}

static struct endpoint *first_unseen(const struct session *session)
{
	struct endpoint *oldest = session->core->ages, *endpoint = oldest ? oldest->prev : NULL;

	if (!endpoint || endpoint->born <= session->seen)
		return NULL;
	while (endpoint != oldest && endpoint->prev->born > session->seen)
		endpoint = endpoint->prev;
	return endpoint;
}

int session_catch_up(struct session *session)
{
	struct endpoint *endpoint;

	if (session->is_stale) {
		part_hidden(session);
		session->seen = 0;
		session->is_stale = false;
	}
	for (endpoint = first_unseen(session); endpoint; endpoint = endpoint->next) {
		if (pattern_count(session, endpoint->name) &&
			tenant_sees(session->tenant, &endpoint->subject) &&
			subscription_add(session, endpoint) < 0)
			return -ENOMEM;
		session->seen = endpoint->born;
	}
	return 0;
}

void session_announce(struct session *session)
{
	if (session->patterns)
		action_add(session->core, QUEUE_SESSION, &session->own, CORE_ACT_NOTIFY);
}

/* What is subscribed counts the pattern too, also what the policy took away and is still to be
 * told: each subscription knows how many ask for its name. */
static void count_pattern(struct session *session, const struct pattern *pattern)
{
	struct subscription *subscription;

	DL_FOREACH (session->subscriptions, subscription)
		subscription->asks += pattern_matches(pattern, subscription->name);
}

static void uncount_pattern(struct session *session, const struct pattern *pattern)
{
	struct subscription *subscription, *next;

	DL_FOREACH_SAFE (session->subscriptions, subscription, next) {
		if (pattern_matches(pattern, subscription->name) && !--subscription->asks)
			subscription_free(subscription);
	}
}

static bool is_subscribed(struct session *session, const struct endpoint *endpoint)
{
	const struct subscription *subscription = subscription_find(session, endpoint->id);

	return subscription && subscription->endpoint;
}

static int subscribe_matching(struct session *session, const struct pattern *pattern)
{
	struct endpoint *endpoint, *next;
	int r = 0;

	HASH_ITER (hh_name, session->core->names, endpoint, next) {
		if (!r && !is_subscribed(session, endpoint) &&
			pattern_matches(pattern, endpoint->name) &&
			tenant_sees(session->tenant, &endpoint->subject))
			r = subscription_add(session, endpoint);
	}
	return r;
}

static int subscribe_plain(struct session *session, const char *name)
{
	struct endpoint *endpoint = endpoint_by_name(session->core, name);

	if (!endpoint || !tenant_sees(session->tenant, &endpoint->subject))
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	return subscription_add(session, endpoint);
}

int session_subscribe(struct session *session, const char *text)
{
	size_t len = strlen(text);
	struct pattern *pattern;
	int r;

	if (!len || len > ENDPOINT_NAME_MAX || pattern_find(session, text))
		return VMSIG_ERR_BAD_REQUEST;
	r = session_catch_up(session);
	if (!r)
		r = pattern_new(&pattern, session, text);
	if (r)
		return r;
	count_pattern(session, pattern);
	r = pattern->is_glob ? subscribe_matching(session, pattern)
			     : subscribe_plain(session, text);
	if (r) {
		uncount_pattern(session, pattern);
		pattern_free(session, pattern);
	}
	return r;
}

int session_unsubscribe(struct session *session, const char *text)
{
	struct pattern *pattern = pattern_find(session, text);
	int r;

	if (!pattern)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	r = session_catch_up(session);
	if (r)
		return r;
	/* Another pattern may still ask for what this one did. */
	uncount_pattern(session, pattern);
	pattern_free(session, pattern);
	return 0;
}

void session_set_tenant(struct session *session, const struct tenant *tenant)
{
	struct subscription *subscription;

	session->tenant = tenant;
	session->is_stale = true;
	set_limits(session);
	DL_FOREACH (session->subscriptions, subscription) {
		if (!subscription->endpoint)
			continue;
		if (subscription_count_anew(subscription) < 0)
			session_disconnect(session, VMSIG_ERR_NO_MEMORY);
		/* The guard that it demands may be another one. */
		subscription_update(subscription);
	}
	session_announce(session);
}

void core_session_unsaid(struct session *session)
{
	session->inflight.unsaid = session->inflight.outstanding;
}

bool core_session_expects(const struct session *session)
{
	return session->due_context != NULL;
}

int core_session_taken(struct session *session)
{
	if (!session->inflight.outstanding)
		return VMSIG_ERR_PROTOCOL;
	inflight_end(session);
	if (session->due_context && session->inflight.line != LINE_WAITING)
		action_add(session->core, QUEUE_SESSION, &session->own, CORE_ACT_NOTIFY);
	return 0;
}
