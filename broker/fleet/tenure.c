/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One guest of the fleet, as one host has it. What is asked of the store next follows from what the
 * host wants and from what the store said last (decide()); the state follows from that too
 * (derive()), and moves as the table says. One request about the deed is under way at a time, so
 * that each is made from the answer to the one before; what has no answer is followed by a look.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/fleet/state.h"
#include "proto/mishap.h"

#define NOTHING BID_KINDS /* decide(): there is nothing to ask for */
#define TO(state) (1u << TENURE_##state)

/* Where each state may lead. */
static const uint32_t moves[TENURE_STATES] = {
	[TENURE_NONE] = TO(LOOKING) | TO(DRAINING) | TO(RELEASING),
	[TENURE_LOOKING] = TO(FOREIGN) | TO(CLAIMING) | TO(WAITING) | TO(OWNED) | TO(RETAKING) |
			   TO(DRAINING) | TO(RELEASING) | TO(NONE),
	[TENURE_FOREIGN] = TO(LOOKING) | TO(CLAIMING) | TO(WAITING) | TO(OWNED) | TO(DRAINING) |
			   TO(RELEASING) | TO(NONE),
	[TENURE_CLAIMING] = TO(LOOKING) | TO(FOREIGN) | TO(WAITING) | TO(OWNED) | TO(RETAKING) |
			    TO(DRAINING) | TO(RELEASING) | TO(NONE),
	[TENURE_WAITING] = TO(OWNED) | TO(LOOKING) | TO(FOREIGN) | TO(CLAIMING) | TO(DRAINING) |
			   TO(RELEASING) | TO(RETAKING),
	/* RETAKING: somebody else has written that it is offered, in our name. */
	[TENURE_OWNED] = TO(CUT_OFF) | TO(LOOKING) | TO(FOREIGN) | TO(CLAIMING) | TO(DRAINING) |
			 TO(RELEASING) | TO(RETAKING),
	[TENURE_CUT_OFF] = TO(OWNED) | TO(LOOKING) | TO(FOREIGN) | TO(CLAIMING) | TO(DRAINING) |
			   TO(RELEASING) | TO(RETAKING),
	[TENURE_DRAINING] = TO(OFFERING) | TO(OWNED) | TO(CUT_OFF) | TO(WAITING) | TO(LOOKING) |
			    TO(FOREIGN) | TO(CLAIMING) | TO(RETAKING) | TO(RELEASING) | TO(NONE),
	[TENURE_OFFERING] = TO(DRAINING) | TO(RETAKING) | TO(RELEASING) | TO(LOOKING) | TO(FOREIGN),
	[TENURE_RETAKING] = TO(OWNED) | TO(CUT_OFF) | TO(WAITING) | TO(LOOKING) | TO(FOREIGN) |
			    TO(CLAIMING) | TO(DRAINING) | TO(OFFERING) | TO(RELEASING),
	[TENURE_RELEASING] = TO(NONE) | TO(RETAKING) | TO(WAITING) | TO(CUT_OFF) | TO(LOOKING) |
			     TO(FOREIGN) | TO(CLAIMING) | TO(DRAINING) | TO(OFFERING),
};

/* ---- what is known ---- */

bool tenure_is_mine(const struct tenure *t)
{
	return t->deed.change && t->deed.status != DEED_RELEASED && t->nonce[0] &&
	       strcmp(t->deed.holder.nonce, t->nonce) == 0;
}

/* An earlier process of this broker had it, which is over: two of one host and boot exclude each
 * other by the state directory. */
static bool is_adoptable(const struct tenure *t)
{
	const struct deed_holder *holder = &t->deed.holder, *self = &t->fleet->self;

	return t->deed.change && !tenure_is_mine(t) && strcmp(holder->host, self->host) == 0 &&
	       strcmp(holder->boot, self->boot) == 0 &&
	       /* What is not of a guest that goes on was given up for good. */
	       (t->deed.status != DEED_RELEASED || bid_goes_on(t));
}

static bool is_for_us(const struct tenure *t)
{
	return t->deed.change && t->deed.status == DEED_OFFERED && t->incoming &&
	       bid_is_current(t) && (!t->session[0] || bid_goes_on(t)) &&
	       (!t->deed.target[0] || strcmp(t->deed.target, t->fleet->self.host) == 0);
}

