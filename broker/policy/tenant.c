/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/policy/tenant.h"

bool tenant_sees(const struct tenant *tenant, const struct selector_subject *endpoint)
{
	return selector_find(tenant->endpoints, tenant->nendpoints, endpoint) < tenant->nendpoints;
}
