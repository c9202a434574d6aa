/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/error_text.h"
#include "broker/log.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_memctx.h"

struct site *site_find(const struct desk *desk, uint32_t id)
{
	struct site *site = NULL;

	HASH_FIND(hh, desk->sites, &id, sizeof(id), site);
	return site;
}

int desk_endpoint_add(struct desk *desk, uint32_t endpoint, const char *name)
{
	struct site *site = site_find(desk, endpoint);

	if (site) {
		site->gone = false;
		return 0;
	}
	site = calloc(1, sizeof(*site));
	if (!site)
		return -ENOMEM;
	site->id = endpoint;
	snprintf(site->name, sizeof(site->name), "%s", name);
	HASH_ADD(hh, desk->sites, id, sizeof(site->id), site);
	if (!site->hh.tbl) {
		free(site);
		return -ENOMEM;
	}
	return 0;
}

void desk_endpoint_remove(struct desk *desk, uint32_t endpoint)
{
	struct site *site = site_find(desk, endpoint);

	if (!site)
		return;
	site->target = memwrite_target_free(site->target);
	site->gone = true;
}

const char *desk_endpoint_name(struct desk *desk, uint32_t endpoint)
{
	const struct site *site = site_find(desk, endpoint);

	return site ? site->name : NULL;
}

const vmsig_memwrite_reg *site_reg(const struct site *site, const struct desk *desk)
{
	return core_endpoint_memwrite(desk->env.core, site->id);
}

static int target_open(
	struct site *site, struct desk *desk, const vmsig_memwrite_reg *reg, vmsig_coherence *page)
{
	const vmsig_memseg *segs;
	vmsig_memctx pod;
	uint32_t nseg;
	int fd, r = core_endpoint_describe(desk->env.core, site->id, &pod, &segs, &nseg);

	if (r)
		return r;
	fd = reg->share_writable(reg->ctx);
	if (fd < 0)
		return fd;
	r = memwrite_target_new(&site->target, fd, segs, nseg, pod.low, pod.kcr3,
		pod.flags & VMSIG_MEMCTX_LA57 ? 5 : 4, page);
	close(fd);
	return r;
}

void desk_endpoint_ready(
	struct desk *desk, uint32_t endpoint, uint32_t epoch, vmsig_coherence *page)
{
	const vmsig_memwrite_reg *reg = core_endpoint_memwrite(desk->env.core, endpoint);
	struct site *site = site_find(desk, endpoint);
	int r;

	if (!reg || !site || desk->closing)
		return;
	site->target = memwrite_target_free(site->target);
	site->epoch = epoch;
	r = target_open(site, desk, reg, page);
	if (!r)
		r = lease_endpoint_ready(desk->engine, desk_now(), endpoint, epoch);
	if (r)
		log_error("the endpoint cannot be written to", LOG_STR("endpoint", site->name),
			LOG_STR("error", error_text(r)));
}

void desk_endpoint_over(struct desk *desk, uint32_t endpoint)
{
	struct site *site = site_find(desk, endpoint);

	if (site)
		site->target = memwrite_target_free(site->target);
	lease_endpoint_down(desk->engine, desk_now(), endpoint, VMSIG_ERR_STALE_EPOCH);
}

struct site *site_free(struct desk *desk, struct site *site)
{
	HASH_DEL(desk->sites, site);
	memwrite_target_free(site->target);
	free(site);
	return NULL;
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

void sites_forget(struct desk *desk)
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
