/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one may see of the fleet, by role (eyes_of()) and policy; convoy.h says what that is. A role
 * that is not in the table learns nothing. An answer has CONVOY_GUESTS guests and leases at most,
 * and says when there are more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/fleet/atlas.h"
#include "broker/planes/convoy.h"
#include "broker/planes/dialect.h"
#include "broker/planes/steward.h"
#include "broker/read/core.h"
#include "proto/wire/identity.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define VIEW VMSIG__CTX_MESSAGE__BODY_FLEET_VIEW
_Static_assert((int)VIEW == (int)VMSIG__ADMIN_MESSAGE__BODY_FLEET_VIEW,
	"both planes answer with the same body");

#define CONVOY_GUESTS 1024u /* in one answer, well inside of a frame; and of leases */

/* Of whom it is told whose leases are. */
enum names { NAMES_NONE, NAMES_OWN, NAMES_ALL };

/* What a role learns; whoever has none of these learns nothing. */
struct eyes {
	uint32_t role;
	bool (*sees_away)(const struct tenant *tenant, const char *name);
	bool tokens, host;
	bool leases;
	enum names names;
};

struct convoy_answer {
	const struct eyes *eyes;
	const struct tenant *tenant;
	Vmsig__FleetView body;
	Vmsig__FleetGuest guests[CONVOY_GUESTS], *pointers[CONVOY_GUESTS];
	Vmsig__FleetLease leases[CONVOY_GUESTS], *lease_pointers[CONVOY_GUESTS];
	size_t nleases;
};

static char *text(const char *words)
{
	return (char *)(uintptr_t)(words ? words : "");
}

/* ---- the policy ---- */

/* Its labels nobody knows here, and of one without a name nothing can be selected by. */
static bool by_endpoints(const struct tenant *tenant, const char *name)
{
	const struct selector_subject subject = selector_named(name);

	return name[0] ? tenant_sees(tenant, &subject) : tenant_sees_all(tenant);
}

/* Who has leases is not a monitor's business, on this host or on others. */
static const struct eyes *eyes_of(const struct grant_tenant *tenant)
{
	static const struct eyes roles[] = {
		{IDENTITY_ADMIN, by_endpoints, .tokens = true, .host = true, .leases = true,
			NAMES_ALL},
		{IDENTITY_MONITOR, by_endpoints, .tokens = true, .host = true},
		{IDENTITY_OPERATOR, tenant_sees_away, .leases = true, .names = NAMES_OWN},
		{IDENTITY_SENSOR, tenant_sees_away},
	};

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		if (roles[i].role == (uint32_t)tenant->role)
			return &roles[i];
	}
	return NULL;
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

static void lease_pack(const struct convoy_answer *answer, const struct atlas_lease *lease,
	Vmsig__FleetLease *packed)
{
	enum names names = answer->eyes->names;

	vmsig__fleet_lease__init(packed);
	packed->lease = lease->id;
	packed->epoch = lease->epoch;
	packed->ttl_ms = lease->ttl_ms;
	if (names == NAMES_NONE ||
		(names == NAMES_OWN && strcmp(lease->tenant, answer->tenant->name) != 0))
		return;
	packed->tenant = text(lease->tenant);
	packed->uid = lease->uid;
}

static void leases_pack(
	struct convoy_answer *answer, const struct atlas_guest *guest, Vmsig__FleetGuest *packed)
{
	packed->leases = &answer->lease_pointers[answer->nleases];
	for (size_t i = 0; i < guest->nleases; i++) {
		Vmsig__FleetLease *one = &answer->leases[answer->nleases];

		if (answer->nleases == CONVOY_GUESTS) {
			answer->body.more = true;
			return;
		}
		lease_pack(answer, &guest->leases[i], one);
		answer->lease_pointers[answer->nleases++] = one;
		packed->n_leases++;
	}
}

/* What etcd says of it, beside what is known here. */
static void atlas_pack(
	struct convoy_answer *answer, const struct atlas_guest *guest, Vmsig__FleetGuest *packed)
{
	packed->name = text(guest->name);
	/* A host that does not take part in a guest has not looked who has it. */
	if (!packed->holder[0]) {
		packed->holder = text(guest->host);
		packed->target = text(guest->target);
	}
	if (answer->eyes->leases)
		leases_pack(answer, guest, packed);
}

