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

bool session_matches(const struct session *session, const char *endpoint_name)
{
	struct pattern *pattern;

	if (!tenant_sees(session->tenant, endpoint_name))
		return false;
	DL_FOREACH (session->patterns, pattern) {
		if (pattern_matches(pattern, endpoint_name))
			return true;
	}
	return false;
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

void session_wake_waiting(struct core *core)
{
	struct session *session = core->waiting;

	if (!session || core->inflight >= core->limits.inflight)
		return;
	DL_DELETE2(core->waiting, session, wait_prev, wait_next);
	session->waiting = false;
	action_add(core, QUEUE_SESSION, &session->own, CORE_ACT_NOTIFY);
}

void session_release_inflight(struct session *session)
{
	struct core *core = session->core;

	if (!session->outstanding)
		return;
	session->outstanding = false;
	core->inflight--;
	DL_DELETE2(core->outstanding, session, out_prev, out_next);
	session_wake_waiting(core);
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
	if (session->waiting) {
		DL_DELETE2(core->waiting, session, wait_prev, wait_next);
		session->waiting = false;
	}
	session_release_inflight(session);
	/* A turn that was given to this session and not used goes to the next one. */
	session_wake_waiting(core);
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

/* Subscribes to whatever matches now. On failure what was added is taken back. */
static int subscribe_matching(struct session *session, const struct pattern *pattern)
{
	struct endpoint *endpoint, *next;
	struct subscription *added, *last = NULL;
	int r;

	if (session->subscriptions)
		last = session->subscriptions->prev;
	HASH_ITER (hh_name, session->core->names, endpoint, next) {
		if (!tenant_sees(session->tenant, endpoint->name) ||
			!pattern_matches(pattern, endpoint->name))
			continue;
		r = subscription_add(session, endpoint);
		if (r == 0)
			continue;
		while ((added = last ? last->next : session->subscriptions))
			subscription_free(added);
		return r;
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
	struct subscription *subscription, *next;

	if (!pattern)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	pattern_free(session, pattern);
	/* Another pattern may still cover what this one did. */
	DL_FOREACH_SAFE (session->subscriptions, subscription, next) {
		if (!session_matches(session, subscription->name))
			subscription_free(subscription);
	}
	return 0;
}

void session_set_tenant(struct session *session, const struct tenant *tenant)
{
	struct subscription *subscription, *next;
	struct endpoint *endpoint, *next_endpoint;

	session->tenant = tenant;
	DL_FOREACH_SAFE (session->subscriptions, subscription, next) {
		if (subscription->endpoint && !tenant_sees(tenant, subscription->name))
			subscription_part(subscription);
		else
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
	if (session->due_context && !session->waiting)
		action_add(session->core, QUEUE_SESSION, &session->own, CORE_ACT_NOTIFY);
	return 0;
}
