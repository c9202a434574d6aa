/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/payer.h"

#include "proto/mishap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define TENANT_PART 2 /* of what all may keep, one tenant may keep one part */

/* Each holds a mark, and there are MARKS of them for all tenants. */
#define KEPT_MAX 64

#define OLD_SLOT                                                                                   \
	{                                                                                          \
		"bytes before of bulk data", "limits.bulk_old", "wait, or raise limits.bulk_old"   \
	}
static const struct account_kind kind = {.owner = "tenant",
	.slots = {[PAYER_OLD] = OLD_SLOT,
		[PAYER_KEPT] = {"bulk commands without digests", "their number", "wait"}}};
static const struct account_kind all_kind = {
	.owner = "broker", .is_shared = true, .slots = {[PAYER_OLD] = OLD_SLOT}};

void payers_set_limit(struct desk *desk, uint64_t limit)
{
	struct payer *payer;

	if (!desk->kept.kind)
		account_init(&desk->kept, &all_kind, "");
	account_set_limit(&desk->kept, PAYER_OLD, limit);
	for (payer = desk->payers; payer; payer = payer->hh.next)
		account_set_limit(&payer->account, PAYER_OLD, limit / TENANT_PART);
}

int payer_keep(struct payer *payer, struct kept *kept, uint64_t bytes)
{
	const struct account_actor actor = {.tenant = payer->tenant};
	int r = charge_take(&kept->number, &payer->account, PAYER_KEPT, 1, &actor, NULL);

	if (!r)
		r = charge_take(&kept->own, &payer->account, PAYER_OLD, bytes, &actor, NULL);
	if (!r)
		r = charge_take(&kept->all, &payer->desk->kept, PAYER_OLD, bytes, &actor, NULL);
	if (r)
		payer_forget(kept);
	return r;
}

void payer_forget(struct kept *kept)
{
	charge_refund(&kept->number);
	charge_refund(&kept->own);
	charge_refund(&kept->all);
}

struct payer *payer_unref(struct payer *payer)
{
	const struct desk_ops *ops;

	if (!payer || --payer->refs)
		return NULL;
	ops = &payer->desk->env.ops;
	HASH_DEL(payer->desk->payers, payer);
	if (payer->line)
		ops->bulk->line_close(ops->ctx, payer->line);
	account_deinit(&payer->account);
	free(payer->data[0]);
	free(payer->data[1]);
	free(payer->old);
	free(payer);
	return NULL;
}

static int fill(struct payer *payer)
{
	const struct desk_ops *ops = &payer->desk->env.ops;

	payer->data[0] = malloc(DESK_READING);
	payer->data[1] = malloc(DESK_READING);
	payer->old = malloc(DESK_READING);
	if (MISHAP("reading-memory") || !payer->data[0] || !payer->data[1] || !payer->old)
		return -ENOMEM;
	return ops->bulk->line_open(ops->ctx, &payer->line);
}

int payer_get(struct desk *desk, const char *tenant, struct payer **ret_payer)
{
	struct payer *payer = NULL;
	int r;

	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_FIND_STR(desk->payers, tenant, payer);
	if (payer) {
		payer->refs++;
		*ret_payer = payer;
		return 0;
	}
	payer = MISHAP("payer-memory") ? NULL : calloc(1, sizeof(*payer));
	if (!payer)
		return -ENOMEM;
	payer->desk = desk;
	payer->refs = 1;
	snprintf(payer->tenant, sizeof(payer->tenant), "%s", tenant);
	account_init(&payer->account, &kind, payer->tenant);
	account_set_limit(&payer->account, PAYER_OLD, desk->env.config->bulk_old / TENANT_PART);
	account_set_limit(&payer->account, PAYER_KEPT, KEPT_MAX);
	HASH_ADD_STR(desk->payers, tenant, payer);
	if (!payer->hh.tbl) {
		free(payer);
		return -ENOMEM;
	}
	r = fill(payer);
	if (r)
		payer_unref(payer);
	else
		*ret_payer = payer;
	return r;
}
