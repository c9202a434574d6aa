/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fleet that this host is in, for administrators, as far as their policy shows its guests: who
 * has which, and what is wrong. Credentials of etcd are the broker's alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/log.h"
#include "broker/planes/admin_client.h"
#include "broker/planes/steward.h"
#include "broker/read/core.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define CONVOY_GUESTS 1024u /* in one answer, well inside of a frame */

struct convoy_answer {
	Vmsig__FleetView body;
	Vmsig__FleetGuest guests[CONVOY_GUESTS], *pointers[CONVOY_GUESTS];
};

static char *text(const char *words)
{
	return (char *)(uintptr_t)(words ? words : "");
}

static void guest_pack(
	const char *endpoint, const struct steward_guest *guest, Vmsig__FleetGuest *packed)
{
	vmsig__fleet_guest__init(packed);
	packed->endpoint = text(endpoint);
	packed->uuid = text(guest->uuid);
	packed->state = text(guest->state);
	packed->holder = text(guest->holder);
	packed->target = text(guest->target);
	packed->epoch = guest->epoch;
	packed->token = guest->token;
	packed->right_ms = guest->right_ms;
}

static void guests_pack(const struct admin_client *client, struct convoy_answer *answer)
{
	const struct services *services = client->services;
	struct core_endpoint_info info;
	struct steward_guest guest;
	size_t cursor = 0, n = 0;

	while (core_endpoint_next(services->read, NULL, &cursor, &info)) {
		if (!admin_sees(client, info.subject) ||
			!services->steward->fleet_guest(services->ctx, info.id, &guest))
			continue;
		if (n == CONVOY_GUESTS) {
			answer->body.more = true;
			break;
		}
		guest_pack(info.name, &guest, &answer->guests[n]);
		answer->pointers[n] = &answer->guests[n];
		n++;
	}
	answer->body.guests = answer->pointers;
	answer->body.n_guests = n;
}

static int answer_view(
	struct admin_client *client, uint64_t request_id, const struct steward_fleet *fleet)
{
	struct convoy_answer *answer = calloc(1, sizeof(*answer));
	int r;

	if (!answer)
		return -ENOMEM;
	vmsig__fleet_view__init(&answer->body);
	answer->body.name = text(fleet->name);
	answer->body.host = text(fleet->host);
	/* What is the host's and not a guest's is for who sees all, as in the status. */
	if (admin_sees_all(client)) {
		answer->body.etcd = text(fleet->etcd);
		answer->body.version = text(fleet->version);
		answer->body.problem = text(fleet->problem);
	}
	guests_pack(client, answer);
	r = dialect_send(client->base.conn, request_id, VMSIG__ADMIN_MESSAGE__BODY_FLEET_VIEW,
		&answer->body);
	free(answer);
	return r;
}

int convoy_on_query(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	const struct services *services = client->services;
	struct steward_fleet fleet;

	if (services->steward->fleet(services->ctx, &fleet))
		return dialect_error(client->base.conn, request->request_id, VMSIG_ERR_UNSUPPORTED,
			"this host is in no fleet; its configuration has no 'fleet'");
	return answer_view(client, request->request_id, &fleet);
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

int convoy_on_bump(void *state, void *message)
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
