/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transactions about a guest. Each compares what makes it safe and nothing else, so that every
 * compare is needed:
 *
 *   claim     the deed is the one that was read; the owner key is not there (nobody alive is
 *             robbed), or was left by this host
 *   renew     the owner key has this tenure's value
 *   all else  the deed is the one that was read
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/fleet/state.h"

#define MS 1000000ull

bool bid_is_current(const struct tenure *t)
{
	return t->deed.generation == t->fleet->quorum.generation.number;
}

bool bid_goes_on(const struct tenure *t)
{
	return bid_is_current(t) && t->session[0] && strcmp(t->deed.session, t->session) == 0;
}

/* By what it says, which no two changes have in common: a store that was turned back counts
 * revisions that it has counted before. */
static void compare_deed(const struct tenure *t, struct txn *txn)
{
	char key[FLEET_KEY_MAX], text[DEED_TEXT_MAX];

	fleet_guest_key(t, "mark", key);
	if (t->deed.change)
		txn_compare_value(txn, key, TXN_EQUAL, text, deed_write(&t->deed, text));
	else
		txn_compare_number(txn, key, TXN_MOD_REVISION, TXN_EQUAL, t->revision);
}

static void put_deed(const struct tenure *t, struct txn *txn)
{
	char key[FLEET_KEY_MAX], text[DEED_TEXT_MAX];
	size_t len = deed_write(&t->bidden, text);

	fleet_guest_key(t, "mark", key);
	txn_put(txn, TXN_THEN, key, text, len, 0);
}

static void put_owner(const struct tenure *t, struct txn *txn)
{
	char key[FLEET_KEY_MAX];

	fleet_guest_key(t, "owner", key);
	txn_put(txn, TXN_THEN, key, t->owner, t->owner_len, t->fleet->lease);
}

static void delete_leaf(const struct tenure *t, struct txn *txn, const char *leaf)
{
	char key[FLEET_KEY_MAX];

	fleet_guest_key(t, leaf, key);
	txn_delete(txn, TXN_THEN, key);
}

static void delete_leases(const struct tenure *t, struct txn *txn)
{
	char key[FLEET_KEY_MAX];

	fleet_guest_key(t, "lease/", key);
	txn_delete_prefix(txn, TXN_THEN, key);
}

static uint32_t max32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static uint64_t max64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* ---- reading ---- */

static void bid_look(struct tenure *t, struct txn *txn)
{
	static const char *const leaves[] = {"owner", "mark", "baggage"};
	char key[FLEET_KEY_MAX];

	for (size_t i = 0; i < sizeof(leaves) / sizeof(*leaves); i++) {
		fleet_guest_key(t, leaves[i], key);
		txn_get(txn, TXN_THEN, key);
	}
}

static void bid_renew(struct tenure *t, struct txn *txn)
{
	char key[FLEET_KEY_MAX];

	fleet_guest_key(t, "owner", key);
	txn_compare_value(txn, key, TXN_EQUAL, t->owner, t->owner_len);
	/* A transaction without operations is refused. */
	txn_get(txn, TXN_THEN, key);
}

/* ---- claiming ---- */

/* One claim after the other is the same tenure's until it is known that none of them can come into
 * force any more. */
static void begin_claim(struct tenure *t, enum bid_kind bid)
{
	struct fleet *fleet = t->fleet;
	uint64_t quiet_ns = fleet->quorum.quiet_until_ns;
	uint64_t wait_ns = quiet_ns > fleet->now_ns ? quiet_ns - fleet->now_ns : 0;

	t->claim_wait_ns = max64(t->claim_wait_ns, wait_ns);
	t->bidden.wait_ms = (uint32_t)((t->claim_wait_ns + MS - 1) / MS);
	if (!t->claim_open)
		snprintf(t->nonce, sizeof(t->nonce), "%016" PRIx64 ".%" PRIu64, fleet->nonce,
			++fleet->nonces);
	t->claim_open = true;
	t->claim_bid = bid;
	memcpy(t->bidden.session, t->session, sizeof(t->session));
	t->claim_brings = bid != BID_CLAIM && bid_goes_on(t);
	t->claim_revision = t->revision;
	t->bidden.status = DEED_HELD;
	t->bidden.holder = fleet->self;
	memcpy(t->bidden.holder.nonce, t->nonce, sizeof(t->nonce));
	t->bidden.target[0] = '\0';
	t->owner_len = deed_write_owner(&t->bidden.holder, fleet->quorum.memory.cluster_id,
		t->bidden.epoch, t->name, t->owner);
}

