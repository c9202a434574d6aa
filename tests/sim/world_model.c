/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference of sim_world: what operators were told of leases and commands, over all hosts. It
 * knows upper bounds: what it does not allow must not happen.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world_planes.h"
#include "vmsig/vmsig_error.h"

typedef unsigned long long ull;

static struct model_lease *leases;
static struct model_command *commands; /* by their keys */
static struct model_command **numbered;
static size_t ncommands, numbered_size;
static uint64_t newest[GUESTS][PIECES]; /* token that was applied */

void model_reset(void)
{
	struct model_lease *lease, *next;

	HASH_ITER (hh, leases, lease, next) {
		HASH_DEL(leases, lease);
		free(lease);
	}
	HASH_CLEAR(hh, commands);
	while (ncommands)
		free(numbered[--ncommands]);
	free(numbered);
	numbered = NULL;
	numbered_size = 0;
	memset(newest, 0, sizeof(newest));
}

/* ---- leases ---- */

struct model_lease *model_lease(uint64_t id)
{
	struct model_lease *lease = NULL;

	HASH_FIND(hh, leases, &id, sizeof(id), lease);
	return lease;
}

static struct model_lease *lease_of(uint64_t id)
{
	struct model_lease *lease = model_lease(id);

	if (!lease)
		broken("lease %llu, which never was", (ull)id);
	return lease;
}

void model_asked(int h, int g, uint64_t id, unsigned tenant, const struct lease_range *range)
{
	struct model_lease *lease = model_lease(id);

	if (lease)
		broken("I2: lease %llu of guest %d at host %d has the number of another one",
			(ull)id, g, h);
	lease = calloc(1, sizeof(*lease));
	if (!lease)
		broken("out of memory");
	*lease = (struct model_lease){.id = id, .h = h, .g = g, .tenant = tenant, .range = *range};
	HASH_ADD(hh, leases, id, sizeof(lease->id), lease);
}

/* One that has ended, and had nobody to be told, is not in its list any more. */
static bool is_held(int h, const struct model_lease *lease)
{
	struct lease_view view;

	return desk_lease_find(seats[h].desk, lease->id, &view) && view.state != LEASE_WAITING;
}

static void check_alone(const struct model_lease *lease)
{
	for (struct model_lease *other = leases; other; other = other->hh.next) {
		if (other == lease || other->g != lease->g || other->h != lease->h ||
			!other->granted || other->epoch != lease->epoch ||
			!lease_range_overlaps(&other->range, &lease->range))
			continue;
		if (is_held(lease->h, other))
			broken("I1: leases %llu and %llu of guest %d at host %d hold the same byte",
				(ull)other->id, (ull)lease->id, lease->g, lease->h);
	}
}

void model_granted(int h, const struct lease_view *view)
{
	struct model_lease *lease = lease_of(view->id);

	if (lease->granted || lease->over)
		broken("lease %llu is granted again, or after its end", (ull)view->id);
	if (!disk_has_lease(seats[h].disk, view->id))
		broken("lease %llu is granted and not stored", (ull)view->id);
	lease->token = view->token;
	lease->epoch = view->epoch;
	lease->deadline_ns = view->deadline_ns;
	lease->granted = true;
	check_alone(lease);
	world_tallies[W_GRANTS]++;
}

/* Its holder counts on what is left: who takes over waits for that. */
void model_renewed(int h, uint64_t id, uint64_t left_ns)
{
	struct model_lease *lease = lease_of(id);
	struct guest *guest = &world.guests[lease->g];

	if (lease->over)
		broken("I4: lease %llu is renewed after its end was told", (ull)id);
	/* The source does not know yet that it has moved, and has said what was left anyway. */
	if (lease->h != h)
		return;
	/* Milliseconds are rounded down. */
	lease->deadline_ns = planes_clock(h) + left_ns + MS;
	if (guest->leased_by == h && guest->belief_until < world.now + left_ns)
		guest->belief_until = world.now + left_ns;
}

void model_over(int h, uint64_t id)
{
	struct model_lease *lease = model_lease(id);

	/* Of one that nobody was told of a record may be left, and nobody knows its token. */
	if (!lease || !lease->granted)
		return;
	if (lease->h == h && disk_leaves_lease(seats[h].disk, id) && !seats[h].ghost)
		broken("I4: somebody is told that lease %llu is over, and a broker that is killed "
		       "now gives it back",
			(ull)id);
	lease->over = true;
}