void tenure_doubt(struct tenure *t)
{
	t->seen = false;
	t->retry_ns = t->fleet->now_ns;
}

/* ---- states ---- */

static enum tenure_state derive_held(const struct tenure *t)
{
	uint64_t now_ns = t->fleet->now_ns;

	if (t->over)
		return TENURE_RELEASING;
	if (t->gave || t->deed.status == DEED_OFFERED)
		return TENURE_RETAKING;
	if (now_ns < t->right_from_ns)
		return TENURE_WAITING;
	if (now_ns < t->right_until_ns)
		return TENURE_OWNED;
	return t->told ? TENURE_CUT_OFF : TENURE_WAITING;
}

static enum tenure_state derive_wanted(const struct tenure *t)
{
	if (t->held)
		return derive_held(t);
	if (t->claim_open)
		return t->over ? TENURE_RELEASING : TENURE_CLAIMING;
	return t->seen ? TENURE_FOREIGN : TENURE_LOOKING;
}

/* Nothing is left to do for a guest that nobody wants. Who has offered it waits for the target, to
 * tell where it went. */
static bool is_settled(const struct tenure *t)
{
	bool offered = t->deed.status == DEED_OFFERED && !t->owner_there;

	return t->seen && !t->lane && !t->claim_open && (!t->held || (offered && t->removed));
}

static enum tenure_state derive(const struct tenure *t)
{
	switch (t->want) {
	case WANT_UNSAID:
		return TENURE_NONE;
	case WANT_IT:
		return derive_wanted(t);
	case WANT_AWAY:
		if (t->over)
			return TENURE_RELEASING;
		return t->held && t->offer_sent ? TENURE_OFFERING : TENURE_DRAINING;
	case WANT_NONE:
		return is_settled(t) ? TENURE_NONE : TENURE_RELEASING;
	}
	return TENURE_NONE;
}

static void enter(struct tenure *t, enum tenure_state state)
{
	if (state == t->state)
		return;
	assert(moves[t->state] & 1u << state);
	if (t->state == TENURE_OWNED && state == TENURE_CUT_OFF)
		fleet_tell_of(t, FLEET_ACT_CUT_OFF);
	if (state == TENURE_OWNED)
		fleet_tell_of(t, t->told ? FLEET_ACT_BACK : FLEET_ACT_OWNED);
	if (state == TENURE_OWNED)
		t->told = true;
	t->state = state;
}

/* ---- becoming ours, and ceasing to be ---- */

static void became_mine(struct tenure *t)
{
	const struct quorum *quorum = &t->fleet->quorum;

	t->held = true;
	/* It was taken for no other reason than to be given up. */
	t->over = t->over || t->want == WANT_NONE;
	t->gave = false;
	t->told = false;
	t->adopted = t->claim_bid == BID_ADOPT && t->claim_brings;
	t->claim_open = false;
	t->right_from_ns = t->fleet->now_ns + t->claim_wait_ns;
	if (t->right_from_ns < quorum->quiet_until_ns)
		t->right_from_ns = quorum->quiet_until_ns;
	/* What is of no use is deleted before anything is applied, so that nobody finds it later.
	 */
	t->baggage_oversize = t->baggage_oversize && t->claim_brings;
	t->brought = (t->baggage || t->baggage_oversize) && t->claim_bid != BID_CLAIM;
	t->settled = t->brought && (!t->incoming || !t->claim_brings || t->baggage_oversize);
	t->incoming = false;
	t->right_until_ns = 0;
	t->renew_ns = t->fleet->now_ns;
	t->epoch_floor = t->claim_floor;
	t->epoch_kept = t->claim_kept;
	t->offer_sent = t->offer_stored = 0;
	t->token = 0;
}

static void became_other(struct tenure *t)
{
	bool moved = t->offer_sent;
	bool released =
		t->deed.status == DEED_RELEASED && strcmp(t->deed.holder.nonce, t->nonce) == 0;

	registry_fail(t, VMSIG_ERR_GONE);
	t->held = t->over = false;
	t->gave = false;
	t->right_until_ns = 0;
	t->nonce[0] = '\0';
	t->brought = false;
	t->offer_sent = t->offer_stored = 0;
	if (released)
		fleet_tell_of(t, FLEET_ACT_RELEASED);
	else if (t->told || moved || t->adopted)
		fleet_tell_of(t, moved ? FLEET_ACT_MOVED : FLEET_ACT_LOST);
	t->told = false;
}

