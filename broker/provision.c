/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/provision.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "broker/adapters/provider/offer.h"
#include "broker/config/scalar.h"
#include "broker/endpoints.h"
#include "broker/log.h"
#include "broker/net/closer.h"
#include "proto/guest/pgwalk.h"
#include "vmsig/vmsig_error.h"

#define PAGE_SIZE 4096u
#define FOUR_GIB (1ull << 32)

#define ENDS_STILL "the guest that had this name before still ends; ask again in a moment"

struct provision {
	struct provisions *set;
	struct offer *offer;   /* a reference */
	struct config *config; /* likewise; of the one endpoint */
	char tenant[IDENTITY_NAME_MAX + 1];
	struct steward_provider *who; /* NULL: away */
	uint64_t request_id;          /* to be answered when its files were looked at; 0: none */
	bool resumed;
	uint64_t until_ms; /* of the loop's clock: how long it is waited for, who is away */
	struct provision *prev, *next;
};

struct provisions {
	struct endpoints *endpoints;
	struct closer *closer;
	const struct config *settings;
	struct provision *list; /* a limited number for each tenant that may provide at all */
	uv_timer_t timer;       /* for the next that is waited for no longer */
	bool closed;
};

static struct provision *find(const struct provisions *provisions, const char *name)
{
	struct provision *provision;

	DL_FOREACH (provisions->list, provision) {
		if (strcmp(provision->config->endpoints->name, name) == 0)
			return provision;
	}
	return NULL;
}

struct offer *provisions_offer(const struct provisions *provisions, const char *name)
{
	const struct provision *provision = find(provisions, name);

	return provision ? provision->offer : NULL;
}

static void answer(struct provision *provision, int error, const char *why)
{
	uint64_t request_id = provision->request_id;
	struct steward_provider *who = provision->who;

	provision->request_id = 0;
	if (request_id && who)
		who->answer(who, request_id, provision->config->endpoints->name, error, why,
			provision->resumed);
}

/* The adapter has its own reference until it has stopped. */
static void end(struct provision *provision, int error, const char *why)
{
	struct provisions *set = provision->set;
	const struct config_endpoint *endpoint = provision->config->endpoints;

	log_info("a provided endpoint ends", LOG_STR("endpoint", endpoint->name),
		LOG_STR("tenant", provision->tenant), LOG_STR("why", why));
	DL_DELETE(set->list, provision);
	provision->offer->opened = NULL;
	endpoints_lose(set->endpoints, provision->config);
	answer(provision, error, why);
	offer_unref(provision->offer);
	config_unref(provision->config);
	free(provision);
}

static void on_opened(void *ctx, int error, const char *why)
{
	struct provision *provision = ctx;

	if (error)
		end(provision, error > 0 ? error : VMSIG_ERR_BAD_REQUEST, why);
	else
		answer(provision, 0, NULL);
}

/* ---- who is away ---- */

static void arm(struct provisions *provisions);

static void on_timer(uv_timer_t *timer)
{
	struct provisions *provisions = timer->data;
	uint64_t now = uv_now(timer->loop);
	struct provision *provision, *next;

	DL_FOREACH_SAFE (provisions->list, provision, next) {
		if (!provision->who && provision->until_ms <= now)
			end(provision, VMSIG_ERR_TIMEOUT, "its provider did not come back");
	}
	arm(provisions);
}

static void arm(struct provisions *provisions)
{
	uint64_t now = uv_now(provisions->timer.loop), first = UINT64_MAX;
	const struct provision *provision;

	DL_FOREACH (provisions->list, provision) {
		if (!provision->who && provision->until_ms < first)
			first = provision->until_ms;
	}
	if (first != UINT64_MAX && !provisions->closed)
		(void)uv_timer_start(
			&provisions->timer, on_timer, first > now ? first - now : 0, 0);
}

