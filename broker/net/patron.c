/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/patron.h"

#include <errno.h>
#include <stdlib.h>

#include "vmsig/vmsig_error.h"

#define UNREAD_PART 4u /* of limits.send_queues, for one tenant */

/* A share sleeps four times what it owes, if that is above 2 ms (share.h). */
static const struct {
	uint32_t per_second;
	uint64_t fee_ns;
} acts[PATRON_ACTS] = {
	[PATRON_REFUSAL] = {1000, 2500000},
	[PATRON_DEED] = {10, 25000000},
	[PATRON_SURVEY] = {4, 25000000},
};

static const struct account_kind kind = {.owner = "tenant",
	.slots = {[PATRON_CONNECTIONS] = {"connections", "quota.connections",
			  "close one or raise quota.connections"},
		[PATRON_UNREAD] = {"bytes that were not read",
			"limits.send_queues, a quarter of it", "read what was asked for"}}};

static const struct account_kind rate_kind = {.owner = "tenant",
	.slots = {{"connections in a second", "quota.connects_per_second",
		"keep connections open, or raise quota.connects_per_second"}}};

int patrons_init(struct patrons *patrons, const struct config *config, uint64_t now_ns)
{
	patrons->n = config->ntenants;
	patrons->list = calloc(config->ntenants + 1, sizeof(*patrons->list));
	if (!patrons->list)
		return -ENOMEM;
	for (size_t i = 0; i < patrons->n; i++) {
		const struct grant_tenant *tenant = &config->tenants[i];
		struct patron *patron = &patrons->list[i];

		account_init(&patron->account, &kind, tenant->tenant.name);
		account_set_limit(
			&patron->account, PATRON_CONNECTIONS, tenant->tenant.quota.connections);
		account_set_limit(&patron->account, PATRON_UNREAD, config->tx_all / UNREAD_PART);
		rate_init(&patron->connects, now_ns, tenant->connects);
		for (size_t act = 0; act < PATRON_ACTS; act++)
			rate_init(&patron->acts[act], now_ns, acts[act].per_second);
	}
	return 0;
}

void patrons_deinit(struct patrons *patrons)
{
	for (size_t i = 0; patrons->list && i < patrons->n; i++)
		account_deinit(&patrons->list[i].account);
	free(patrons->list);
	*patrons = (struct patrons){0};
}

struct patron *patron_of(
	struct patrons *patrons, const struct config *config, const struct grant_tenant *tenant)
{
	return &patrons->list[tenant - config->tenants];
}

int patron_connect(struct patron *patron, const struct grant_tenant *tenant,
	const struct account_actor *actor, uint64_t now_ns, struct account_refusal *ret_refusal)
{
	if (rate_wait(&patron->connects, now_ns, tenant->connects, 1) == 0) {
		rate_spend(&patron->connects, 1);
		return 0;
	}
	*ret_refusal = (struct account_refusal){.actor = *actor,
		.kind = &rate_kind,
		.owner = tenant->tenant.name,
		.slot = &rate_kind.slots[0],
		.amount = 1,
		.used = tenant->connects,
		.limit = tenant->connects};
	return VMSIG_ERR_QUOTA;
}

uint32_t patron_allowance(enum patron_act act)
{
	return acts[act].per_second;
}

uint64_t patron_act(struct patron *patron, enum patron_act act, uint64_t now_ns)
{
	if (rate_wait(&patron->acts[act], now_ns, acts[act].per_second, 1))
		return acts[act].fee_ns;
	rate_spend(&patron->acts[act], 1);
	return 0;
}
