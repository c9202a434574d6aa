/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/planes/admin_client.h"

#include "broker/boot_clock.h"

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
	return tenant_sees_all(&conn_tenant(client->base.conn)->tenant);
}

const char *admin_all_needed(void)
{
	return "this concerns every endpoint; the policy has to give this administrator "
	       "endpoints: [\"*\"]";
}

struct desk_admin admin_signature(const struct admin_client *client)
{
	const struct conn *conn = client->base.conn;

	return (struct desk_admin){.tenant = &conn_tenant(conn)->tenant,
		.serial = conn_serial(conn),
		.uid = conn_uid(conn),
		.pid = (uint32_t)conn_pid(conn)};
}

/* The desk may have come or gone since the request did. */
void admin_record(const struct admin_client *client, const struct desk_deed *deed)
{
	const struct desk_admin admin = admin_signature(client);
	struct desk *desk = client->services->write;

	if (desk)
		desk_note_deed(desk, boot_clock_ns(), &admin, deed);
}