static void go_away(struct provision *provision)
{
	struct provisions *set = provision->set;
	struct offer *offer = provision->offer;

	provision->who = NULL;
	provision->request_id = 0;
	provision->until_ms = uv_now(set->timer.loop) + set->settings->provider_grace_ms;
	if (offer->guest)
		offer->guest->away(offer->guest_ctx);
}

void provisions_leave(
	struct provisions *provisions, const struct steward_provider *who, bool may_come_back)
{
	struct provision *provision, *next;

	DL_FOREACH_SAFE (provisions->list, provision, next) {
		if (provision->who != who)
			continue;
		if (may_come_back && provisions->settings->provider_grace_ms) {
			go_away(provision);
			continue;
		}
		provision->who = NULL;
		end(provision, VMSIG_ERR_DISCONNECTED, "its provider's connection ended");
	}
	arm(provisions);
}

static int come_back(struct provision *provision, const struct offer *offer,
	struct steward_provider *who, uint64_t request_id, const char **ret_why)
{
	struct offer *own = provision->offer;

	if (!offer_is_same_ram(own, offer) || own->config.kcr3 != offer->config.kcr3 ||
		own->config.levels != offer->config.levels) {
		end(provision, VMSIG_ERR_BUSY, "its provider came back with another guest");
		*ret_why = ENDS_STILL;
		return VMSIG_ERR_BUSY;
	}
	provision->who = who;
	provision->request_id = request_id;
	provision->resumed = true;
	if (own->guest)
		own->guest->back(own->guest_ctx);
	/* Else it is told when its files were looked at. */
	if (!own->opened)
		answer(provision, 0, NULL);
	return 0;
}

/* ---- one that is asked for ---- */

static int check_kernel(const struct steward_kernel *kernel, const char **ret_why)
{
	if (!kernel->levels && !kernel->kcr3)
		return 0;
	*ret_why = "'kcr3' is a page's address below 2^52, with 4 or 5 'levels'; without both of "
		   "them the kernel is found";
	return (kernel->levels == 4 || kernel->levels == 5) && kernel->kcr3 >= PAGE_SIZE &&
			       !(kernel->kcr3 & ~PGWALK_ADDR_MASK)
		       ? 0
		       : VMSIG_ERR_BAD_REQUEST;
}

/* Whether the segments fit each other and the files is found by the job that sees those. */
static int check_layout(const struct steward_wish *wish, const char **ret_why)
{
	*ret_why = "RAM's layout is given by 'low', 4 KiB to 4 GiB, or by segments";
	if (!wish->nseg)
		return wish->low >= PAGE_SIZE && wish->low <= FOUR_GIB ? 0 : VMSIG_ERR_BAD_REQUEST;
	return wish->low ? VMSIG_ERR_BAD_REQUEST : 0;
}

static int check_right(const struct steward_wish *wish, const char **ret_why)
{
	const struct selector_subject subject = {.name = wish->kernel.name};

	*ret_why = "a name is 1 to 63 of [A-Za-z0-9._-], first a letter or a digit";
	if (!scalar_is_name(subject.name))
		return VMSIG_ERR_BAD_REQUEST;
	*ret_why = "the policy does not let this provider provide an endpoint of this name";
	return tenant_sees(wish->tenant, &subject) ? 0 : VMSIG_ERR_FORBIDDEN;
}

static int check_room(
	const struct provisions *provisions, const struct steward_wish *wish, const char **ret_why)
{
	const struct provision *provision;
	uint32_t used = 0;

	DL_FOREACH (provisions->list, provision)
		used += strcmp(provision->tenant, wish->tenant->name) == 0;
	*ret_why = "the tenant provides as many endpoints as limits.provided allows; end one first";
	return used < provisions->settings->provided ? 0 : VMSIG_ERR_QUOTA;
}

