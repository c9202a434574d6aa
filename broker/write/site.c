/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/site.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/write/command_object.h"
#include "broker/write/operator.h"
#include "proto/mishap.h"

struct site *site_find(const struct desk *desk, uint32_t id)
{
	struct site *site = NULL;

	HASH_FIND(hh, desk->sites, &id, sizeof(id), site);
	return site;
}

static void check(struct desk *desk, const struct site *site, const struct lease_view *lease)
{
	if (!operator_allows(desk, lease, &site->subject))
		(void)!lease_revoke(desk->engine, desk->now_ns, lease->id, VMSIG_ERR_LEASE_REVOKED);
}

/* Leases survive a restart, and so does what the policy has taken away meanwhile: whose endpoint
 * is known can be held against it. */
static void check_restored(struct desk *desk, const struct site *site)
{
	struct lease_view lease;
	uint64_t cursor = 0;

	while (desk->restored && lease_next(desk->engine, &cursor, &lease)) {
		if (lease.endpoint != site->id)
			continue;
		desk->restored--;
		check(desk, site, &lease);
	}
}

void sites_doubt(struct desk *desk)
{
	for (struct site *site = desk->sites; site; site = site->hh.next)
		site->doubted |= site->away;
}

/* The guest stays after all, and the policy may have changed while it was away. */
static void check_doubted(struct desk *desk, struct site *site)
{
	struct lease_view lease;
	uint64_t cursor = 0;

	while (site->doubted && lease_next(desk->engine, &cursor, &lease)) {
		if (lease.endpoint == site->id)
			check(desk, site, &lease);
	}
	site->doubted = false;
}

static void site_release(struct site *site)
{
	selector_labels_free(site->labels, site->subject.nlabels);
	free(site);
}

/* It may come back with other labels. */
static int site_label(struct site *site, const struct selector_subject *subject)
{
	char **labels;
	int r = selector_labels_copy(&labels, subject->labels, subject->nlabels);

	if (r)
		return r;
	selector_labels_free(site->labels, site->subject.nlabels);
	site->labels = labels;
	site->subject = (struct selector_subject){
		.name = site->name, .labels = labels, .nlabels = subject->nlabels};
	return 0;
}

int desk_endpoint_add(struct desk *desk, uint32_t endpoint, const struct selector_subject *subject)
{
	struct site *site = site_find(desk, endpoint);
	int r;

	/* Its labels may be others than those that somebody was judged by. */
	desk->policy++;
	if (site) {
		r = site_label(site, subject);
		site->gone &= r != 0;
		return r;
	}
	site = MISHAP("site-memory") ? NULL : calloc(1, sizeof(*site));
	if (!site)
		return -ENOMEM;
	site->id = endpoint;
	snprintf(site->name, sizeof(site->name), "%s", subject->name);
	if (site_label(site, subject)) {
		free(site);
		return -ENOMEM;
	}
	HASH_ADD(hh, desk->sites, id, sizeof(site->id), site);
	if (!site->hh.tbl) {
		site_release(site);
		return -ENOMEM;
	}
	check_restored(desk, site);
	return 0;
}

static void target_close(struct desk *desk, struct site *site)
{
	if (site->target)
		desk->env.ops.guests->close(desk->env.ops.ctx, site->target);
	site->target = NULL;
}

void desk_endpoint_remove(struct desk *desk, uint32_t endpoint)
{
	struct site *site = site_find(desk, endpoint);

	if (!site)
		return;
	target_close(desk, site);
	site->gone = true;
}

const struct selector_subject *desk_endpoint_subject(struct desk *desk, uint32_t endpoint)
{
	const struct site *site = site_find(desk, endpoint);

	return site ? &site->subject : NULL;
}

void desk_endpoint_stats(
	struct desk *desk, uint32_t endpoint, struct desk_endpoint_stats *ret_stats)
{
	const struct site *site = site_find(desk, endpoint);

	*ret_stats = site ? site->stats : (struct desk_endpoint_stats){0};
}

const char *desk_endpoint_name(struct desk *desk, uint32_t endpoint)
{
	const struct site *site = site_find(desk, endpoint);

	return site ? site->name : NULL;
}

