/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is on its way between hosts and store: lost, doubled, delayed until long after it was given
 * up. What a host sends here is a copy, from which a compare may be left out.
 */
#include <stdlib.h>
#include <string.h>

#include "broker/fleet/state.h"
#include "tests/sim/fleet_world.h"

#define PARCELS (GUESTS * 256)

enum parcel_kind { PARCEL_FREE, PARCEL_REQUEST, PARCEL_ANSWER, PARCEL_TIMEOUT, PARCEL_NOTICE };

struct parcel {
	enum parcel_kind kind;
	uint64_t due;
	int host;
	unsigned broker; /* that it is from, or for */
	uint64_t number;
	enum bid_kind bid;
	struct txn_request request;
	struct txn_answer answer;
	char key[160]; /* NOTICE */
	int64_t revision;
	bool deleted;
};

/* First come, first slot: behind `top` none is used. */
static struct parcel parcels[PARCELS];
static size_t top;
static uint64_t broken_until;
struct sabotage sabotage;

static const char *const bid_names[BID_KINDS] = {
	[BID_LOOK] = "look",
	[BID_RENEW] = "renew",
	[BID_CLAIM] = "claim",
	[BID_ADOPT] = "adopt",
	[BID_ACCEPT] = "accept",
	[BID_REKEY] = "rekey",
	[BID_RECORD] = "record",
	[BID_OFFER] = "offer",
	[BID_RETAKE] = "retake",
	[BID_RELEASE] = "release",
	[BID_VOID] = "void",
	[BID_FOUND] = "found",
	[BID_BUMP] = "bump",
};

/* ---- copies ---- */

static struct txn_bytes bytes_dup(const struct txn_bytes *bytes)
{
	struct txn_bytes copy = {.len = bytes->len};

	if (!bytes->data)
		return copy;
	copy.data = calloc(1, bytes->len + 1);
	if (!copy.data)
		broken("out of memory");
	memcpy(copy.data, bytes->data, bytes->len);
	return copy;
}

static void compares_dup(struct txn *to, const struct txn *from)
{
	to->compares = calloc(from->ncompares + 1, sizeof(*to->compares));
	to->ncompares = from->ncompares;
	for (size_t i = 0; i < from->ncompares; i++) {
		to->compares[i] = from->compares[i];
		to->compares[i].key = bytes_dup(&from->compares[i].key);
		to->compares[i].value = bytes_dup(&from->compares[i].value);
	}
}

static void ops_dup(struct txn_ops *to, const struct txn_ops *from)
{
	to->ops = calloc(from->n + 1, sizeof(*to->ops));
	to->n = from->n;
	for (size_t i = 0; i < from->n; i++) {
		to->ops[i] = from->ops[i];
		to->ops[i].key = bytes_dup(&from->ops[i].key);
		to->ops[i].range_end = bytes_dup(&from->ops[i].range_end);
		to->ops[i].value = bytes_dup(&from->ops[i].value);
	}
}

static void sabotage_apply(struct txn *txn, enum bid_kind bid)
{
	struct txn_compare *compare = &txn->compares[sabotage.compare];

	if (!sabotage.bid || !bid_names[bid] || strcmp(sabotage.bid, bid_names[bid]) != 0 ||
		sabotage.compare >= txn->ncompares)
		return;
	if (sabotage.negate) {
		compare->relation = TXN_NOT_EQUAL;
		return;
	}
	free(compare->key.data);
	free(compare->value.data);
	*compare = txn->compares[--txn->ncompares];
}

static struct txn_request request_dup(const struct txn_request *request)
{
	const struct fleet_request *core = (const struct fleet_request *)request;
	struct txn_request copy = *request;

	compares_dup(&copy.txn, &request->txn);
	for (int b = 0; b < TXN_BRANCHES; b++)
		ops_dup(&copy.txn.branches[b], &request->txn.branches[b]);
	sabotage_apply(&copy.txn, core->bid);
	return copy;
}

/* ---- parcels ---- */

static struct parcel *parcel_new(enum parcel_kind kind, int host, uint64_t due)
{
	for (size_t i = 0; i < PARCELS; i++) {
		if (i < top && parcels[i].kind != PARCEL_FREE)
			continue;
		if (i == top)
			top++;
		parcels[i] = (struct parcel){.kind = kind,
			.host = host,
			.broker = world.hosts[host].brokers,
			.due = due};
		return &parcels[i];
	}
	broken("the simulator's net is full");
}

static void parcel_free(struct parcel *parcel)
{
	txn_deinit(&parcel->request.txn);
	if (parcel->kind == PARCEL_ANSWER)
		txn_answer_deinit(&parcel->answer);
	*parcel = (struct parcel){0};
	while (top && parcels[top - 1].kind == PARCEL_FREE)
		top--;
}

void net_reset(void)
{
	for (size_t i = top; i-- > 0;)
		parcel_free(&parcels[i]);
	broken_until = 0;
}

static uint64_t latency(void)
{
	if (world.faults && dice(12) == 0)
		return world.now + MS * (50 + dice(3000));
	return world.now + MS * (1 + dice(40));
}

static bool is_cut(int host)
{
	return world.hosts[host].apart || world.now < broken_until;
}

/* ---- sending ---- */

static void dispatch(int host, const struct txn_request *request, uint64_t due)
{
	struct parcel *parcel = parcel_new(PARCEL_REQUEST, host, due);

	parcel->number = request->number;
	parcel->bid = ((const struct fleet_request *)request)->bid;
	parcel->request = request_dup(request);
}