/* No epoch above was used. */
static uint32_t least_floor(const struct tenure *t)
{
	uint32_t floor = t->fleet->quorum.generation.epoch_floor;

	return max32(max32(t->deed.reserved, floor), max32(t->epoch, t->epoch_seen));
}

static void begin_epochs(struct tenure *t, uint32_t floor)
{
	t->claim_floor = floor;
	t->claim_kept = 0;
	t->bidden.floor = floor;
	t->bidden.epoch = 0;
	t->bidden.reserved = floor + FLEET_EPOCHS;
}

static void bid_claim(struct tenure *t, struct txn *txn)
{
	char key[FLEET_KEY_MAX];

	t->claim_wait_ns = deed_patience_ns(&t->deed, &t->fleet->self);
	begin_epochs(t, least_floor(t));
	t->bidden.lease_ms = 0;
	begin_claim(t, BID_CLAIM);
	fleet_guest_key(t, "owner", key);
	if (t->owner_ours)
		txn_compare_number(txn, key, TXN_LEASE, TXN_EQUAL, t->fleet->lease);
	else
		txn_compare_number(txn, key, TXN_CREATE_REVISION, TXN_EQUAL, 0);
	compare_deed(t, txn);
	put_owner(t, txn);
	put_deed(t, txn);
	delete_leases(t, txn);
	delete_leaf(t, txn, "baggage");
}

/* Its tenure goes on, and nobody else was in between; what it had to wait for is left. What came
 * with another life of the guest goes at once: the next process would take it for this one's. */
static void take_over(struct tenure *t, struct txn *txn, enum bid_kind bid)
{
	t->claim_wait_ns =
		deed_patience_ns(&(struct deed){.wait_ms = t->deed.wait_ms}, &t->fleet->self);
	begin_claim(t, bid);
	compare_deed(t, txn);
	put_owner(t, txn);
	put_deed(t, txn);
	if (!t->claim_brings)
		delete_leaf(t, txn, "baggage");
}

/* The guest goes on in the epoch that the deed has for it, unless this host remembers a higher one,
 * or the deed contradicts itself. A host that had the guest before does: it has told its sensors
 * that the epoch is over, and what they have mapped since is RAM of a QEMU that is gone; were the
 * epoch to come back, that would pass for the guest's memory. */
static bool keep_epoch(struct tenure *t)
{
	if (!bid_goes_on(t) || t->deed.epoch <= t->deed.floor || t->deed.epoch > t->deed.reserved ||
		t->deed.epoch < t->epoch)
		return false;
	t->claim_floor = t->deed.epoch - 1;
	t->claim_kept = t->deed.epoch;
	return true;
}

/* A higher one is then of the process that had it. */
static void bid_adopt(struct tenure *t, struct txn *txn)
{
	if (!keep_epoch(t) && bid_goes_on(t)) {
		t->claim_floor = max32(t->deed.floor, t->epoch ? t->epoch - 1 : 0);
		t->claim_kept = 0;
	} else if (!bid_goes_on(t)) {
		begin_epochs(t, least_floor(t));
	}
	take_over(t, txn, BID_ADOPT);
}

static void bid_accept(struct tenure *t, struct txn *txn)
{
	if (!keep_epoch(t))
		begin_epochs(t, least_floor(t));
	take_over(t, txn, BID_ACCEPT);
}

/* Claims are closed by it: it is sent only by who has the deed. */
static void bid_rekey(struct tenure *t, struct txn *txn)
{
	compare_deed(t, txn);
	put_owner(t, txn);
	t->bidden = t->deed;
}

/* ---- holding ---- */

/* One that is not above the floor is of another time. */
static void note_epoch(struct tenure *t)
{
	memcpy(t->bidden.session, t->session, sizeof(t->session));
	if (t->epoch > t->epoch_floor)
		t->bidden.epoch = t->epoch;
}