static void guest_pack(const struct convoy_answer *answer, const struct core_endpoint_info *info,
	const struct steward_guest *guest, Vmsig__FleetGuest *packed)
{
	packed->endpoint = text(info->name);
	packed->uuid = text(guest->uuid);
	packed->state = text(guest->state);
	packed->holder = text(guest->holder);
	packed->target = text(guest->target);
	packed->epoch = guest->epoch;
	if (strcmp(packed->holder, answer->body.host) == 0)
		packed->present = info->epoch;
	packed->token = answer->eyes->tokens ? guest->token : 0;
	packed->right_ms = guest->right_ms;
}

static void away_pack(
	struct convoy_answer *answer, const struct atlas_guest *guest, Vmsig__FleetGuest *packed)
{
	packed->uuid = text(guest->uuid);
	packed->state = text(guest->heard || guest->offered ? "FOREIGN" : "SILENT");
	packed->epoch = guest->epoch;
	packed->token = answer->eyes->tokens ? guest->token : 0;
	atlas_pack(answer, guest, packed);
}

/* Those with an endpoint here; `here` gets which of the atlas's they are, seen or not. */
static void local_pack(const struct services *services, struct convoy_answer *answer,
	const struct atlas *atlas, bool *here)
{
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
		packed = tenant_sees(answer->tenant, info.subject) ? guest_new(answer) : NULL;
		if (!packed)
			continue;
		guest_pack(answer, &info, &guest, packed);
		if (known)
			atlas_pack(answer, known, packed);
	}
}

static int guests_pack(
	const struct services *services, struct convoy_answer *answer, const struct atlas *atlas)
{
	size_t n = 0;
	const struct atlas_guest *guests = atlas ? atlas_guests(atlas, &n) : NULL;
	bool *here = calloc(n + 1, sizeof(*here));
	Vmsig__FleetGuest *packed;

	if (!here)
		return -ENOMEM;
	answer->body.guests = answer->pointers;
	local_pack(services, answer, atlas, here);
	for (size_t i = 0; i < n; i++) {
		packed = !here[i] && answer->eyes->sees_away(answer->tenant, guests[i].name)
				 ? guest_new(answer)
				 : NULL;
		if (packed)
			away_pack(answer, &guests[i], packed);
	}
	answer->body.more |= atlas && atlas_more(atlas);
	free(here);
	return 0;
}

/* ---- the view ---- */

/* What is the host's and not a guest's is for who sees all, as in the status. */
static void host_pack(struct convoy_answer *answer, const struct steward_fleet *fleet)
{
	answer->body.name = text(fleet->name);
	answer->body.host = text(fleet->host);
	if (!answer->eyes->host || !tenant_sees_all(answer->tenant))
		return;
	answer->body.etcd = text(fleet->etcd);
	answer->body.version = text(fleet->version);
	answer->body.problem = text(fleet->problem);
}

int convoy_view_send(
	const struct convoy *convoy, uint64_t request_id, bool whole, const struct atlas *atlas)
{
	const struct services *services = convoy->services;
	const struct grant_tenant *tenant = conn_tenant(convoy->conn);
	struct convoy_answer *answer;
	struct steward_fleet fleet;
	int r;

	if (!eyes_of(tenant))
		return dialect_error(convoy->conn, request_id, VMSIG_ERR_FORBIDDEN, NULL);
	if (services->steward->fleet(services->ctx, &fleet))
		return dialect_error(convoy->conn, request_id, VMSIG_ERR_UNSUPPORTED,
			"this host is in no fleet; its configuration has no 'fleet'");
	answer = calloc(1, sizeof(*answer));
	if (!answer)
		return -ENOMEM;
	answer->eyes = eyes_of(tenant);
	answer->tenant = &tenant->tenant;
	vmsig__fleet_view__init(&answer->body);
	answer->body.alone = whole && !atlas;
	host_pack(answer, &fleet);
	r = guests_pack(services, answer, atlas);
	if (!r)
		r = dialect_send(convoy->conn, request_id, VIEW, &answer->body);
	free(answer);
	return r;
}