void net_send(int host, const struct txn_request *request)
{
	struct parcel *timeout;

	if (request->kind == TXN_WATCH) {
		world.hosts[host].watch = request->number;
		return;
	}
	if (request->kind == TXN_WATCH_CANCEL)
		return;
	timeout = parcel_new(PARCEL_TIMEOUT, host, world.now + TIMEOUT_MS * MS);
	timeout->number = request->number;
	if (is_cut(host) || (world.faults && dice(25) == 0))
		return;
	dispatch(host, request, latency());
	/* Twice, and the second one may come when its time is long over. */
	if (world.faults && dice(12) == 0)
		dispatch(host, request, world.now + MS * dice(dice(4) ? 2000 : 90000));
	else if (world.faults && dice(25) == 0)
		dispatch(host, request, world.now + MS * (TIMEOUT_MS + dice(30000)));
}

void net_announce(const char *key, int64_t revision, bool deleted)
{
	for (int h = 0; h < HOSTS; h++) {
		struct parcel *parcel;

		if (!world.hosts[h].fleet || !world.hosts[h].watch || is_cut(h) || dice(3) == 0)
			continue;
		parcel = parcel_new(PARCEL_NOTICE, h, latency());
		parcel->number = world.hosts[h].watch;
		strcpy(parcel->key, key);
		parcel->revision = revision;
		parcel->deleted = deleted;
	}
}

void net_break(uint64_t until)
{
	broken_until = until;
	for (size_t i = top; i-- > 0;) {
		if (parcels[i].kind != PARCEL_TIMEOUT)
			parcel_free(&parcels[i]);
	}
}

uint64_t net_next(void)
{
	uint64_t next = UINT64_MAX;

	for (size_t i = 0; i < top; i++) {
		if (parcels[i].kind != PARCEL_FREE && parcels[i].due < next)
			next = parcels[i].due;
	}
	return next;
}

/* ---- arriving ---- */

/* The worst moment: a host is cut off right after a renewal, of which it hears late, and the store
 * drops its key, while another one waits for that. */
static bool spring_trap(const struct parcel *parcel)
{
	const struct txn *txn = &parcel->request.txn;

	for (int g = 0; g < GUESTS; g++) {
		struct guest *guest = &world.guests[g];

		if (!guest->trap || guest->ghost != parcel->host || guest->where == NOWHERE ||
			parcel->bid != BID_RENEW || !txn->branches[TXN_THEN].n ||
			!strstr((const char *)txn->branches[TXN_THEN].ops[0].key.data, guest->uuid))
			continue;
		guest->trap = false;
		store_drop_owner(guest->uuid);
		return true;
	}
	return false;
}

static void arrive_request(struct parcel *parcel)
{
	struct txn_answer answer;
	struct parcel *back;
	bool trapped;

	store_do(parcel->host, &parcel->request, &answer);
	trapped = world.faults && answer.outcome == TXN_OK && spring_trap(parcel);
	if (is_cut(parcel->host) || (!trapped && world.faults && dice(25) == 0)) {
		txn_answer_deinit(&answer);
		return;
	}
	back = parcel_new(PARCEL_ANSWER, parcel->host, latency());
	back->broker = parcel->broker;
	back->number = parcel->number;
	back->answer = answer;
	if (!trapped)
		return;
	back->due = world.now + MS * dice(1900);
	world.hosts[parcel->host].apart = true;
}

/* The first answer is the one that counts, or that none came in time. */
static void settle_number(const struct parcel *parcel)
{
	for (size_t i = 0; i < top; i++) {
		struct parcel *other = &parcels[i];

		if (other != parcel && other->host == parcel->host &&
			other->broker == parcel->broker && other->number == parcel->number &&
			(other->kind == PARCEL_ANSWER || other->kind == PARCEL_TIMEOUT))
			parcel_free(other);
	}
}

static void arrive_answer(struct parcel *parcel)
{
	struct host *host = &world.hosts[parcel->host];
	struct txn_answer nothing = {.number = parcel->number, .outcome = TXN_UNKNOWN};

	settle_number(parcel);
	if (!host->fleet || host->brokers != parcel->broker)
		return;
	fleet_answer(host->fleet, host_clock(host),
		parcel->kind == PARCEL_ANSWER ? &parcel->answer : &nothing);
}

static void arrive_notice(struct parcel *parcel)
{
	struct host *host = &world.hosts[parcel->host];
	struct txn_event event = {.deleted = parcel->deleted};
	struct txn_notice notice = {.number = parcel->number,
		.kind = TXN_CHANGES,
		.revision = parcel->revision,
		.events = &event,
		.n = 1};

	if (!host->fleet || host->brokers != parcel->broker)
		return;
	event.entry.key =
		(struct txn_bytes){.data = (uint8_t *)parcel->key, .len = strlen(parcel->key)};
	event.entry.mod_revision = parcel->revision;
	fleet_notice(host->fleet, host_clock(host), &notice);
}

void net_deliver(void)
{
	for (size_t i = 0; i < top; i++) {
		struct parcel *parcel = &parcels[i];
		int host = parcel->host;

		if (parcel->kind == PARCEL_FREE || parcel->due > world.now)
			continue;
		if (parcel->kind == PARCEL_REQUEST)
			arrive_request(parcel);
		else if (parcel->kind == PARCEL_NOTICE)
			arrive_notice(parcel);
		else
			arrive_answer(parcel);
		parcel_free(parcel);
		host_perform(host);
	}
}