static int check(
	const struct provisions *provisions, const struct steward_wish *wish, const char **ret_why)
{
	int r = check_right(wish, ret_why);

	if (!r)
		r = check_kernel(&wish->kernel, ret_why);
	if (!r)
		r = check_layout(wish, ret_why);
	if (!r && (!wish->nfds || wish->nfds > OFFER_FILES_MAX)) {
		*ret_why = "no descriptor of RAM came with it; send 1 to 16, or, after one that "
			   "was no memory, wait 2 s until this uid's are taken again";
		r = VMSIG_ERR_BAD_REQUEST;
	}
	if (!r && provisions->closed)
		r = VMSIG_ERR_SHUTTING_DOWN;
	return r;
}

static const char *why_not(int r)
{
	if (r == VMSIG_ERR_BUSY)
		return "the name is taken, or " ENDS_STILL;
	if (r == VMSIG_ERR_QUOTA)
		return "the name is a new one, and the broker remembers as many as limits.names "
		       "allows; take one that was there before, or have that raised";
	return "it does not start; the broker's log says why";
}

static int start(struct provisions *set, struct offer *offer, const struct steward_wish *wish,
	struct steward_provider *who, uint64_t request_id, const char **ret_why)
{
	struct provision *provision = calloc(1, sizeof(*provision));
	int r = provision ? config_provided(&provision->config, &offer->config) : -ENOMEM;

	if (r) {
		free(provision);
		return r;
	}
	provision->set = set;
	provision->offer = offer_ref(offer);
	snprintf(provision->tenant, sizeof(provision->tenant), "%s", wish->tenant->name);
	offer->opened = on_opened;
	offer->opened_ctx = provision;
	DL_APPEND(set->list, provision);
	r = endpoints_provide(set->endpoints, provision->config);
	if (r) {
		*ret_why = why_not(r);
		end(provision, r, *ret_why);
		return r;
	}
	provision->who = who;
	provision->request_id = request_id;
	return 0;
}

static int place(struct provisions *set, struct offer *offer, const struct steward_wish *wish,
	struct steward_provider *who, uint64_t request_id, const char **ret_why)
{
	struct provision *there = find(set, wish->kernel.name);
	int r;

	if (there && (there->who || strcmp(there->tenant, wish->tenant->name) != 0)) {
		*ret_why = "an endpoint of this name is provided already";
		return VMSIG_ERR_BUSY;
	}
	if (there)
		return come_back(there, offer, who, request_id, ret_why);
	r = check_room(set, wish, ret_why);
	return r ? r : start(set, offer, wish, who, request_id, ret_why);
}

void provisions_provide(struct provisions *provisions, const struct steward_wish *wish,
	struct steward_provider *who, uint64_t request_id)
{
	const struct offer_wish words = {.name = wish->kernel.name,
		.low = wish->low,
		.segs = wish->segs,
		.nseg = wish->nseg,
		.kcr3 = wish->kernel.kcr3,
		.levels = wish->kernel.levels,
		.writable = wish->writable,
		.uid = wish->uid};
	struct offer *offer = NULL;
	const char *why = NULL;
	int r = check(provisions, wish, &why);

	if (!r)
		r = offer_new(&offer, &words, wish->fds, wish->nfds, provisions->closer);
	if (!offer) {
		for (size_t i = 0; i < wish->nfds; i++)
			closer_give(provisions->closer, wish->fds[i], wish->uid);
	}
	if (offer)
		r = place(provisions, offer, wish, who, request_id, &why);
	offer_unref(offer);
	if (r)
		who->answer(who, request_id, wish->kernel.name, r, why, false);
}

/* ---- what becomes of it ---- */

static struct provision *find_of(
	const struct provisions *provisions, const struct steward_provider *who, const char *name)
{
	struct provision *provision = find(provisions, name);

	return provision && provision->who == who ? provision : NULL;
}

