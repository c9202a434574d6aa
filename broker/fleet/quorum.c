/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of the store, and whether to believe it. It is asked for the fleet's generation at
 * least three times in a TTL, which is also the contact that what it says of others rests on.
 */
#include <errno.h>
#include <string.h>

#include "broker/fleet/state.h"

static uint64_t bound_ns(const struct fleet *fleet)
{
	return deed_wait_ns(&fleet->self, &fleet->self);
}

void quorum_init(struct fleet *fleet, const struct fleet_memory *memory)
{
	struct quorum *quorum = &fleet->quorum;

	quorum->memory = *memory;
	quorum->generation = (struct deed_generation){.number = memory->generation,
		.cluster_id = memory->cluster_id,
		.epoch_floor = memory->epoch_floor,
		.token_floor = memory->token_floor};
	/* The clock goes on over a restart of the broker, not over one of the host. */
	if (memory->cluster_id && strcmp(memory->boot, fleet->self.boot) == 0 &&
		memory->contact_ns <= fleet->now_ns)
		quorum->contact_ns = memory->contact_ns;
	quorum->look_ns = fleet->now_ns;
}

static void freeze(struct fleet *fleet, const char *why)
{
	if (fleet->quorum.frozen)
		return;
	fleet->quorum.frozen = why;
	/* A bump is made from what the store says now. */
	fleet->quorum.cluster_seen = 0;
	fleet->quorum.look_ns = fleet->now_ns;
	fleet_tell(fleet, FLEET_ACT_FROZEN);
}

/* A claim that was made from what the store was before, and has come into force in what it is now,
 * is nobody's: it is adopted as an earlier process's would be. */
static void doubt(const struct fleet *fleet, struct tenure *t)
{
	t->seen = false;
	t->retry_ns = fleet->now_ns;
	if (!t->claim_open || t->held)
		return;
	t->claim_open = t->over = false;
	t->nonce[0] = '\0';
}

/* All that was read before is doubtful, and what the store says of others counts later. */
static void begin_anew(struct fleet *fleet)
{
	struct fleet_request *request;
	struct tenure *t;

	fleet->quorum.quiet_until_ns = fleet->now_ns + bound_ns(fleet);
	/* Keys that an earlier state of the store left hang on the lease of that state. */
	fleet->lease_live = false;
	fleet->lease = 0;
	fleet->keepalive_ns = fleet->now_ns;
	fleet_unwatch(fleet);
	for (request = fleet->requests; request; request = request->hh.next)
		request->stale = true;
	for (t = fleet->guests; t; t = t->hh.next)
		doubt(fleet, t);
}

static void thaw(struct fleet *fleet)
{
	begin_anew(fleet);
	if (!fleet->quorum.frozen)
		return;
	fleet->quorum.frozen = NULL;
	fleet_tell(fleet, FLEET_ACT_THAWED);
}

bool quorum_trusts(
	struct fleet *fleet, const struct fleet_request *request, const struct txn_answer *answer)
{
	struct quorum *quorum = &fleet->quorum;
	uint64_t gap = fleet->ttl_ns / 3 * 2;

	if (quorum->memory.cluster_id && answer->cluster_id != quorum->memory.cluster_id)
		freeze(fleet, "another cluster answers: the store was restored or made anew");
	else if (answer->revision < request->revision)
		freeze(fleet, "the store's revision has gone back: it was restored");
	if (quorum->frozen)
		return false;
	if (!quorum->contact_ns || fleet->now_ns - quorum->contact_ns > gap)
		quorum->quiet_until_ns = fleet->now_ns + bound_ns(fleet);
	if (request->sent_ns > quorum->contact_ns)
		quorum->contact_ns = request->sent_ns;
	if (answer->revision > quorum->memory.revision)
		quorum->memory.revision = answer->revision;
	return true;
}

/* ---- the generation ---- */

