/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fleet that this host is in, for administrators, as far as their policy shows its guests: who
 * has which, and what is wrong. Credentials of etcd are the broker's alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <utlist.h>

#include "broker/fleet/atlas.h"
#include "broker/log.h"
#include "broker/planes/admin_client.h"
#include "broker/planes/steward.h"
#include "broker/read/core.h"
#include "proto/wire/identity.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define CONVOY_GUESTS 1024u /* in one answer, well inside of a frame; and of leases */

struct convoy_answer {
	Vmsig__FleetView body;
	Vmsig__FleetGuest guests[CONVOY_GUESTS], *pointers[CONVOY_GUESTS];
	Vmsig__FleetLease leases[CONVOY_GUESTS], *lease_pointers[CONVOY_GUESTS];
	size_t nleases;
};

/* One that waits for etcd. */
struct convoy_asked {
	struct steward_survey base;
	struct admin_client *client;
	struct convoy_asked *prev, *next;
	uint64_t request_id;
	struct charge charge;
};

static char *text(const char *words)
{
	return (char *)(uintptr_t)(words ? words : "");
}

/* ---- guests ---- */

/* NULL: there is no room for another one. */
static Vmsig__FleetGuest *guest_new(struct convoy_answer *answer)
{
	size_t n = answer->body.n_guests;

	if (n == CONVOY_GUESTS) {
		answer->body.more = true;
		return NULL;
	}
	vmsig__fleet_guest__init(&answer->guests[n]);
	answer->pointers[n] = &answer->guests[n];
	answer->body.n_guests++;
	return &answer->guests[n];
}

static void leases_pack(
	struct convoy_answer *answer, const struct atlas_guest *guest, Vmsig__FleetGuest *packed)
{
	packed->leases = &answer->lease_pointers[answer->nleases];
	for (size_t i = 0; i < guest->nleases; i++) {
		const struct atlas_lease *lease = &guest->leases[i];
		Vmsig__FleetLease *one = &answer->leases[answer->nleases];

		if (answer->nleases == CONVOY_GUESTS) {
			answer->body.more = true;
			return;
		}
		vmsig__fleet_lease__init(one);
		one->lease = lease->id;
		one->tenant = text(lease->tenant);
		one->uid = lease->uid;
		one->epoch = lease->epoch;
		one->ttl_ms = lease->ttl_ms;
		answer->lease_pointers[answer->nleases++] = one;
		packed->n_leases++;
	}
}

/* What etcd says of it, beside what is known here. Who has leases is not a monitor's business, on
 * this host or on others. */
static void atlas_pack(const struct admin_client *client, struct convoy_answer *answer,
	const struct atlas_guest *guest, Vmsig__FleetGuest *packed)
{
	packed->name = text(guest->name);
	/* A host that does not take part in a guest has not looked who has it. */
	if (!packed->holder[0]) {
		packed->holder = text(guest->host);
		packed->target = text(guest->target);
	}
	if (conn_tenant(client->base.conn)->role == IDENTITY_ADMIN)
		leases_pack(answer, guest, packed);
}

static void guest_pack(
	const char *endpoint, const struct steward_guest *guest, Vmsig__FleetGuest *packed)
{
	packed->endpoint = text(endpoint);
	packed->uuid = text(guest->uuid);
	packed->state = text(guest->state);
	packed->holder = text(guest->holder);
	packed->target = text(guest->target);
	packed->epoch = guest->epoch;
	packed->token = guest->token;
	packed->right_ms = guest->right_ms;
}

static void away_pack(const struct admin_client *client, struct convoy_answer *answer,
	const struct atlas_guest *guest, Vmsig__FleetGuest *packed)
{
	packed->uuid = text(guest->uuid);
	packed->state = text(guest->heard || guest->offered ? "FOREIGN" : "SILENT");
	packed->epoch = guest->epoch;
	packed->token = guest->token;
	atlas_pack(client, answer, guest, packed);
}

/* Those with an endpoint here; `here` gets which of the atlas's they are, seen or not. */
static void local_pack(const struct admin_client *client, struct convoy_answer *answer,
	const struct atlas *atlas, bool *here)
{
	const struct services *services = client->services;
	struct core_endpoint_info info;
	struct steward_guest guest;
	size_t cursor = 0, n;

	while (core_endpoint_next(services->read, NULL, &cursor, &info)) {
		const struct atlas_guest *known;
		Vmsig__FleetGuest *packed;

		if (!services->steward->fleet_guest(services->ctx, info.id, &guest))
			continue;
		known = atlas ? atlas_find(atlas, guest.uuid) : NULL;
		if (known)
			here[known - atlas_guests(atlas, &n)] = true;
		packed = admin_sees(client, info.subject) ? guest_new(answer) : NULL;
		if (!packed)
			continue;
		guest_pack(info.name, &guest, packed);
		if (known)
			atlas_pack(client, answer, known, packed);
	}
}

