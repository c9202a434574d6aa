/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/budget.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/mishap.h"

#define BUDGETS_MAX 16384 /* rules in use; forgotten beyond that: all start full again */

static void key_make(
	struct budget_key *key, const struct grant_tenant *tenant, const struct grant_rule *rule)
{
	/* It is hashed as a whole. */
	memset(key, 0, sizeof(*key));
	strncpy(key->tenant, tenant->tenant.name, LEASE_NAME_MAX);
	key->rule = (uint32_t)(rule - tenant->rules);
}

static struct budget *budget_get(
	struct desk *desk, const struct grant_tenant *tenant, const struct grant_rule *rule)
{
	struct budget *budget = NULL;
	struct budget_key key;

	key_make(&key, tenant, rule);
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_FIND(hh, desk->budgets, &key, sizeof(key), budget);
	if (budget)
		return budget;
	if (HASH_COUNT(desk->budgets) >= BUDGETS_MAX)
		budgets_free(desk);
	budget = MISHAP("budget-memory") ? NULL : calloc(1, sizeof(*budget));
	if (!budget)
		return NULL;
	budget->key = key;
	rate_init(&budget->writes, desk->now_ns, rule->writes_rate);
	rate_init(&budget->bytes, desk->now_ns, (double)rule->bytes_rate);
	HASH_ADD(hh, desk->budgets, key, sizeof(budget->key), budget);
	if (!budget->hh.tbl) {
		free(budget);
		return NULL;
	}
	return budget;
}

int budget_charge(struct desk *desk, const struct grant_tenant *tenant,
	const struct grant_rule *rule, uint64_t bytes, uint32_t *ret_wait_ms)
{
	struct budget *budget = budget_get(desk, tenant, rule);
	uint64_t now_ns = desk->now_ns, wait_ns, bytes_ns;

	if (!budget)
		return -ENOMEM;
	wait_ns = rate_wait(&budget->writes, now_ns, rule->writes_rate, 1);
	/* A command of more bytes than a second's is a debt. */
	bytes_ns = rate_wait(&budget->bytes, now_ns, (double)rule->bytes_rate, 0);
	if (bytes_ns > wait_ns)
		wait_ns = bytes_ns;
	if (wait_ns) {
		*ret_wait_ms = (uint32_t)(wait_ns / NS_PER_MS) + 1;
		return VMSIG_ERR_QUOTA;
	}
	rate_spend(&budget->writes, 1);
	rate_spend(&budget->bytes, (double)bytes);
	return 0;
}

void budget_refund(struct desk *desk, const struct grant_tenant *tenant,
	const struct grant_rule *rule, uint64_t bytes)
{
	struct budget *budget = budget_get(desk, tenant, rule);

	if (budget)
		rate_refund(&budget->bytes, (double)bytes);
}

void budgets_free(struct desk *desk)
{
	struct budget *budget, *next;

	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, desk->budgets, budget, next) {
		HASH_DEL(desk->budgets, budget);
		free(budget);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	desk->budgets = NULL;
}
