/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/desk/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

#define BUDGETS_MAX 16384 /* forgotten beyond that: all start full again */

static struct budget *budget_get(
	struct desk *desk, const struct config_tenant *tenant, const struct config_write_rule *rule)
{
	const char *name = tenant->tenant.name;
	struct budget *budget = NULL;

	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_FIND_STR(desk->budgets, name, budget);
	if (budget)
		return budget;
	if (HASH_COUNT(desk->budgets) >= BUDGETS_MAX)
		budgets_free(desk);
	budget = calloc(1, sizeof(*budget));
	if (!budget)
		return NULL;
	strncpy(budget->tenant, name, LEASE_NAME_MAX);
	budget->writes = rule->writes_rate;
	budget->bytes = (double)rule->bytes_rate;
	budget->at_ns = desk_now();
	HASH_ADD_STR(desk->budgets, tenant, budget);
	if (!budget->hh.tbl) {
		free(budget);
		return NULL;
	}
	return budget;
}

/* A second's worth can be saved up. What one command takes beyond that is a debt. */
static void refill(struct budget *budget, const struct config_write_rule *rule)
{
	uint64_t now_ns = desk_now();
	double seconds = (double)(now_ns - budget->at_ns) / 1e9;

	budget->at_ns = now_ns;
	budget->writes += seconds * rule->writes_rate;
	budget->bytes += seconds * (double)rule->bytes_rate;
	if (budget->writes > rule->writes_rate)
		budget->writes = rule->writes_rate;
	if (budget->bytes > (double)rule->bytes_rate)
		budget->bytes = (double)rule->bytes_rate;
}

int budget_charge(struct desk *desk, const struct config_tenant *tenant,
	const struct config_write_rule *rule, uint64_t bytes, uint32_t *ret_wait_ms)
{
	struct budget *budget = budget_get(desk, tenant, rule);
	double wait = 0;

	if (!budget)
		return -ENOMEM;
	refill(budget, rule);
	if (budget->writes < 1)
		wait = (1 - budget->writes) / rule->writes_rate;
	if (budget->bytes < 0 && -budget->bytes / (double)rule->bytes_rate > wait)
		wait = -budget->bytes / (double)rule->bytes_rate;
	if (wait > 0) {
		*ret_wait_ms = wait > 3600 ? 3600000 : (uint32_t)(wait * 1000) + 1;
		return VMSIG_ERR_QUOTA;
	}
	budget->writes -= 1;
	budget->bytes -= (double)bytes;
	return 0;
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
