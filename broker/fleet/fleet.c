/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/fleet/fleet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/fleet/state.h"
#include "proto/mishap.h"

#define MS 1000000ull

/* ---- the object ---- */

static bool are_sane(const struct fleet_options *options)
{
	return deed_is_name(options->fleet) && deed_is_name(options->host) &&
	       deed_is_name(options->boot) && options->ttl_s >= 2 && options->ttl_s <= 86400 &&
	       options->rho_ppm <= 100000 && options->margin_ns <= options->ttl_s * 1000 * MS / 4;
}

static void init(struct fleet *fleet, const struct fleet_options *options)
{
	struct deed_holder *self = &fleet->self;

	snprintf(fleet->name, sizeof(fleet->name), "%s", options->fleet);
	snprintf(self->host, sizeof(self->host), "%s", options->host);
	snprintf(self->boot, sizeof(self->boot), "%s", options->boot);
	self->ttl_ms = options->ttl_s * 1000;
	self->rho_ppm = options->rho_ppm;
	self->margin_ms = (uint32_t)((options->margin_ns + MS - 1) / MS);
	fleet->nonce = options->nonce;
	fleet->ttl_ns = self->ttl_ms * MS;
	fleet->timeout_ms = options->timeout_ms;
	/* Leases of one process follow each other. */
	fleet->next_lease = (int64_t)(options->nonce >> 2 | 1);
	fleet_key(fleet, "", fleet->prefix);
}

int fleet_new(struct fleet **ret_fleet, uint64_t now_ns, const struct fleet_options *options)
{
	struct fleet *fleet;

	if (!are_sane(options))
		return VMSIG_ERR_BAD_REQUEST;
	fleet = calloc(1, sizeof(*fleet));
	if (!fleet)
		return -ENOMEM;
	init(fleet, options);
	fleet->now_ns = now_ns;
	quorum_init(fleet, &options->memory);
	fleet_advance(fleet, now_ns);
	*ret_fleet = fleet;
	return 0;
}

static void give_back_lent(struct fleet *fleet)
{
	if (fleet->lent)
		outbox_free(fleet, fleet->lent);
	fleet->lent = NULL;
	fleet->lent_lease = registry_lease_free(fleet->lent_lease);
}

struct fleet *fleet_free(struct fleet *fleet)
{
	struct fleet_request *request, *next_request;

	if (!fleet)
		return NULL;
	give_back_lent(fleet);
	while (fleet->guests)
		tenure_free(fleet->guests);
	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, fleet->requests, request, next_request)
		outbox_free(fleet, request);
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	free(fleet);
	return NULL;
}

/* ---- the host's lease ---- */

static void lease_ask(struct fleet *fleet)
{
	struct fleet_request *request =
		fleet_request(fleet, fleet->lease_live ? TXN_LEASE_KEEPALIVE : TXN_LEASE_GRANT,
			fleet->lease_live ? BID_KEEPALIVE : BID_GRANT, NULL);

	fleet->keepalive_ns = fleet->now_ns + fleet->ttl_ns / 3;
	if (!request)
		return;
	if (!fleet->lease_live)
		fleet->lease = fleet->next_lease++;
	request->wire.lease = fleet->lease;
	request->wire.ttl_s = fleet->self.ttl_ms / 1000;
	if (fleet_send(fleet, request))
		fleet->leasing = request;
}

static void lease_answer(
	struct fleet *fleet, const struct fleet_request *request, const struct txn_answer *answer)
{
	fleet->leasing = NULL;
	if (request->wire.lease != fleet->lease)
		return;
	if (answer->outcome == TXN_GUARD_FAILED)
		fleet->lease_live = false;
	else if (answer->outcome == TXN_OK)
		fleet->lease_live = true;
	if (answer->outcome != TXN_OK)
		fleet->keepalive_ns = fleet->now_ns + fleet->ttl_ns / 16;
}

int64_t fleet_lease(const struct fleet *fleet)
{
	return fleet->lease_live ? fleet->lease : 0;
}

/* ---- the watch ---- */

