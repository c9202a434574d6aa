/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a session asks for: names and globs. Names are found by hash; globs are few, by the
 * tenant's quota, because each costs a match for every endpoint that comes. A subscription
 * counts the patterns that ask for it, so that a pattern that goes costs one match for each
 * of them, whatever else the session has set up.
 */
#include "broker/read/state.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "proto/mishap.h"

static bool is_glob(const char *text)
{
	return strpbrk(text, "*?[\\") != NULL;
}

struct pattern *pattern_find(const struct session *session, const char *text)
{
	struct pattern *pattern = NULL;

	HASH_FIND_STR(session->patterns, text, pattern);
	return pattern;
}

static int charge(struct pattern *pattern, struct session *session)
{
	const struct account_actor actor = {.tenant = session->tenant->name, .uid = session->uid};
	struct account_refusal *refusal = &session->core->refusal;
	int r = charge_take(&pattern->one, &session->account, SESSION_PATTERNS, 1, &actor, refusal);

	if (!r && pattern->is_glob)
		r = charge_take(
			&pattern->glob, &session->account, SESSION_GLOBS, 1, &actor, refusal);
	return r;
}

static void pattern_dispose(struct pattern *pattern)
{
	charge_refund(&pattern->one);
	charge_refund(&pattern->glob);
	free(pattern);
}

int pattern_new(struct pattern **ret_pattern, struct session *session, const char *text)
{
	size_t len = strlen(text);
	struct pattern *pattern =
		MISHAP("pattern-memory") ? NULL : calloc(1, sizeof(*pattern) + len + 1);
	int r;

	if (!pattern)
		return -ENOMEM;
	memcpy(pattern->text, text, len + 1);
	pattern->is_glob = is_glob(text);
	r = charge(pattern, session);
	if (!r) {
		HASH_ADD_STR(session->patterns, text, pattern);
		r = pattern->hh.tbl ? 0 : -ENOMEM;
	}
	if (r) {
		pattern_dispose(pattern);
		return r;
	}
	if (pattern->is_glob)
		DL_APPEND(session->globs, pattern);
	*ret_pattern = pattern;
	return 0;
}

void pattern_free(struct session *session, struct pattern *pattern)
{
	if (pattern->is_glob)
		DL_DELETE(session->globs, pattern);
	HASH_DEL(session->patterns, pattern);
	pattern_dispose(pattern);
}

bool pattern_matches(const struct pattern *pattern, const char *name)
{
	return pattern->is_glob ? fnmatch(pattern->text, name, 0) == 0
				: strcmp(pattern->text, name) == 0;
}

uint32_t pattern_count(const struct session *session, const char *name)
{
	const struct pattern *pattern;
	uint32_t count = pattern_find(session, name) ? 1 : 0;

	DL_FOREACH (session->globs, pattern)
		count += pattern_matches(pattern, name);
	return count;
}
