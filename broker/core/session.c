/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/core/state.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static bool is_glob(const char *pattern)
{
	return strpbrk(pattern, "*?[\\") != NULL;
}

static bool pattern_matches(const struct pattern *pattern, const char *name)
{
	return fnmatch(pattern->text, name, 0) == 0;
}

static bool is_asked_for(const struct session *session, const char *endpoint_name)
{
	struct pattern *pattern;

	DL_FOREACH (session->patterns, pattern) {
		if (pattern_matches(pattern, endpoint_name))
			return true;
	}
	return false;
}

bool session_matches(const struct session *session, const char *endpoint_name)
{
	return tenant_sees(session->tenant, endpoint_name) && is_asked_for(session, endpoint_name);
}

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
	DL_APPEND(core->sessions, session);
	core->nsessions++;
	*ret_session = session;
	return 0;
}

static void pattern_free(struct session *session, struct pattern *pattern)
{
	DL_DELETE(session->patterns, pattern);
	session->npatterns--;
	free(pattern);
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

/* Drops what no pattern asks for any more; what the policy took away is still to be told. */
static void subscriptions_prune(struct session *session)
{
	struct subscription *subscription, *next;

	DL_FOREACH_SAFE (session->subscriptions, subscription, next) {
		if (!is_asked_for(session, subscription->name))
			subscription_free(subscription);
	}
}

/* Subscribes to whatever matches now. On failure what was added is taken back. */
static int subscribe_matching(struct session *session, const struct pattern *pattern)
{
	struct endpoint *endpoint, *next;
	int r;

	HASH_ITER (hh_name, session->core->names, endpoint, next) {
		if (!tenant_sees(session->tenant, endpoint->name) ||
			!pattern_matches(pattern, endpoint->name))
			continue;
		r = subscription_add(session, endpoint);
		if (r) {
			subscriptions_prune(session);
			return r;
		}
	}
	return 0;
}

static struct pattern *pattern_find(const struct session *session, const char *text)
{
	struct pattern *pattern;

	DL_FOREACH (session->patterns, pattern) {
		if (strcmp(pattern->text, text) == 0)
			return pattern;
	}
	return NULL;
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
	if (session->npatterns >= session->tenant->quota.subscriptions)
		return VMSIG_ERR_QUOTA;
	pattern = calloc(1, sizeof(*pattern) + len + 1);
	if (!pattern)
		return -ENOMEM;
	memcpy(pattern->text, text, len + 1);
	r = is_glob(text) ? subscribe_matching(session, pattern) : subscribe_plain(session, text);
	if (r) {
		free(pattern);
		return r;
	}
	DL_APPEND(session->patterns, pattern);
	session->npatterns++;
	return 0;
}

int session_unsubscribe(struct session *session, const char *text)
{
	struct pattern *pattern = pattern_find(session, text);

	if (!pattern)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	pattern_free(session, pattern);
	/* Another pattern may still cover what this one did. */
	subscriptions_prune(session);
	return 0;
}

void session_set_tenant(struct session *session, const struct tenant *tenant)
{
	struct subscription *subscription, *next;
	struct endpoint *endpoint, *next_endpoint;

	session->tenant = tenant;
	DL_FOREACH_SAFE (session->subscriptions, subscription, next) {
		if (!subscription->endpoint)
			continue;
		if (!tenant_sees(tenant, subscription->name)) {
			subscription_part(subscription);
			continue;
		}
		if (subscription_count_anew(subscription) < 0)
			session_disconnect(session, VMSIG_ERR_NO_MEMORY);
		subscription_update(subscription);
	}
	HASH_ITER (hh_name, session->core->names, endpoint, next_endpoint) {
		if (session_matches(session, endpoint->name) &&
			subscription_add(session, endpoint) < 0)
			session_disconnect(session, VMSIG_ERR_NO_MEMORY);
	}
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