int provisions_invalidate(struct provisions *provisions, const struct steward_provider *who,
	const struct steward_kernel *kernel)
{
	const struct provision *provision = find_of(provisions, who, kernel->name);
	const char *why;
	struct offer *offer;

	if (!provision)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	if (check_kernel(kernel, &why))
		return VMSIG_ERR_BAD_REQUEST;
	offer = provision->offer;
	offer_set_kernel(offer, kernel->kcr3, kernel->levels);
	if (offer->guest)
		offer->guest->invalidate(
			offer->guest_ctx, "its provider says that the guest was reset");
	return 0;
}

int provisions_end(
	struct provisions *provisions, const struct steward_provider *who, const char *name)
{
	struct provision *provision = find_of(provisions, who, name);

	if (!provision)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	end(provision, VMSIG_ERR_DISCONNECTED, "its provider ended it");
	return 0;
}

static bool waits_for(const struct provision *provision, const char *tenant, const uid_t *uid)
{
	return !provision->who && (!tenant || strcmp(tenant, provision->tenant) == 0) &&
	       (!uid || *uid == provision->offer->uid);
}

/* Nobody is told, so the list stays what it is but for the one that ends. */
uint32_t provisions_cut(struct provisions *provisions, const char *tenant, const uid_t *uid)
{
	struct provision *provision, *next;
	uint32_t count = 0;

	DL_FOREACH_SAFE (provisions->list, provision, next) {
		if (!waits_for(provision, tenant, uid))
			continue;
		end(provision, VMSIG_ERR_DISCONNECTED, "an administrator ended it");
		count++;
	}
	return count;
}

/* ---- the set ---- */

/* The tenant is still there, and may still provide it; a configured endpoint has its name. */
static bool may_stay(const struct provision *provision, const struct config *config)
{
	const struct config_endpoint *endpoint = provision->config->endpoints;
	const struct selector_subject subject = config_endpoint_subject(endpoint);
	struct identity identity = {.role = IDENTITY_PROVIDER};
	const struct grant_tenant *tenant;

	snprintf(identity.name, sizeof(identity.name), "%s", provision->tenant);
	tenant = grant_find(config->by_identity, config->ntenants, &identity);
	return tenant && grant_has_uid(tenant, provision->offer->uid) &&
	       tenant_sees(&tenant->tenant, &subject) &&
	       !config_endpoint_find(config, endpoint->name);
}

/* One that has ended is not in the list any more, which the analyser does not see through. */
/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
static struct provision *find_unfit(
	const struct provisions *provisions, const struct config *config)
{
	struct provision *provision;

	DL_FOREACH (provisions->list, provision) {
		if (!may_stay(provision, config))
			return provision;
	}
	return NULL;
}
/* NOLINTEND(clang-analyzer-unix.Malloc) */

/* Whoever is told of an end may be gone by that, with all that it provides. */
void provisions_adopt(struct provisions *provisions, const struct config *config)
{
	struct provision *provision;

	provisions->settings = config;
	while ((provision = find_unfit(provisions, config)))
		end(provision, VMSIG_ERR_FORBIDDEN,
			"the policy does not let its provider provide it any more");
}

int provisions_new(struct provisions **ret_provisions, uv_loop_t *loop, struct endpoints *endpoints,
	struct closer *closer)
{
	struct provisions *provisions = calloc(1, sizeof(*provisions));

	if (!provisions)
		return -ENOMEM;
	provisions->endpoints = endpoints;
	provisions->closer = closer;
	(void)uv_timer_init(loop, &provisions->timer); /* cannot fail */
	provisions->timer.data = provisions;
	*ret_provisions = provisions;
	return 0;
}

void provisions_close(struct provisions *provisions)
{
	if (!provisions || provisions->closed)
		return;
	provisions->closed = true;
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	while (provisions->list)
		end(provisions->list, VMSIG_ERR_SHUTTING_DOWN, "the broker is shutting down");
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	uv_close((uv_handle_t *)&provisions->timer, NULL);
}

struct provisions *provisions_free(struct provisions *provisions)
{
	free(provisions);
	return NULL;
}