/* Its labels nobody knows here, and of one without a name nothing can be selected by. */
static bool sees_away(const struct admin_client *client, const struct atlas_guest *guest)
{
	const struct selector_subject subject = selector_named(guest->name);

	return guest->name[0] ? admin_sees(client, &subject) : admin_sees_all(client);
}

static int guests_pack(
	const struct admin_client *client, struct convoy_answer *answer, const struct atlas *atlas)
{
	size_t n = 0;
	const struct atlas_guest *guests = atlas ? atlas_guests(atlas, &n) : NULL;
	bool *here = calloc(n + 1, sizeof(*here));
	Vmsig__FleetGuest *packed;

	if (!here)
		return -ENOMEM;
	answer->body.guests = answer->pointers;
	local_pack(client, answer, atlas, here);
	for (size_t i = 0; i < n; i++) {
		packed = !here[i] && sees_away(client, &guests[i]) ? guest_new(answer) : NULL;
		if (packed)
			away_pack(client, answer, &guests[i], packed);
	}
	answer->body.more |= atlas && atlas_more(atlas);
	free(here);
	return 0;
}

/* ---- the view ---- */

/* `whole`: that was asked for. */
static int answer_view(
	struct admin_client *client, uint64_t request_id, bool whole, const struct atlas *atlas)
{
	const struct services *services = client->services;
	struct convoy_answer *answer;
	struct steward_fleet fleet;
	int r;

	if (services->steward->fleet(services->ctx, &fleet))
		return dialect_error(client->base.conn, request_id, VMSIG_ERR_UNSUPPORTED,
			"this host is in no fleet; its configuration has no 'fleet'");
	answer = calloc(1, sizeof(*answer));
	if (!answer)
		return -ENOMEM;
	vmsig__fleet_view__init(&answer->body);
	answer->body.name = text(fleet.name);
	answer->body.host = text(fleet.host);
	answer->body.alone = whole && !atlas;
	/* What is the host's and not a guest's is for who sees all, as in the status. */
	if (admin_sees_all(client)) {
		answer->body.etcd = text(fleet.etcd);
		answer->body.version = text(fleet.version);
		answer->body.problem = text(fleet.problem);
	}
	r = guests_pack(client, answer, atlas);
	if (!r)
		r = dialect_send(client->base.conn, request_id,
			VMSIG__ADMIN_MESSAGE__BODY_FLEET_VIEW, &answer->body);
	free(answer);
	return r;
}

static void asked_drop(struct convoy_asked *asked)
{
	DL_DELETE(asked->client->surveys, asked);
	charge_refund(&asked->charge);
	free(asked);
}

static void on_surveyed(struct steward_survey *base, const struct atlas *atlas)
{
	struct convoy_asked *asked = (struct convoy_asked *)(void *)base;
	struct admin_client *client = asked->client;
	int r = answer_view(client, asked->request_id, true, atlas);

	asked_drop(asked);
	if (r)
		conn_close(client->base.conn, r, NULL);
}

static int ask_all(struct admin_client *client, uint64_t request_id)
{
	const struct services *services = client->services;
	const struct account_actor actor = admin_actor(client);
	struct convoy_asked *asked = calloc(1, sizeof(*asked));
	struct account_refusal refusal;

	if (!asked)
		return -ENOMEM;
	if (charge_take(&asked->charge, &client->account, ADMIN_QUESTIONS, 1, &actor, &refusal)) {
		free(asked);
		return dialect_refusal(client->base.conn, request_id, &refusal);
	}
	asked->base.done = on_surveyed;
	asked->client = client;
	asked->request_id = request_id;
	DL_APPEND(client->surveys, asked);
	services->steward->fleet_survey(services->ctx, &asked->base);
	return 0;
}

void convoy_forget(struct admin_client *client)
{
	const struct services *services = client->services;

	/* One that is dropped is not the first any more, which the analyser does not see through.
	 */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	while (client->surveys) {
		services->steward->fleet_forget(services->ctx, &client->surveys->base);
		asked_drop(client->surveys);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
}

int convoy_on_query(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	const struct services *services = client->services;
	struct steward_fleet fleet;

	if (request->fleet_query->whole && !services->steward->fleet(services->ctx, &fleet))
		return ask_all(client, request->request_id);
	return answer_view(client, request->request_id, false, NULL);
}

/* ---- the bump ---- */

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
