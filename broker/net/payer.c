/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/payer.h"

#include <errno.h>
#include <stdlib.h>

#include "vmsig/vmsig_error.h"

#define UNREAD_PART 4u /* of limits.send_queues, for one tenant */

static const struct account_kind kind = {.owner = "tenant",
	.slots = {[PAYER_CONNECTIONS] = {"connections", "quota.connections",
			  "close one or raise quota.connections"},
		[PAYER_UNREAD] = {"bytes that were not read", "limits.send_queues, a quarter of it",
			"read what was asked for"}}};

static const struct account_kind rate_kind = {.owner = "tenant",
	.slots = {{"connections in a second", "quota.connects_per_second",
		"keep connections open, or raise quota.connects_per_second"}}};

int payers_init(struct payers *payers, const struct config *config, uint64_t now_ns)
{
	payers->n = config->ntenants;
	payers->list = calloc(config->ntenants + 1, sizeof(*payers->list));
	if (!payers->list)
		return -ENOMEM;
	for (size_t i = 0; i < payers->n; i++) {
		const struct config_tenant *tenant = &config->tenants[i];
		struct payer *payer = &payers->list[i];

		account_init(&payer->account, &kind, tenant->tenant.name);
		account_set_limit(
			&payer->account, PAYER_CONNECTIONS, tenant->tenant.quota.connections);
		account_set_limit(&payer->account, PAYER_UNREAD, config->tx_all / UNREAD_PART);
		rate_init(&payer->connects, now_ns, tenant->connects);
	}
	return 0;
}

void payers_deinit(struct payers *payers)
{
	for (size_t i = 0; payers->list && i < payers->n; i++)
		account_deinit(&payers->list[i].account);
	free(payers->list);
	*payers = (struct payers){0};
}

struct payer *payer_of(
	struct payers *payers, const struct config *config, const struct config_tenant *tenant)
{
	return &payers->list[tenant - config->tenants];
}

int payer_connect(struct payer *payer, const struct config_tenant *tenant,
	const struct account_actor *actor, uint64_t now_ns, struct account_refusal *ret_refusal)
{
	if (rate_wait(&payer->connects, now_ns, tenant->connects, 1) == 0) {
		rate_spend(&payer->connects, 1);
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