static void send(struct fleet *fleet, enum bid_kind bid, const struct deed_generation *next)
{
	struct fleet_request *request = fleet_request(fleet, TXN_COMMIT, bid, NULL);
	char key[FLEET_KEY_MAX], text[DEED_TEXT_MAX];

	fleet->quorum.look_ns = fleet->now_ns + fleet->ttl_ns / 3;
	if (!request)
		return;
	fleet_key(fleet, "generation", key);
	if (next) {
		txn_compare_number(&request->wire.txn, key, TXN_MOD_REVISION, TXN_EQUAL,
			fleet->quorum.generation_revision);
		txn_put(&request->wire.txn, TXN_THEN, key, text, deed_write_generation(next, text),
			0);
	} else {
		txn_get(&request->wire.txn, TXN_THEN, key);
	}
	if (fleet_send(fleet, request))
		fleet->quorum.look = request;
}

static void remember(struct fleet *fleet)
{
	struct fleet_memory *memory = &fleet->quorum.memory;

	memory->contact_ns = fleet->quorum.contact_ns;
	memcpy(memory->boot, fleet->self.boot, sizeof(memory->boot));
	fleet_tell(fleet, FLEET_ACT_REMEMBER);
}

/* Epochs and tokens begin above the floors, now and after each bump that comes. Who has bumped may
 * have known less than this host. */
static void believe(struct quorum *quorum, const struct deed_generation *generation)
{
	struct fleet_memory *memory = &quorum->memory;

	if (generation->epoch_floor > memory->epoch_floor)
		memory->epoch_floor = generation->epoch_floor;
	if (generation->token_floor > memory->token_floor)
		memory->token_floor = generation->token_floor;
	quorum->generation = *generation;
	quorum->generation.epoch_floor = memory->epoch_floor;
	quorum->generation.token_floor = memory->token_floor;
}

/* The cluster that answers is the one that this generation is of, and the revisions that were known
 * before are another's. */
static void take_newer(struct fleet *fleet, const struct deed_generation *generation,
	const struct txn_answer *answer)
{
	struct fleet_memory *memory = &fleet->quorum.memory;
	bool first = !memory->generation;

	believe(&fleet->quorum, generation);
	memory->generation = generation->number;
	memory->cluster_id = answer->cluster_id;
	memory->revision = answer->revision;
	if (!first || fleet->quorum.frozen)
		thaw(fleet);
	fleet->quorum.contact_ns = 0;
}

static bool takes_all(const struct deed_generation *generation)
{
	return generation->epoch_floor > DEED_EPOCH_FLOOR_MAX ||
	       generation->token_floor > DEED_TOKEN_FLOOR_MAX;
}

static bool jumps(const struct quorum *quorum, const struct deed_generation *generation)
{
	return generation->number > quorum->memory.generation &&
	       generation->number - quorum->memory.generation > DEED_BUMPS_MAX;
}

/* Whether there is one. */
static bool take_generation(struct fleet *fleet, struct fleet_request *request,
	const struct txn_answer *answer, struct deed_generation *ret_generation)
{
	const struct txn_result *result = answer->n == 1 ? answer->results : NULL;
	struct deed_generation generation = {0};
	struct quorum *quorum = &fleet->quorum;

	if (!result)
		return false;
	quorum->generation_revision = result->n ? result->entries[0].mod_revision : 0;
	if (result->n && !deed_read_generation(&generation, result->entries[0].value.data,
				 result->entries[0].value.len))
		freeze(fleet, "the fleet's generation in the store is damaged");
	if (generation.number > quorum->generation_seen && !jumps(quorum, &generation))
		quorum->generation_seen = generation.number;
	if (jumps(quorum, &generation))
		freeze(fleet, "the fleet's generation is one that no bump has made");
	else if (takes_all(&generation))
		freeze(fleet, "the fleet's generation leaves no epochs or tokens for its guests");
	else if (result->n && generation.cluster_id != answer->cluster_id)
		freeze(fleet, "the store says that it is another cluster: it was restored");
	else if (generation.number < quorum->memory.generation)
		freeze(fleet, "the fleet's generation has gone back: the store was restored");
	else if (generation.number > quorum->memory.generation) {
		take_newer(fleet, &generation, answer);
		request->revision = 0;
	}
	quorum->cluster_seen = answer->cluster_id;
	*ret_generation = generation;
	return result->n;
}