static void watch_begin(struct fleet *fleet)
{
	struct fleet_request *request = fleet_request(fleet, TXN_WATCH, BID_WATCH, NULL);

	if (!request)
		return;
	request->wire.prefix = fleet->prefix;
	request->wire.timeout_ms = 0;
	if (fleet_send(fleet, request))
		fleet->watch = request->wire.number;
}

static struct tenure *guest_of_key(const struct fleet *fleet, const struct txn_bytes *key)
{
	size_t skip = strlen(fleet->prefix) + 3;
	char uuid[FLEET_UUID_MAX + 1];
	struct tenure *t = NULL;
	size_t len = 0;

	if (key->len <= skip || memcmp(key->data + skip - 3, "vm/", 3) != 0)
		return NULL;
	while (skip + len < key->len && len < FLEET_UUID_MAX && key->data[skip + len] != '/')
		len++;
	memcpy(uuid, key->data + skip, len);
	uuid[len] = '\0';
	HASH_FIND(hh, fleet->guests, uuid, len, t);
	return t;
}

/* It is over, and whatever it did not tell of is read; then comes another one. */
static void missed(struct fleet *fleet)
{
	struct tenure *t;

	fleet->watch = 0;
	for (t = fleet->guests; t; t = t->hh.next) {
		if (t->state != TENURE_NONE)
			tenure_doubt(t);
	}
}

void fleet_notice(struct fleet *fleet, uint64_t now_ns, const struct txn_notice *notice)
{
	give_back_lent(fleet);
	fleet->now_ns = now_ns;
	if (notice->number != fleet->watch)
		return;
	if (notice->kind == TXN_COMPACTED)
		missed(fleet);
	if (notice->n)
		fleet->quorum.look_ns = fleet->quorum.frozen ? now_ns : fleet->quorum.look_ns;
	for (size_t i = 0; i < notice->n; i++) {
		const struct txn_entry *entry = &notice->events[i].entry;
		struct tenure *t = guest_of_key(fleet, &entry->key);

		if (t && t->state != TENURE_NONE && entry->mod_revision > t->revision)
			tenure_doubt(t);
	}
	fleet_advance(fleet, now_ns);
}

/* ---- answers ---- */

static bool counts(
	struct fleet *fleet, const struct fleet_request *request, const struct txn_answer *answer)
{
	if (answer->outcome != TXN_OK && answer->outcome != TXN_GUARD_FAILED)
		return true;
	return !request->stale && quorum_trusts(fleet, request, answer);
}

static void hand_out(
	struct fleet *fleet, struct fleet_request *request, const struct txn_answer *answer)
{
	static const struct txn_answer nothing = {.outcome = TXN_UNKNOWN};

	if (request->wire.kind == TXN_LEASE_GRANT || request->wire.kind == TXN_LEASE_KEEPALIVE)
		lease_answer(fleet, request, answer);
	else if (fleet->quorum.look == request)
		quorum_answer(fleet, request, answer);
	else if (request->tenure)
		tenure_answer(request->tenure, request,
			counts(fleet, request, answer) ? answer : &nothing);
}

void fleet_answer(struct fleet *fleet, uint64_t now_ns, const struct txn_answer *answer)
{
	struct fleet_request *request = NULL;

	give_back_lent(fleet);
	fleet->now_ns = now_ns;
	HASH_FIND(hh, fleet->requests, &answer->number, sizeof(answer->number), request);
	if (!request)
		return;
	HASH_DEL(fleet->requests, request);
	request->hh.tbl = NULL;
	hand_out(fleet, request, answer);
	outbox_free(fleet, request);
	fleet_advance(fleet, now_ns);
}

/* ---- looking ---- */

struct tenure *fleet_next_guest(const struct fleet *fleet, const struct tenure *tenure)
{
	struct tenure *t = tenure ? tenure->hh.next : fleet->guests;

	while (t && t->removed)
		t = t->hh.next;
	return t;
}

const char *fleet_frozen(const struct fleet *fleet)
{
	return fleet->quorum.frozen;
}

void fleet_clusters(const struct fleet *fleet, uint64_t *ret_trusted, uint64_t *ret_answers)
{
	*ret_trusted = fleet->quorum.memory.cluster_id;
	*ret_answers = fleet->quorum.cluster_seen;
}

uint64_t fleet_contact_ns(const struct fleet *fleet)
{
	return fleet->quorum.contact_ns;
}