static void bid_record(struct tenure *t, struct txn *txn)
{
	compare_deed(t, txn);
	note_epoch(t);
	if (t->epoch + FLEET_EPOCHS / 2 > t->bidden.reserved)
		t->bidden.reserved = t->epoch + FLEET_EPOCHS;
	if (t->state == TENURE_OWNED)
		t->bidden.wait_ms = 0;
	registry_write(t, txn, &t->bidden);
	put_deed(t, txn);
	t->settling = t->settled;
	if (t->settled)
		delete_leaf(t, txn, "baggage");
}

static void bid_offer(struct tenure *t, struct txn *txn)
{
	char key[FLEET_KEY_MAX];

	t->gave = true;
	t->offer_sent = t->offer_version;
	t->bidden.status = DEED_OFFERED;
	memcpy(t->bidden.target, t->target, sizeof(t->target));
	note_epoch(t);
	t->bidden.reserved = max32(t->deed.reserved, t->epoch);
	compare_deed(t, txn);
	registry_write(t, txn, &t->bidden);
	put_deed(t, txn);
	fleet_guest_key(t, "baggage", key);
	if (!t->brought || t->settled)
		txn_put(txn, TXN_THEN, key, t->offer, t->offer_len, 0);
}

static void bid_retake(struct tenure *t, struct txn *txn)
{
	t->bidden.status = DEED_HELD;
	t->bidden.target[0] = '\0';
	compare_deed(t, txn);
	put_deed(t, txn);
	if (!t->brought)
		delete_leaf(t, txn, "baggage");
}

static void give_up(struct tenure *t, struct txn *txn)
{
	t->bidden.status = DEED_RELEASED;
	t->bidden.target[0] = '\0';
	t->bidden.reserved = max32(t->deed.reserved, t->epoch);
	if (t->pauses) {
		note_epoch(t);
		return;
	}
	t->bidden.session[0] = '\0';
	t->bidden.lease_ms = 0;
	delete_leases(t, txn);
	delete_leaf(t, txn, "baggage");
}

/* What is offered stays for the target, whose guest may be running by now, unless there is another
 * life of it here. */
static void bid_release(struct tenure *t, struct txn *txn)
{
	t->gave = true;
	compare_deed(t, txn);
	if (t->deed.status != DEED_OFFERED || t->want != WANT_NONE || !bid_is_current(t))
		give_up(t, txn);
	put_deed(t, txn);
	delete_leaf(t, txn, "owner");
}

static void bid_void(struct tenure *t, struct txn *txn)
{
	if (!t->deed.change) {
		t->bidden.status = DEED_RELEASED;
		t->bidden.holder = t->fleet->self;
		snprintf(t->bidden.holder.nonce, sizeof(t->bidden.holder.nonce), "none");
	}
	compare_deed(t, txn);
	put_deed(t, txn);
}

static void (*const bids[BID_KINDS])(struct tenure *t, struct txn *txn) = {
	[BID_LOOK] = bid_look,
	[BID_RENEW] = bid_renew,
	[BID_CLAIM] = bid_claim,
	[BID_ADOPT] = bid_adopt,
	[BID_ACCEPT] = bid_accept,
	[BID_REKEY] = bid_rekey,
	[BID_RECORD] = bid_record,
	[BID_OFFER] = bid_offer,
	[BID_RETAKE] = bid_retake,
	[BID_RELEASE] = bid_release,
	[BID_VOID] = bid_void,
};

void bid_send(struct tenure *t, enum bid_kind bid)
{
	struct fleet_request *request = fleet_request(t->fleet, TXN_COMMIT, bid, t);

	t->retry_ns = t->fleet->now_ns + t->fleet->ttl_ns / 16;
	if (!request)
		return;
	if (bid != BID_RENEW) {
		t->bidden = t->deed;
		t->bidden.change++;
		if (bid != BID_VOID)
			t->bidden.generation = t->fleet->quorum.generation.number;
		/* After the store was restored it may know of fewer than there were. */
		t->bidden.token = max64(t->bidden.token, t->fleet->quorum.generation.token_floor);
	}
	bids[bid](t, &request->wire.txn);
	if (!fleet_send(t->fleet, request))
		return;
	if (bid == BID_RENEW)
		t->renewal = request;
	else
		t->lane = request;
}