int site_check(const struct desk *desk, const struct site *site, const char **ret_why)
{
	const struct desk_ops *ops = &desk->env.ops;

	if (!site || !site->target)
		return VMSIG_ERR_NOT_READY;
	return ops->guests->may_write(ops->ctx, site->id, ret_why);
}

/* One that has no write path is none of ours. */
void desk_endpoint_ready(struct desk *desk, uint64_t now_ns, uint32_t endpoint, uint32_t epoch,
	vmsig_coherence *page)
{
	const struct desk_ops *ops = &desk->env.ops;
	struct site *site = site_find(desk, endpoint);
	bool away;
	int r;

	desk_enter(desk, now_ns);
	if (!site || desk->closing)
		return;
	target_close(desk, site);
	away = site->away;
	site->epoch = epoch;
	site->away = false;
	site->host[0] = '\0';
	r = ops->guests->open(ops->ctx, endpoint, page, &site->target);
	if (r == VMSIG_ERR_NOT_READY)
		return;
	if (!r)
		r = lease_endpoint_ready(desk->engine, desk->now_ns, endpoint, epoch);
	if (!r)
		check_doubted(desk, site);
	else if (away)
		/* What has waited for it would wait for ever. */
		lease_endpoint_down(desk->engine, desk->now_ns, endpoint, VMSIG_ERR_NO_WRITE_PATH);
	if (r)
		desk_log(desk, DESK_LOG_ERROR, "the endpoint cannot be written to",
			FACT_TEXT("endpoint", site->name), FACT_TEXT("error", error_text(r)));
}

void desk_endpoint_over(struct desk *desk, uint64_t now_ns, uint32_t endpoint)
{
	struct site *site = site_find(desk, endpoint);

	desk_enter(desk, now_ns);
	if (site) {
		target_close(desk, site);
		site->away = false;
	}
	lease_endpoint_down(desk->engine, desk->now_ns, endpoint, VMSIG_ERR_STALE_EPOCH);
}

void desk_endpoint_leave(struct desk *desk, uint64_t now_ns, uint32_t endpoint)
{
	struct site *site = site_find(desk, endpoint);

	desk_enter(desk, now_ns);
	if (!site)
		return;
	target_close(desk, site);
	site->away = true;
	lease_endpoint_away(desk->engine, endpoint);
}

void desk_endpoint_moved(struct desk *desk, uint64_t now_ns, uint32_t endpoint, const char *host)
{
	struct site *site = site_find(desk, endpoint);

	desk_enter(desk, now_ns);
	if (site) {
		target_close(desk, site);
		site->away = false;
		snprintf(site->host, sizeof(site->host), "%s", host);
	}
	lease_endpoint_down(desk->engine, desk->now_ns, endpoint, VMSIG_ERR_MOVED);
}

const char *desk_endpoint_host(struct desk *desk, uint32_t endpoint)
{
	const struct site *site = site_find(desk, endpoint);

	return site ? site->host : "";
}

static void site_free(struct desk *desk, struct site *site)
{
	HASH_DEL(desk->sites, site);
	target_close(desk, site);
	site_release(site);
}

void sites_free(struct desk *desk)
{
	struct site *site, *next;

	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, desk->sites, site, next)
		site_free(desk, site);
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
}

/* ---- those that are gone ---- */

static void mark_used(struct desk *desk)
{
	struct command *command;
	struct lease_view lease;
	uint64_t cursor = 0;

	DL_FOREACH2 (desk->all, command, all_next) {
		if (command->site)
			command->site->used = true;
	}
	while (lease_next(desk->engine, &cursor, &lease)) {
		struct site *site = site_find(desk, lease.endpoint);

		if (site)
			site->used = true;
	}
}

void desk_forget(struct desk *desk)
{
	struct site *site, *next;
	bool any = false;

	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, desk->sites, site, next) {
		any |= site->gone;
		site->used = false;
	}
	/* What a lease's end has to say is said with the endpoint's name. */
	if (!any || lease_has_actions(desk->engine))
		return;
	mark_used(desk);
	HASH_ITER (hh, desk->sites, site, next) {
		if (!site->gone || site->used)
			continue;
		lease_endpoint_forget(desk->engine, site->id);
		site_free(desk, site);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
}