/* ---- time ---- */

void fleet_advance(struct fleet *fleet, uint64_t now_ns)
{
	struct tenure *t, *next;

	give_back_lent(fleet);
	fleet->changes++;
	fleet->now_ns = now_ns;
	quorum_advance(fleet);
	if (!fleet->leasing && now_ns >= fleet->keepalive_ns)
		lease_ask(fleet);
	if (!fleet->watch && fleet->quorum.met)
		watch_begin(fleet);
	HASH_ITER (hh, fleet->guests, t, next)
		tenure_advance(t);
}

uint64_t fleet_changes(const struct fleet *fleet)
{
	return fleet->changes;
}

uint64_t fleet_deadline(const struct fleet *fleet)
{
	uint64_t deadline = quorum_deadline(fleet), other;

	if (MISHAP("early-timer"))
		return fleet->now_ns;
	if (!fleet->leasing && fleet->keepalive_ns < deadline)
		deadline = fleet->keepalive_ns;
	for (const struct tenure *t = fleet->guests; t; t = t->hh.next) {
		other = tenure_deadline(t);
		if (other < deadline)
			deadline = other;
	}
	return deadline;
}

/* ---- actions ---- */

static bool next_request(struct fleet *fleet, struct fleet_action *ret_action)
{
	struct fleet_request *request = fleet->outbox;

	if (!request)
		return false;
	DL_DELETE(fleet->outbox, request);
	*ret_action = (struct fleet_action){.kind = FLEET_ACT_REQUEST, .request = &request->wire};
	if (request->wire.kind == TXN_WATCH || request->wire.kind == TXN_WATCH_CANCEL)
		fleet->lent = request;
	return true;
}

static bool next_of_host(struct fleet *fleet, struct fleet_action *ret_action)
{
	enum fleet_action_kind kind;

	if (!fleet->pending)
		return false;
	kind = (enum fleet_action_kind)__builtin_ctz(fleet->pending);
	fleet->pending &= ~(1u << kind);
	*ret_action = (struct fleet_action){.kind = kind,
		.memory = fleet->quorum.memory,
		.error = kind == FLEET_ACT_BUMPED ? fleet->bump_error : 0};
	return true;
}

static void fill(struct tenure *t, enum fleet_action_kind kind, struct fleet_action *action)
{
	*action = (struct fleet_action){
		.kind = kind, .tenure = t, .user = t->user, .host = t->deed.holder.host};
	if (kind != FLEET_ACT_OWNED)
		return;
	action->epoch_floor = t->epoch_floor;
	action->epoch_kept = t->epoch_kept;
	action->token_floor = t->deed.token;
	action->adopted = t->adopted;
	action->error = t->brought && t->baggage_oversize ? VMSIG_ERR_QUOTA : 0;
	/* Else there is none. */
	(void)!tenure_baggage(t, &action->baggage, &action->baggage_len);
}

static bool next_lease(struct fleet *fleet, struct tenure *t, struct fleet_action *ret_action)
{
	struct registry_lease *lease = registry_take(t);

	if (!lease)
		return false;
	fill(t, lease->error ? FLEET_ACT_NOT_GRANTED : FLEET_ACT_GRANTED, ret_action);
	ret_action->lease = lease->id;
	ret_action->token = lease->token;
	ret_action->error = lease->error;
	fleet->lent_lease = lease;
	return true;
}

static bool next_of_guest(struct fleet *fleet, struct fleet_action *ret_action)
{
	struct tenure *t;

	while ((t = fleet->telling)) {
		if (t->pending) {
			enum fleet_action_kind kind = __builtin_ctz(t->pending);

			t->pending &= ~(1u << kind);
			fill(t, kind, ret_action);
			return true;
		}
		if (next_lease(fleet, t, ret_action))
			return true;
		DL_DELETE(fleet->telling, t);
		t->listed = false;
	}
	return false;
}

bool fleet_next_action(struct fleet *fleet, struct fleet_action *ret_action)
{
	give_back_lent(fleet);
	return next_of_host(fleet, ret_action) || next_of_guest(fleet, ret_action) ||
	       next_request(fleet, ret_action);
}