void model_ended(int h, const struct lease_view *view)
{
	struct model_lease *lease = lease_of(view->id);

	world_tallies[W_ENDED]++;
	if (view->reason != VMSIG_ERR_MOVED) {
		model_over(h, view->id);
		if (view->reason == VMSIG_ERR_STALE_EPOCH && world.guests[lease->g].leased_by == h)
			world.guests[lease->g].belief_until = 0;
		return;
	}
	if (lease->h == h)
		lease->h = NOWHERE;
}

void model_adopted(int h, const struct lease_view *view)
{
	struct model_lease *lease = lease_of(view->id);

	lease->h = h;
	lease->deadline_ns = view->deadline_ns;
}

/* ---- commands ---- */

struct model_command *model_command_new(void)
{
	struct model_command *command = calloc(1, sizeof(*command));

	if (!command)
		broken("out of memory");
	disk_grow(&numbered, ncommands, &numbered_size, sizeof(*numbered));
	command->number = (unsigned)ncommands;
	numbered[ncommands++] = command;
	return command;
}

void model_command_add(struct model_command *command)
{
	HASH_ADD(hh, commands, key, sizeof(command->key), command);
}

struct model_command *model_command(const struct ledger_key *key)
{
	struct model_command *command = NULL;

	HASH_FIND(hh, commands, key, sizeof(*key), command);
	return command;
}

struct model_command *model_command_numbered(unsigned number)
{
	return number < ncommands ? numbered[number] : NULL;
}

static void check_lease(int h, const struct model_command *command, const struct model_lease *lease)
{
	int g = command->g;

	if (!lease || !lease->granted || lease->token != command->token || lease->g != g)
		broken("I3: bytes of guest %d at host %d under lease %llu, which was not granted",
			g, h, (ull)command->key.lease);
	if (lease->over || lease->ends)
		broken("I4: bytes of guest %d at host %d change under lease %llu, whose end was "
		       "told",
			g, h, (ull)lease->id);
	if (lease->h != h)
		broken("I3: bytes of guest %d at host %d under lease %llu, which is at host %d", g,
			h, (ull)lease->id, lease->h);
	if (planes_clock(h) >= lease->deadline_ns)
		broken("I3: bytes of guest %d at host %d after the deadline of lease %llu", g, h,
			(ull)lease->id);
	if (lease->epoch != world.guests[g].epoch || command->epoch != lease->epoch)
		broken("I3: bytes of guest %d in epoch %u, which is in %u", g, lease->epoch,
			world.guests[g].epoch);
}

void model_admit(int h, struct model_command *command, const struct lease_range *range)
{
	const struct model_lease *lease = model_lease(command->key.lease);
	uint64_t *token = &newest[command->g][range->start / PIECE];

	check_lease(h, command, lease);
	if (range->start < lease->range.start || range->last > lease->range.last)
		broken("I3: 0x%llx-0x%llx of guest %d is outside of lease %llu", (ull)range->start,
			(ull)range->last, command->g, (ull)lease->id);
	if (command->token < *token)
		broken("I3: token %llu of guest %d after token %llu", (ull)command->token,
			command->g, (ull)*token);
	if (command->applied)
		broken("I6: a command of lease %llu is applied at host %d, and was at host %d",
			(ull)lease->id, h, command->applied_at);
	if (command->answered || command->unknown)
		broken("I6: a command of lease %llu is applied at host %d whose outcome was told, "
		       "or that was begun before",
			(ull)lease->id, h);
	*token = command->token;
}

/* ---- what is told of them ---- */

static void check_unknown(const struct model_command *command)
{
	if (!command->unknown && !command->lost && !command->left)
		broken("I7: the outcome of a command of lease %llu is unknown, and need not be",
			(ull)command->key.lease);
	world_tallies[W_UNKNOWN]++;
}

