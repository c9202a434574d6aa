/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/read/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int session_new(struct session **ret_session, struct core *core, const struct tenant *tenant,
	uint32_t uid, void *user)
{
	struct session *session;

	if (core->nsessions >= core->limits.sessions)
		return VMSIG_ERR_QUOTA;
	session = calloc(1, sizeof(*session));
	if (!session)
		return -ENOMEM;
	session->core = core;
	session->tenant = tenant;
	session->uid = uid;
	session->user = user;
	session->own.session = session;
	session->seen = core->births;
	DL_APPEND(core->sessions, session);
	core->nsessions++;
	*ret_session = session;
	return 0;
}

/* ---- the line for contexts in flight ---- */

static bool has_room(const struct core *core)
{
	return core->inflight + core->nturns < core->limits.inflight;
}

void session_give_turns(struct core *core)
{
	struct session *session;

	while ((session = core->waiting) && has_room(core)) {
		DL_DELETE2(core->waiting, session, line_prev, line_next);
		DL_APPEND2(core->turns, session, line_prev, line_next);
		core->nturns++;
		session->line = LINE_TURN;
		session->turn_by_ns = core->now_ns + TURN_NS;
		action_add(core, QUEUE_SESSION, &session->own, CORE_ACT_NOTIFY);
	}
}

void session_leave_line(struct session *session)
{
	struct core *core = session->core;

	if (session->line == LINE_WAITING) {
		DL_DELETE2(core->waiting, session, line_prev, line_next);
	} else if (session->line == LINE_TURN) {
		DL_DELETE2(core->turns, session, line_prev, line_next);
		core->nturns--;
	}
	session->line = LINE_OUT;
}

void session_end_turns(struct core *core, uint64_t now_ns)
{
	struct session *session;

	/* Without anybody behind it a turn may last. */
	while (core->waiting && (session = core->turns) && session->turn_by_ns <= now_ns) {
		session_leave_line(session);
		session_give_turns(core);
	}
}

bool session_may_carry(struct session *session)
{
	struct core *core = session->core;

	if (session->outstanding || session->line == LINE_WAITING)
		return false;
	if (session->line == LINE_TURN) {
		session_leave_line(session);
		return true;
	}
	if (has_room(core))
		return true;
	session->line = LINE_WAITING;
	DL_APPEND2(core->waiting, session, line_prev, line_next);
	return false;
}

void session_release_inflight(struct session *session)
{
	struct core *core = session->core;

	if (!session->outstanding)
		return;
	session->outstanding = false;
	core->inflight--;
	if (!session->overdue)
		DL_DELETE2(core->outstanding, session, out_prev, out_next);
	session->overdue = false;
	session_give_turns(core);
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
	session_leave_line(session);
	session_release_inflight(session);
	session_give_turns(core);
	action_drop(core, QUEUE_SESSION, &session->own);
	DL_DELETE(core->sessions, session);
	core->nsessions--;
	free(session);
	return NULL;
}

void *session_user(const struct session *session)
{
	return session->user;
}

void session_disconnect(struct session *session, enum vmsig_error error)
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
		if (subscription->endpoint && !tenant_sees(session->tenant, subscription->name))
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
			tenant_sees(session->tenant, endpoint->name) &&
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
			tenant_sees(session->tenant, endpoint->name))
			r = subscription_add(session, endpoint);
	}
	return r;
}

static int subscribe_plain(struct session *session, const char *name)
{
	struct endpoint *endpoint = endpoint_by_name(session->core, name);

	if (!endpoint || !tenant_sees(session->tenant, name))
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

int core_session_taken(struct session *session)
{
	if (!session->outstanding)
		return VMSIG_ERR_PROTOCOL;
	session_release_inflight(session);
	if (session->due_context && session->line != LINE_WAITING)
		action_add(session->core, QUEUE_SESSION, &session->own, CORE_ACT_NOTIFY);
	return 0;
}
