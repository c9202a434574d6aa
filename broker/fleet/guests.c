/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host says of its guests, and asks about them. Each of these is an event of its own: what
 * follows from it is an action when it returns.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/fleet/state.h"
#include "proto/mishap.h"

static const char *const names[TENURE_STATES] = {"NONE", "LOOKING", "FOREIGN", "CLAIMING",
	"WAITING", "OWNED", "CUT_OFF", "DRAINING", "OFFERING", "RETAKING", "RELEASING"};

const char *tenure_state_name(enum tenure_state state)
{
	return names[state];
}

/* ---- what the host says ---- */

static bool is_uuid(const char *uuid)
{
	return deed_is_name(uuid) && strlen(uuid) <= FLEET_UUID_MAX;
}

static struct tenure *tenure_new(struct fleet *fleet, const char *uuid)
{
	struct tenure *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->fleet = fleet;
	snprintf(t->uuid, sizeof(t->uuid), "%s", uuid);
	HASH_ADD_STR(fleet->guests, uuid, t);
	if (t->hh.tbl)
		return t;
	free(t);
	return NULL;
}

int fleet_guest_add(struct fleet *fleet, const char *uuid, uint32_t epoch, void *user,
	struct tenure **ret_tenure)
{
	struct tenure *t = NULL;

	if (!is_uuid(uuid))
		return VMSIG_ERR_BAD_REQUEST;
	HASH_FIND_STR(fleet->guests, uuid, t);
	if (t && !t->removed)
		return VMSIG_ERR_BAD_REQUEST;
	/* One that is being given up has still to know what of it is under way. */
	if (!t)
		t = tenure_new(fleet, uuid);
	if (!t)
		return -ENOMEM;
	t->removed = false;
	t->user = user;
	t->epoch = epoch > t->epoch ? epoch : t->epoch;
	*ret_tenure = t;
	return 0;
}

void tenure_name(struct tenure *t, const char *name)
{
	snprintf(t->name, sizeof(t->name), "%s", name);
}

static void forget_offer(struct tenure *t)
{
	free(t->offer);
	t->offer = NULL;
	t->offer_len = 0;
}

static void want(struct tenure *t, uint64_t now_ns, enum fleet_want want)
{
	t->fleet->now_ns = now_ns;
	t->retry_ns = now_ns;
	t->want = want;
	/* What was known of a guest that nobody wanted is old. */
	if (t->state == TENURE_NONE)
		t->seen = false;
	tenure_settle(t);
	fleet_advance(t->fleet, now_ns);
}

void tenure_runs(struct tenure *t, uint64_t now_ns)
{
	want(t, now_ns, WANT_IT);
}

void tenure_incoming(struct tenure *t, uint64_t now_ns)
{
	t->incoming = true;
	fleet_advance(t->fleet, now_ns);
}

static void end(struct tenure *t, uint64_t now_ns, bool pauses)
{
	t->incoming = false;
	t->pauses = pauses;
	t->over = t->held || t->claim_open;
	registry_fail(t, VMSIG_ERR_GONE);
	want(t, now_ns, WANT_NONE);
}

void tenure_gone(struct tenure *t, uint64_t now_ns)
{
	end(t, now_ns, false);
}

void tenure_pauses(struct tenure *t, uint64_t now_ns)
{
	/* Of a migration the next process hears too. What another life of the guest had is for
	 * nobody: its epoch is not that of the session that is known by now. */
	if (t->want != WANT_AWAY)
		end(t, now_ns, t->want == WANT_IT && !t->over);
}

void tenure_leaves(struct tenure *t, uint64_t now_ns)
{
	registry_fail(t, VMSIG_ERR_NOT_READY);
	forget_offer(t);
	want(t, now_ns, WANT_AWAY);
}

int tenure_offer(
	struct tenure *t, uint64_t now_ns, const char *target, const void *baggage, size_t len)
{
	uint8_t *copy;

