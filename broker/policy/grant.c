/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/policy/grant.h"

#include <stdlib.h>
#include <string.h>

int grant_order(int role, const char *name, const struct grant_tenant *tenant)
{
	return role != tenant->role ? (role > tenant->role) - (role < tenant->role)
				    : strcmp(name, tenant->tenant.name);
}

static int search(const void *key, const void *element)
{
	const struct grant_tenant *const *tenant = element;
	const struct identity *identity = key;

	return grant_order((int)identity->role, identity->name, *tenant);
}

const struct grant_tenant *grant_find(
	const struct grant_tenant *const *by_identity, size_t n, const struct identity *identity)
{
	const struct grant_tenant *const *found =
		bsearch(identity, by_identity, n, sizeof(*by_identity), search);

	return found ? *found : NULL;
}

bool grant_has_uid(const struct grant_tenant *tenant, uid_t uid)
{
	for (size_t i = 0; i < tenant->nuids; i++) {
		if (tenant->uids[i] == uid)
			return true;
	}
	return false;
}

const struct grant_rule *grant_write_rule(
	const struct grant_tenant *tenant, const struct selector_subject *endpoint)
{
	if (!tenant_sees(&tenant->tenant, endpoint))
		return NULL;
	for (size_t i = 0; i < tenant->nrules; i++) {
		const struct grant_rule *rule = &tenant->rules[i];

		if (selector_find(rule->endpoints, rule->nendpoints, endpoint) < rule->nendpoints)
			return rule;
	}
	return NULL;
}
