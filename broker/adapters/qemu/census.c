/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/census.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "broker/error_text.h"
#include "broker/log.h"
#include "broker/policy/share.h"

#define INTERVIEWS_MAX 32u /* asked at a time; those who say nothing do not count */
#define TOGETHER_MS 100u   /* who is due within it is asked together */

static uint64_t now(const struct census *census)
{
	return uv_now(census->loop);
}

/* ---- one of them ---- */

static void on_interview_closed(void *arg, struct interview *interview)
{
	struct census *census = arg;

	share_unref(interview->link.share);
	free(interview);
	census->open--;
	census->closed(census->arg);
}

static void stop(struct census_one *one)
{
	struct census *census = one->census;
	struct interview *interview = one->interview;

	if (!interview)
		return;
	if (!one->waits)
		census->asking--;
	one->interview = NULL;
	one->waits = false;
	interview->link.path = "";
	interview->arg = census;
	interview_end(interview);
}

static void unqueue(struct census_one *one)
{
	if (one->queued)
		DL_DELETE(one->census->queue, one);
	one->queued = false;
}

void census_one_free(struct census_one *one)
{
	unqueue(one);
	stop(one);
	if (one->fd >= 0)
		close(one->fd);
	free(one->why);
	free(one->path);
	free(one);
}

struct census_one *census_one_new(struct census *census, char *path, int fd)
{
	struct census_one *one = calloc(1, sizeof(*one));

	if (!one)
		return NULL;
	one->census = census;
	one->path = path;
	one->file = strrchr(path, '/') + 1;
	one->fd = fd;
	one->due_ms = CENSUS_NEVER;
	one->backoff_ms = census->config->endpoint.retry_ms;
	return one;
}

/* ---- asking ---- */

static void set_why(struct census_one *one, const char *why)
{
	free(one->why);
	one->why = why ? strdup(why) : NULL;
}

static void ask_later(struct census_one *one)
{
	const struct config_endpoint *limits = &one->census->config->endpoint;
	struct census *census = one->census;

	one->due_ms = now(census) + one->backoff_ms;
	one->backoff_ms = one->backoff_ms < limits->retry_max_ms / 2 ? 2 * one->backoff_ms
								     : limits->retry_max_ms;
	if (one->due_ms < census->due_ms)
		census->due_ms = one->due_ms;
	census->soon(census->arg);
}

static void tell_trouble(struct census_one *one, const char *why)
{
	if (!one->told)
		log_warning("the QEMU at a QMP socket does not say what it is called, and is not "
			    "served; it is asked again",
			LOG_STR("qmp", one->path), LOG_STR("reason", why));
	one->told = true;
	set_why(one, why);
}

static void on_answered(struct census_one *one, const struct interview *interview)
{
	bool same = one->known && strcmp(one->name, interview->name) == 0 &&
		    strcmp(one->uuid, interview->uuid) == 0;

	set_why(one, NULL);
	one->told = false;
	one->known = true;
	one->backoff_ms = one->census->config->endpoint.retry_ms;
	snprintf(one->name, sizeof(one->name), "%s", interview->name);
	snprintf(one->uuid, sizeof(one->uuid), "%s", interview->uuid);
	if (!same)
		one->census->changed(one->census->arg);
}

static void on_done(void *arg, struct interview *interview, const char *why)
{
	struct census_one *one = arg;
	struct census *census = one->census;

	if (!why) {
		on_answered(one, interview);
	} else {
		tell_trouble(one, why);
		if (one->known)
			census->changed(census->arg);
		one->known = false;
		ask_later(one);
	}
	stop(one);
	census_go_on(census);
}

static void on_waits(void *arg, struct interview *interview, const char *why)
{
	struct census_one *one = arg;

	if (!one->known)
		tell_trouble(one, why);
	if (one->waits)
		return;
	one->waits = true;
	one->census->asking--;
	census_go_on(one->census);
}

/* Takes over nothing; `place` is a descriptor of its own. */
static int ask_at(struct census_one *one, int place)
{
	struct census *census = one->census;
	struct interview *interview = calloc(1, sizeof(*interview));
	struct interview_wanted wanted = {.loop = census->loop,
		.path = one->path,
		.timeout_ms = census->config->endpoint.qmp_timeout_ms};
	int r = interview ? share_get(census->shares, SHARE_QEMU, one->file, &wanted.share)
			  : -ENOMEM;

	if (r) {
		close(place);
		free(interview);
		return r;
	}
	interview->done = on_done;
	interview->waits = on_waits;
	interview->closed = on_interview_closed;
	interview->arg = one;
	r = interview_start(interview, &wanted, place);
	if (r) {
		share_unref(wanted.share);
		free(interview);
		return r;
	}
	one->interview = interview;
	census->asking++;
	census->open++;
	return 0;
}

static void ask(struct census_one *one)
{
	int place = fcntl(one->fd, F_DUPFD_CLOEXEC, 0), r = place < 0 ? -errno : ask_at(one, place);

	if (!r)
		return;
	tell_trouble(one, error_text(r));
	ask_later(one);
}

void census_go_on(struct census *census)
{
	while (census->queue && census->asking < INTERVIEWS_MAX) {
		struct census_one *one = census->queue;

		unqueue(one);
		ask(one);
	}
}

void census_ask(struct census_one *one)
{
	if (one->queued || one->interview)
		return;
	one->due_ms = CENSUS_NEVER;
	one->queued = true;
	DL_APPEND(one->census->queue, one);
}

void census_take(struct census *census, struct census_one *const *all, size_t n)
{
	uint64_t next = CENSUS_NEVER;

	for (size_t i = 0; i < n; i++) {
		struct census_one *one = all[i];

		if (one->due_ms <= now(census))
			census_ask(one);
		else if (one->due_ms < next)
			next = one->due_ms;
	}
	/* Together, so that many cost no more looks than few. */
	census->due_ms = next == CENSUS_NEVER || next > now(census) + TOGETHER_MS
				 ? next
				 : now(census) + TOGETHER_MS;
	census_go_on(census);
}

void census_leave(struct census_one *one)
{
	unqueue(one);
	stop(one);
}

bool census_is_busy(const struct census *census)
{
	return census->asking || census->queue;
}