static void check_first(const struct model_command *command, const Vmsig__WriteResult *result)
{
	uint32_t outcome = result->outcome;

	if (outcome == VMSIG_ERR_UNKNOWN_OUTCOME) {
		check_unknown(command);
		return;
	}
	if (command->unknown)
		broken("I7: the outcome of what was begun before a crash is told as %s",
			vmsig_error_name((int)outcome));
	if (outcome == VMSIG_ERR_OK && command->applied != command->bytes)
		broken("I5: OK, and %llu of %llu bytes were written", (ull)command->applied,
			(ull)command->bytes);
	if (outcome != VMSIG_ERR_OK && outcome != VMSIG_ERR_PARTIAL && command->applied)
		broken("I5: %s, and %llu bytes were written", vmsig_error_name((int)outcome),
			(ull)command->applied);
	if (result->written != command->applied)
		broken("I8: %llu bytes are said to be written, and %llu were", (ull)result->written,
			(ull)command->applied);
}

static void check_again(
	int h, const struct model_command *command, const Vmsig__WriteResult *result)
{
	world_tallies[W_REPLAYED]++;
	world_tallies[W_AGAIN] += h != command->answered_at;
	if (command->lost && result->outcome == VMSIG_ERR_UNKNOWN_OUTCOME)
		return;
	if (!result->replayed)
		broken("I6: an outcome is told again as a new one");
	if (result->outcome != command->outcome || result->written != command->written)
		broken("I6: %s of %llu bytes was told before, and now %s of %llu",
			vmsig_error_name((int)command->outcome), (ull)command->written,
			vmsig_error_name((int)result->outcome), (ull)result->written);
}

static void note_error(int h, const struct model_command *command, int error)
{
	struct model_lease *lease = model_lease(command->key.lease);

	world_tallies[W_REFUSED] += error != 0;
	if (lease && lease->granted && lease->token == command->token && lease->h == h &&
		(error == VMSIG_ERR_LEASE_EXPIRED || error == VMSIG_ERR_LEASE_REVOKED))
		lease->ends = true;
}

void model_written(int h, struct model_command *command, const Vmsig__WriteResult *result)
{
	if (command->answered) {
		check_again(h, command, result);
		return;
	}
	check_first(command, result);
	note_error(h, command, (int)result->outcome);
	command->answered = true;
	command->outcome = result->outcome;
	command->written = result->written;
	command->answered_at = h;
}

void model_rejected(int h, struct model_command *command, int error)
{
	if (error == VMSIG_ERR_INTERNAL || error == VMSIG_ERR_REPLAY_MISMATCH)
		broken("I6: a command is rejected with %s", vmsig_error_name(error));
	if (command->applied && command->transmissions == 1)
		broken("I6: %llu bytes of a command are written that is rejected with %s",
			(ull)command->applied, vmsig_error_name(error));
	note_error(h, command, error);
}

/* ---- crashes and moves ---- */

void model_marked(const struct ledger_key *key)
{
	struct model_command *command = model_command(key);

	if (command)
		command->begun = false;
}

void model_left(const struct ledger_key *key)
{
	struct model_command *command = model_command(key);

	if (command)
		command->left = true;
}

void model_crash(int h, bool power)
{
	for (size_t i = 0; i < ncommands; i++) {
		struct model_command *command = numbered[i];
		const struct model_lease *lease = model_lease(command->key.lease);

		if (command->begun && command->applied_at == h)
			command->unknown = true;
		command->begun = false;
		command->lost |= power && lease && lease->h == h;
	}
	for (struct model_lease *lease = leases; lease; lease = lease->hh.next) {
		lease->ends = lease->ends && lease->h != h;
		if (lease->h == h && !disk_has_lease(seats[h].disk, lease->id))
			lease->h = NOWHERE;
		else if (lease->h == h && lease->over)
			broken("I4: lease %llu comes back after somebody was told that it is over",
				(ull)lease->id);
	}
}

void model_check_records(void)
{
	for (size_t i = 0; i < ncommands; i++) {
		const struct model_command *command = numbered[i];

		if (command->answered && !command->recorded && !command->lost && !command->left)
			broken("I5: %s of %llu bytes was told for lease %llu/%llu, and is not "
			       "recorded",
				vmsig_error_name((int)command->outcome), (ull)command->written,
				(ull)command->key.lease, (ull)command->key.sequence);
	}
}
