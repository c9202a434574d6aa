/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/planes/admin_client.h"

#include <string.h>

struct account_actor admin_actor(const struct admin_client *client)
{
	return (struct account_actor){.tenant = conn_tenant(client->base.conn)->tenant.name,
		.uid = conn_uid(client->base.conn),
		.pid = (int32_t)conn_pid(client->base.conn)};
}

bool admin_sees(const struct admin_client *client, const struct selector_subject *endpoint)
{
	return tenant_sees(&conn_tenant(client->base.conn)->tenant, endpoint);
}

bool admin_sees_all(const struct admin_client *client)
{
	const struct tenant *tenant = &conn_tenant(client->base.conn)->tenant;

	for (size_t i = 0; i < tenant->nendpoints; i++) {
		if (strcmp(tenant->endpoints[i], "*") == 0)
			return true;
	}
	return false;
}

const char *admin_all_needed(void)
{
	return "this concerns every endpoint; the policy has to give this administrator "
	       "endpoints: [\"*\"]";
}
