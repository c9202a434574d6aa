/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An administrator asks about the fleet (convoy.h), or has it trust its etcd as it is now: that is
 * for who sees all endpoints, and recorded in the audit log.
 */
#include <inttypes.h>
#include <stdio.h>

#include "broker/log.h"
#include "broker/planes/admin_client.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

int bump_on_query(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;

	return convoy_query(&client->convoy, request->request_id, request->fleet_query->whole);
}

static const char *why_not(int error)
{
	switch (error) {
	case VMSIG_ERR_BAD_REQUEST:
		return "the fleet is not frozen, so there is nothing to bump";
	case VMSIG_ERR_NOT_READY:
		return "etcd has not answered yet; ask again";
	case VMSIG_ERR_BUSY:
		return "another bump is under way";
	case VMSIG_ERR_UNSUPPORTED:
		return "this host is in no fleet; its configuration has no 'fleet'";
	default:
		return NULL;
	}
}

static void record_bump(const struct admin_client *client, const struct steward_bump *bump)
{
	char detail[256];

	snprintf(detail, sizeof(detail), "from cluster %016" PRIx64 " to %016" PRIx64 "; %s",
		bump->old, bump->new, bump->why);
	admin_record(client, &(struct desk_deed){.kind = VMSIG__AUDIT_RECORD__KIND__FLEET_BUMPED,
				     .endpoint = "",
				     .detail = detail});
	log_warning("an administrator has the fleet trust its etcd as it is now",
		LOG_STR("tenant", admin_signature(client).tenant->name), LOG_STR("what", detail));
}

int bump_on_bump(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	const struct services *services = client->services;
	struct steward_bump bump;
	int r;

	if (!admin_sees_all(client))
		return dialect_error(client->base.conn, request->request_id, VMSIG_ERR_FORBIDDEN,
			admin_all_needed());
	r = services->steward->fleet_bump(services->ctx, &bump);
	if (!r)
		record_bump(client, &bump);
	return dialect_answer(client->base.conn, request->request_id, r, why_not(r));
}
