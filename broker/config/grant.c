/* SPDX-License-Identifier: Apache-2.0 */
/* What the policy grants: which uids are a tenant, and which rule lets an operator write. */
#include "broker/config/config.h"

#include <fnmatch.h>

bool config_tenant_has_uid(const struct config_tenant *tenant, uid_t uid)
{
	for (size_t i = 0; i < tenant->nuids; i++) {
		if (tenant->uids[i] == uid)
			return true;
	}
	return false;
}

const struct config_write_rule *config_write_rule_find(
	const struct config_tenant *tenant, const char *endpoint)
{
	if (!tenant_sees(&tenant->tenant, endpoint))
		return NULL;
	for (size_t i = 0; i < tenant->nrules; i++) {
		const struct config_write_rule *rule = &tenant->rules[i];

		for (size_t j = 0; j < rule->nendpoints; j++) {
			if (fnmatch(rule->endpoints[j], endpoint, 0) == 0)
				return rule;
		}
	}
	return NULL;
}
