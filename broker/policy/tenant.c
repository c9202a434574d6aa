/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/policy/tenant.h"

#include <fnmatch.h>

bool tenant_sees(const struct tenant *tenant, const char *endpoint_name)
{
	for (size_t i = 0; i < tenant->nendpoints; i++) {
		if (fnmatch(tenant->endpoints[i], endpoint_name, 0) == 0)
			return true;
	}
	return false;
}