/* A claim that compares a revision which has passed does nothing any more. */
static void take_facts(struct tenure *t)
{
	if (t->claim_open && t->revision != t->claim_revision)
		t->claim_open = false;
	t->over = t->over && (t->held || t->claim_open || tenure_is_mine(t));
	if (tenure_is_mine(t) && !t->held)
		became_mine(t);
	else if (!tenure_is_mine(t) && t->held)
		became_other(t);
	else if (t->held)
		registry_resolve(t, false);
}

static void renewed(struct tenure *t, uint64_t sent_ns)
{
	uint64_t until = sent_ns + deed_right_ns(&t->fleet->self);

	if (!t->held || t->gave)
		return;
	if (until > t->right_until_ns)
		t->right_until_ns = until;
	t->renew_ns = sent_ns + t->fleet->ttl_ns / 3;
}

/* ---- answers ---- */

static void drop_baggage(struct tenure *t)
{
	free(t->baggage);
	t->baggage = NULL;
	t->baggage_len = 0;
}

/* False: there is no memory for it, and nothing has changed. */
static bool take_baggage(struct tenure *t, const struct txn_result *result)
{
	const struct txn_bytes *value = result->n ? &result->entries[0].value : NULL;
	bool oversize = value && value->len > FLEET_BAGGAGE_MAX;
	uint8_t *copy = NULL;

	/* What came with the offer stays until it is settled. */
	if (t->brought)
		return true;
	value = oversize ? NULL : value;
	if (value) {
		copy = MISHAP("baggage-memory") ? NULL : malloc(value->len + 1);
		if (!copy)
			return false;
		if (value->len)
			memcpy(copy, value->data, value->len);
	}
	free(t->baggage);
	t->baggage = copy;
	t->baggage_len = value ? value->len : 0;
	t->baggage_oversize = oversize;
	return true;
}

bool tenure_baggage(const struct tenure *t, const uint8_t **ret_data, size_t *ret_len)
{
	if (!t->brought || t->settled)
		return false;
	*ret_data = t->baggage;
	*ret_len = t->baggage_len;
	return true;
}

/* The baggage is not in the store any more. */
static void settled(struct tenure *t)
{
	if (!t->settled)
		return;
	t->brought = t->settled = false;
	fleet_tell_of(t, FLEET_ACT_SETTLED);
}

/* Whoever deletes a deed brings no epochs back where it was seen. One that takes all of them says
 * more than anybody can have used. */
static void note_epochs(struct tenure *t)
{
	if (t->deed.reserved > t->epoch_seen && t->deed.reserved <= DEED_EPOCH_FLOOR_MAX)
		t->epoch_seen = t->deed.reserved;
}

static void looked(struct tenure *t, const struct txn_answer *answer)
{
	const struct txn_result *owner = answer->results, *deed = owner + 1;

	if (answer->n != 3)
		return;
	/* A guest that is taken without what comes with it has lost that: it is read again. */
	if (!take_baggage(t, deed + 1)) {
		t->seen = false;
		t->retry_ns += t->fleet->ttl_ns / 16;
		return;
	}
	t->seen = true;
	t->deed = (struct deed){0};
	t->damaged = deed->n &&
		     !deed_read(&t->deed, deed->entries[0].value.data, deed->entries[0].value.len);
	note_epochs(t);
	t->revision = deed->n ? deed->entries[0].mod_revision : 0;
	t->owner_there = owner->n;
	t->owner_ours =
		owner->n && t->fleet->lease_live && owner->entries[0].lease == t->fleet->lease;
	t->owner_mine = owner->n && t->owner_len && owner->entries[0].value.len == t->owner_len &&
			memcmp(owner->entries[0].value.data, t->owner, t->owner_len) == 0;
	take_facts(t);
	if (t->held && !deed[1].n)
		settled(t);
	t->look_ns = t->fleet->now_ns + t->fleet->ttl_ns / 4;
}

static void released(struct tenure *t)
{
	t->owner_there = t->owner_mine = false;
	if (t->deed.status == DEED_OFFERED)
		return;
	registry_fail(t, VMSIG_ERR_GONE);
	t->held = t->gave = t->told = t->over = t->brought = false;
	t->nonce[0] = '\0';
	fleet_tell_of(t, FLEET_ACT_RELEASED);
}

