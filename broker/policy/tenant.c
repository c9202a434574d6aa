/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/policy/tenant.h"

#include <string.h>

bool tenant_sees(const struct tenant *tenant, const struct selector_subject *endpoint)
{
	return selector_find(tenant->endpoints, tenant->nendpoints, endpoint) < tenant->nendpoints;
}

bool tenant_sees_all(const struct tenant *tenant)
{
	for (size_t i = 0; i < tenant->nendpoints; i++) {
		if (strcmp(tenant->endpoints[i], "*") == 0)
			return true;
	}
	return false;
}

bool tenant_sees_away(const struct tenant *tenant, const char *name)
{
	const struct selector_subject subject = selector_named(name);

	return name[0] && selector_find(tenant->fleet, tenant->nfleet, &subject) < tenant->nfleet;
}