	if (t->want != WANT_AWAY || (target && !deed_is_name(target)) || len > FLEET_BAGGAGE_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	copy = MISHAP("offer-memory") ? NULL : malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	if (len)
		memcpy(copy, baggage, len);
	free(t->offer);
	t->offer = copy;
	t->offer_len = len;
	t->offer_version++;
	snprintf(t->target, sizeof(t->target), "%s", target ? target : "");
	fleet_advance(t->fleet, now_ns);
	return 0;
}

void tenure_stays(struct tenure *t, uint64_t now_ns)
{
	forget_offer(t);
	want(t, now_ns, WANT_IT);
}

void tenure_settled(struct tenure *t, uint64_t now_ns)
{
	t->settled = t->brought;
	fleet_advance(t->fleet, now_ns);
}

int tenure_session(struct tenure *t, uint64_t now_ns, const char *session)
{
	if (*session && !deed_is_name(session))
		return VMSIG_ERR_BAD_REQUEST;
	snprintf(t->session, sizeof(t->session), "%s", session);
	fleet_advance(t->fleet, now_ns);
	return 0;
}

void tenure_epoch(struct tenure *t, uint64_t now_ns, uint32_t epoch)
{
	if (epoch > t->epoch)
		t->epoch = epoch;
	fleet_advance(t->fleet, now_ns);
}

void fleet_guest_remove(struct tenure *t, uint64_t now_ns)
{
	struct fleet *fleet = t->fleet;

	if (t->listed)
		DL_DELETE(fleet->telling, t);
	t->listed = false;
	t->pending = 0;
	t->removed = true;
	t->user = NULL;
	if (t->want == WANT_UNSAID)
		tenure_free(t);
	else
		tenure_gone(t, now_ns);
}

/* ---- leases ---- */

int tenure_grant(struct tenure *t, uint64_t now_ns, const struct tenure_lease *lease)
{
	int r;

	if (!tenure_may_apply(t, now_ns) || t->fleet->quorum.frozen)
		return VMSIG_ERR_NOT_READY;
	r = registry_add(t, lease);
	if (!r)
		fleet_advance(t->fleet, now_ns);
	return r;
}

void tenure_end(struct tenure *t, uint64_t now_ns, uint64_t id, uint64_t token)
{
	registry_end(t, id, token);
	fleet_advance(t->fleet, now_ns);
}

/* ---- the right ---- */

bool tenure_right(const struct tenure *t, uint64_t *ret_from_ns, uint64_t *ret_until_ns)
{
	/* One that waits may apply as soon as its time has come, told or not. */
	if ((t->state != TENURE_OWNED && t->state != TENURE_WAITING) ||
		t->right_from_ns >= t->right_until_ns)
		return false;
	*ret_from_ns = t->right_from_ns;
	*ret_until_ns = t->right_until_ns;
	return true;
}

bool tenure_may_apply(const struct tenure *t, uint64_t now_ns)
{
	return t->state == TENURE_OWNED && now_ns >= t->right_from_ns &&
	       now_ns < t->right_until_ns && !t->brought && t->epoch > t->epoch_floor &&
	       t->epoch <= t->deed.reserved;
}

bool tenure_may_prolong(const struct tenure *t, uint64_t now_ns)
{
	return t->told && t->held && !t->gave && !t->over && now_ns < t->right_until_ns;
}

void tenure_look(const struct tenure *t, struct tenure_view *ret_view)
{
	/* While the store is asked again, whoever has the guest still has it. */
	bool known = (t->seen || t->held) && t->deed.change && t->deed.status != DEED_RELEASED;

	*ret_view = (struct tenure_view){.uuid = t->uuid,
		.state = t->state,
		.holder = known ? t->deed.holder.host : "",
		.target = known ? t->deed.target : "",
		.epoch = t->deed.reserved,
		.token = t->deed.token,
		.adopted = t->adopted,
		.damaged = t->seen && t->damaged,
		.right_from_ns = t->right_from_ns,
		.right_until_ns = t->right_until_ns,
		.user = t->user};
}