static void stored(struct tenure *t, const struct fleet_request *request)
{
	switch (request->bid) {
	case BID_CLAIM:
	case BID_ADOPT:
	case BID_ACCEPT:
		if (!t->claim_brings)
			drop_baggage(t);
		became_mine(t);
		t->owner_there = t->owner_mine = true;
		renewed(t, request->sent_ns);
		break;
	case BID_REKEY:
		t->owner_there = t->owner_mine = true;
		renewed(t, request->sent_ns);
		break;
	case BID_RECORD:
		registry_resolve(t, true);
		if (t->settling)
			settled(t);
		break;
	case BID_OFFER:
		registry_resolve(t, true);
		t->offer_stored = t->offer_sent;
		t->look_ns = t->fleet->now_ns + t->fleet->ttl_ns / 4;
		fleet_tell_of(t, FLEET_ACT_OFFERED);
		break;
	case BID_RETAKE:
		t->gave = false;
		t->offer_sent = t->offer_stored = 0;
		t->renew_ns = t->fleet->now_ns;
		break;
	case BID_RELEASE:
		released(t);
		break;
	default:
		t->claim_open = t->over = false; /* BID_VOID */
	}
}

static void lane_answer(
	struct tenure *t, const struct fleet_request *request, const struct txn_answer *answer)
{
	t->lane = NULL;
	t->retry_ns = t->fleet->now_ns;
	if (answer->outcome != TXN_OK) {
		t->seen = false;
		if (answer->outcome != TXN_GUARD_FAILED)
			t->retry_ns += t->fleet->ttl_ns / 16;
	} else if (request->bid == BID_LOOK) {
		looked(t, answer);
	} else {
		t->deed = t->bidden;
		note_epochs(t);
		/* A rekeying leaves the deed as it is. */
		if (request->bid != BID_REKEY)
			t->revision = answer->revision;
		stored(t, request);
	}
}

/* The right lasts as long as it was given for, whatever has become of the key: whoever claims the
 * guest waits for that. */
static void renewal_answer(
	struct tenure *t, const struct fleet_request *request, const struct txn_answer *answer)
{
	t->renewal = NULL;
	if (answer->outcome == TXN_OK) {
		renewed(t, request->sent_ns);
		return;
	}
	t->renew_ns = t->fleet->now_ns + t->fleet->ttl_ns / 16;
	if (answer->outcome == TXN_GUARD_FAILED)
		tenure_doubt(t);
}

void tenure_answer(struct tenure *t, struct fleet_request *request, const struct txn_answer *answer)
{
	if (request == t->lane)
		lane_answer(t, request, answer);
	else if (request == t->renewal)
		renewal_answer(t, request, answer);
}

/* ---- what to ask for ---- */

static enum bid_kind decide_held(const struct tenure *t)
{
	if (t->gave || t->deed.status == DEED_OFFERED)
		return BID_RETAKE;
	if (!t->owner_mine)
		return BID_REKEY;
	if (registry_has_work(t) || t->settled || !bid_is_current(t) ||
		strcmp(t->session, t->deed.session) != 0 ||
		(t->deed.wait_ms && t->state == TENURE_OWNED) ||
		t->epoch + FLEET_EPOCHS / 2 > t->deed.reserved)
		return BID_RECORD;
	return NOTHING;
}

static enum bid_kind decide_wanted(const struct tenure *t)
{
	if (t->held)
		return decide_held(t);
	/* Until it is known which guest has come the offer waits. */
	if (is_for_us(t))
		return t->session[0] ? BID_ACCEPT : NOTHING;
	if (is_adoptable(t))
		return t->session[0] || !t->deed.session[0] ? BID_ADOPT : NOTHING;
	/* Of a deed that somebody has deleted or written over it may be what is left. */
	return t->owner_there && !t->owner_ours ? NOTHING : BID_CLAIM;
}

/* Of two claims of different kinds that may both come into force nobody could tell which did. */
static enum bid_kind decide_one(const struct tenure *t, enum bid_kind bid)
{
	bool claims = bid == BID_CLAIM || bid == BID_ADOPT || bid == BID_ACCEPT;

	return claims && t->claim_open && t->claim_bid != bid ? BID_VOID : bid;
}

