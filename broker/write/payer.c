/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/payer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct payer *payer_unref(struct payer *payer)
{
	const struct desk_ops *ops;

	if (!payer || --payer->refs)
		return NULL;
	ops = &payer->desk->env.ops;
	HASH_DEL(payer->desk->payers, payer);
	if (payer->line)
		ops->bulk->line_close(ops->ctx, payer->line);
	free(payer->data);
	free(payer->old);
	free(payer);
	return NULL;
}

static int fill(struct payer *payer)
{
	const struct desk_ops *ops = &payer->desk->env.ops;

	payer->data = malloc(PAYER_ROOM);
	payer->old = malloc(PAYER_ROOM);
	if (!payer->data || !payer->old)
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
	payer = calloc(1, sizeof(*payer));
	if (!payer)
		return -ENOMEM;
	payer->desk = desk;
	payer->refs = 1;
	snprintf(payer->tenant, sizeof(payer->tenant), "%s", tenant);
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