static void looked(
	struct fleet *fleet, struct fleet_request *request, const struct txn_answer *answer)
{
	struct quorum *quorum = &fleet->quorum;
	struct deed_generation generation;
	bool there = take_generation(fleet, request, answer, &generation);

	if (!quorum_trusts(fleet, request, answer))
		return;
	if (there) {
		believe(quorum, &generation);
		quorum->met = true;
		remember(fleet);
		return;
	}
	/* The first host of the fleet. */
	send(fleet, BID_FOUND,
		&(struct deed_generation){.number = 1, .cluster_id = answer->cluster_id});
}

void quorum_answer(
	struct fleet *fleet, struct fleet_request *request, const struct txn_answer *answer)
{
	bool done = answer->outcome == TXN_OK;

	fleet->quorum.look = NULL;
	if (request->bid == BID_BUMP) {
		fleet->bumping = false;
		fleet->bump_error = done ? 0 : VMSIG_ERR_IO;
		fleet_tell(fleet, FLEET_ACT_BUMPED);
	}
	if (request->bid == BID_GENERATION && done)
		looked(fleet, request, answer);
	else if (request->bid != BID_GENERATION)
		fleet->quorum.look_ns = fleet->now_ns;
	else
		fleet->quorum.look_ns = fleet->now_ns + fleet->ttl_ns / 16;
}

/* The higher one, and room above it; without room nothing less. */
static uint64_t floor_above(uint64_t a, uint64_t b, uint64_t room, uint64_t max)
{
	uint64_t floor = a > b ? a : b;

	return floor < max && room <= max - floor ? floor + room : floor;
}

/* Bumps that this host was not there for, as the store tells it: each has had room of its own. Not
 * more than a few: whoever answers in the store's place uses no numbers up. */
static uint64_t missed_bumps(const struct quorum *quorum)
{
	uint64_t missed = quorum->generation_seen > quorum->memory.generation
				  ? quorum->generation_seen - quorum->memory.generation
				  : 0;

	return missed < FLEET_BUMPS_MISSED ? missed : FLEET_BUMPS_MISSED;
}

static struct deed_generation next_generation(
	const struct quorum *quorum, uint32_t epoch_floor, uint64_t token_floor)
{
	const struct deed_generation *last = &quorum->generation;
	uint64_t rooms = 1 + missed_bumps(quorum), number = quorum->generation_seen;

	if (number < quorum->memory.generation)
		number = quorum->memory.generation;
	return (struct deed_generation){.number = number + 1,
		.cluster_id = quorum->cluster_seen,
		.epoch_floor = (uint32_t)floor_above(epoch_floor, last->epoch_floor,
			rooms * FLEET_BUMP_EPOCHS, DEED_EPOCH_FLOOR_MAX),
		.token_floor = floor_above(token_floor, last->token_floor,
			rooms * FLEET_BUMP_TOKENS, DEED_TOKEN_FLOOR_MAX)};
}

/* Whatever has happened meanwhile: it is above all that this host knows of. What a store says that
 * is not believed is no reason to use numbers up. */
int fleet_bump(struct fleet *fleet, uint64_t now_ns, uint32_t epoch_floor, uint64_t token_floor)
{
	struct quorum *quorum = &fleet->quorum;
	struct deed_generation next;

	fleet->now_ns = now_ns;
	if (!quorum->frozen || epoch_floor > DEED_EPOCH_FLOOR_MAX ||
		token_floor > DEED_TOKEN_FLOOR_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	if (fleet->bumping)
		return VMSIG_ERR_BUSY;
	if (quorum->look || !quorum->cluster_seen)
		return VMSIG_ERR_NOT_READY;
	next = next_generation(quorum, epoch_floor, token_floor);
	fleet->changes++;
	send(fleet, BID_BUMP, &next);
	fleet->bumping = quorum->look;
	return fleet->bumping ? 0 : -ENOMEM;
}

/* ---- time ---- */

void quorum_advance(struct fleet *fleet)
{
	if (!fleet->quorum.look && fleet->now_ns >= fleet->quorum.look_ns)
		send(fleet, BID_GENERATION, NULL);
}

uint64_t quorum_deadline(const struct fleet *fleet)
{
	return fleet->quorum.look ? UINT64_MAX : fleet->quorum.look_ns;
}