static enum bid_kind decide_away(const struct tenure *t)
{
	if (!t->held)
		return is_adoptable(t) && t->deed.status == DEED_HELD ? BID_ADOPT : NOTHING;
	return t->offer && (t->offer_version != t->offer_stored || !bid_is_current(t)) ? BID_OFFER
										       : NOTHING;
}

static enum bid_kind decide_none(const struct tenure *t)
{
	if (t->held)
		return t->deed.status != DEED_OFFERED || t->owner_there ? BID_RELEASE : NOTHING;
	if (t->claim_open)
		return BID_VOID;
	return is_adoptable(t) && t->deed.status == DEED_HELD ? BID_ADOPT : NOTHING;
}

/* What another life of the guest had is given up before anything else. */
static enum bid_kind decide_over(const struct tenure *t)
{
	return t->held ? BID_RELEASE : BID_VOID;
}

static enum bid_kind decide(const struct tenure *t)
{
	if (t->over && t->want != WANT_NONE)
		return decide_over(t);
	switch (t->want) {
	case WANT_IT:
		return decide_one(t, decide_wanted(t));
	case WANT_AWAY:
		return decide_one(t, decide_away(t));
	case WANT_NONE:
		return decide_one(t, decide_none(t));
	case WANT_UNSAID:
		break;
	}
	return NOTHING;
}

static bool may_ask(const struct tenure *t)
{
	const struct fleet *fleet = t->fleet;

	return fleet->quorum.met && !fleet->quorum.frozen && fleet->lease_live;
}

/* Others change the deed as well, and nobody may have said so. */
static bool looks_again(const struct tenure *t)
{
	return t->want == WANT_AWAY || (t->want == WANT_IT && !t->held) ||
	       (t->want == WANT_NONE && t->held && t->deed.status == DEED_OFFERED);
}

static bool is_idle(const struct tenure *t)
{
	return t->want == WANT_UNSAID || t->state == TENURE_NONE;
}

static void think(struct tenure *t)
{
	uint64_t now_ns = t->fleet->now_ns;
	enum bid_kind bid;

	if (is_idle(t) || t->lane || !may_ask(t) || now_ns < t->retry_ns)
		return;
	if (t->seen && looks_again(t) && now_ns >= t->look_ns)
		t->seen = false;
	bid = t->seen && !t->damaged ? decide(t) : t->seen ? NOTHING : BID_LOOK;
	if (bid != NOTHING)
		bid_send(t, bid);
}

/* On its way the guest is still this host's, and so are its leases. */
static bool renews(const struct tenure *t)
{
	return (t->want == WANT_IT || t->want == WANT_AWAY) && t->held && !t->gave && !t->over &&
	       t->deed.status == DEED_HELD && !t->renewal;
}

struct tenure *tenure_free(struct tenure *t)
{
	struct fleet *fleet = t->fleet;
	struct fleet_request *request;

	for (request = fleet->requests; request; request = request->hh.next) {
		if (request->tenure == t)
			request->tenure = NULL;
	}
	if (t->listed)
		DL_DELETE(fleet->telling, t);
	HASH_DEL(fleet->guests, t);
	registry_free(t);
	free(t->offer);
	free(t->baggage);
	free(t);
	return NULL;
}

void tenure_settle(struct tenure *t)
{
	enter(t, derive(t));
}

void tenure_advance(struct tenure *t)
{
	think(t);
	if (renews(t) && may_ask(t) && t->fleet->now_ns >= t->renew_ns)
		bid_send(t, BID_RENEW);
	tenure_settle(t);
	if (t->removed && t->state == TENURE_NONE)
		tenure_free(t);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t next_ask_ns(const struct tenure *t)
{
	uint64_t at = UINT64_MAX;

	if (!t->lane && !is_idle(t)) {
		if (!t->seen || (!t->damaged && decide(t) != NOTHING))
			at = t->retry_ns;
		else if (looks_again(t))
			at = later(t->look_ns, t->retry_ns); /* a renewal puts that off, too */
	}
	return renews(t) ? earlier(at, t->renew_ns) : at;
}

uint64_t tenure_deadline(const struct tenure *t)
{
	uint64_t at = may_ask(t) ? next_ask_ns(t) : UINT64_MAX;

	if (t->state == TENURE_WAITING && t->right_from_ns > t->fleet->now_ns)
		at = earlier(at, t->right_from_ns);
	return t->state == TENURE_OWNED ? earlier(at, t->right_until_ns) : at;
}
