/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference: what operators were told of leases and commands, and when anything ended. It
 * knows upper bounds: what it does not allow must not happen.
 */
#include "tests/sim/write_world.h"

#include <string.h>

#include "vmsig/vmsig_error.h"

/* ---- leases ---- */

bool ranges_overlap(const struct lease_range *a, size_t na, const struct lease_range *b, size_t nb)
{
	for (size_t i = 0; i < na; i++) {
		for (size_t j = 0; j < nb; j++) {
			if (lease_range_overlaps(&a[i], &b[j]))
				return true;
		}
	}
	return false;
}

/* The less important one may have to go, soon. */
static void note_preemption(struct model_lease *holder, const struct model_lease *wants)
{
	if (holder->site == wants->site && holder->priority < wants->priority &&
		ranges_overlap(holder->ranges, holder->nranges, wants->ranges, wants->nranges))
		holder->causes |= CAUSE_PREEMPTED;
}

void model_ask(struct client *client, const struct model_lease *lease, uint64_t id)
{
	struct model_lease *asked;

	if (world.nleases == LEASES)
		broken("more leases than the reference remembers");
	asked = &world.leases[world.nleases++];
	*asked = *lease;
	asked->id = id;
	asked->client = (unsigned)(client - world.clients);
	asked->tenant = client->tenant;
	asked->uid = client->uid;
	asked->session = client->op.session;
	asked->arrival = ++world.order;
	asked->orphan_ns = UINT64_MAX;
	asked->phase = ASKED;
	for (unsigned i = 0; i < world.nleases - 1; i++) {
		note_preemption(&world.leases[i], asked);
		if (world.leases[i].phase == ASKED)
			note_preemption(asked, &world.leases[i]);
	}
}

/* Ids of what was never stored come again after a restart. */
struct model_lease *model_lease(uint64_t id)
{
	for (unsigned i = world.nleases; i > 0; i--) {
		if (world.leases[i - 1].id == id)
			return &world.leases[i - 1];
	}
	broken("lease %llu, which never was", (unsigned long long)id);
}

void model_end(struct model_lease *lease, unsigned cause)
{
	lease->causes |= cause;
	lease->over = true;
}

void model_over(struct model_lease *lease)
{
	if (lease->token && disk_leaves_lease(disk, lease->id))
		broken("I4: somebody is told that lease %llu is over, and a broker that is killed "
		       "now gives it back",
			(unsigned long long)lease->id);
	lease->told = true;
}

void model_end_site(unsigned site, unsigned cause)
{
	for (unsigned i = 0; i < world.nleases; i++) {
		if (world.leases[i].site == site && world.leases[i].phase != OVER)
			model_end(&world.leases[i], cause);
	}
}

void model_may_end(unsigned cause)
{
	for (unsigned i = 0; i < world.nleases; i++)
		world.leases[i].causes |= cause;
}

bool model_holds(const struct model_lease *lease)
{
	return lease->phase == GRANTED && !lease->over && world.now < lease->deadline_ns &&
	       world.now < lease->orphan_ns;
}

static bool covers(const struct model_lease *lease, const struct lease_range *range)
{
	for (size_t i = 0; i < lease->nranges; i++) {
		if (lease->ranges[i].start <= range->start && range->last <= lease->ranges[i].last)
			return true;
	}
	return false;
}

static void check_lease(const struct model_command *command, const struct model_lease *lease)
{
	const struct guest *guest = guest_find(command->body.endpoint);

	if (lease->phase != GRANTED)
		broken("I3: bytes are admitted for lease %llu, which is not held",
			(unsigned long long)lease->id);
	if (lease->over)
		broken("I4: bytes are admitted for lease %llu after its end (causes 0x%x)",
			(unsigned long long)lease->id, lease->causes);
	if (!model_holds(lease))
		broken("I3: bytes are admitted for lease %llu after its deadline",
			(unsigned long long)lease->id);
	if (command->body.token != lease->token || command->tenant != lease->tenant)
		broken("I3: bytes are admitted for lease %llu of another holder",
			(unsigned long long)lease->id);
	if (!guest->ready || command->body.epoch != guest->epoch || lease->epoch != guest->epoch)
		broken("I3: bytes are admitted in another epoch");
	if (!policy_allows(world.policy, lease))
		broken("I3: bytes are admitted that the policy does not allow");
}

static bool is_same_number(const struct model_command *a, const struct model_command *b)
{
	return a != b && a->lease == b->lease && a->body.sequence == b->body.sequence &&
	       a->body.lease == b->body.lease;
}

/* Nobody else has used its number. */
static void check_number(const struct model_command *command)
{
	for (unsigned i = 0; i < world.ncommands; i++) {
		const struct model_command *other = &world.commands[i];

		if (is_same_number(command, other) && (other->applied || other->answered))
			broken("I6: number %llu of lease %llu is used by two commands",
				(unsigned long long)command->body.sequence,
				(unsigned long long)command->body.lease);
	}
}

void model_admit(const struct model_command *command, const struct lease_range *range)
{
	const struct model_lease *lease = &world.leases[command->lease];

	if (command->lease == LEASES || lease->id != command->body.lease)
		broken("I3: bytes are admitted without a lease");
	check_lease(command, lease);
	if (!covers(lease, range))
		broken("I3: 0x%llx-0x%llx is admitted outside of lease %llu",
			(unsigned long long)range->start, (unsigned long long)range->last,
			(unsigned long long)lease->id);
	if (command->answered)
		broken("I6: bytes are admitted for a command whose outcome was told");
	if (command->unknown)
		broken("I6: bytes are admitted for a command that was begun before the crash");
	if (!command->applied)
		check_number(command);
}

void model_marked(const struct ledger_key *key)
{
	for (unsigned i = world.ncommands; i > 0; i--) {
		struct model_command *command = &world.commands[i - 1];

		if (command->begun && command->body.lease == key->lease &&
			command->body.sequence == key->sequence)
			command->begun = false;
	}
}

/* ---- what the desk lists ---- */

static void check_alone(const struct lease_view *a)
{
	struct lease_view b;
	uint64_t cursor = a->id;

	while (desk_lease_next(world.desk, &cursor, &b)) {
		if (b.state != LEASE_WAITING && b.endpoint == a->endpoint &&
			ranges_overlap(a->ranges, a->nranges, b.ranges, b.nranges))
			broken("I1: leases %llu and %llu hold the same byte",
				(unsigned long long)a->id, (unsigned long long)b.id);
	}
}

static unsigned tenant_of(const char *name)
{
	for (unsigned i = 0; i < TENANTS; i++) {
		if (strcmp(tenant_names[i], name) == 0)
			return i;
	}
	broken("tenant '%s', which never was", name);
}

/* All rules of a tenant have the same numbers; those of a policy that lost it were those. */
static void check_quota(unsigned tenant, unsigned held, unsigned waits)
{
	const struct grant_tenant *entry = policy_tenant(0, tenant);

	if (held > entry->rules[0].leases || waits > entry->rules[0].waits)
		broken("quota: %s holds %u leases and waits for %u", tenant_names[tenant], held,
			waits);
}

/* A store that grants by itself does so while ends cannot be recorded: after a restart more is
 * there than anybody was told of. */
static bool is_left_over(const struct lease_view *view)
{
	return disk_is_shared(disk) && model_lease(view->id)->phase == OVER;
}

void model_check(void)
{
	unsigned held[TENANTS] = {0}, waits[TENANTS] = {0};
	struct lease_view view;
	uint64_t cursor = 0;

	while (desk_lease_next(world.desk, &cursor, &view)) {
		unsigned tenant = tenant_of(view.tenant);

		if (view.state == LEASE_WAITING) {
			waits[tenant]++;
			continue;
		}
		held[tenant] += !is_left_over(&view);
		check_alone(&view);
	}
	for (unsigned i = 0; i < TENANTS; i++)
		check_quota(i, held[i], waits[i]);
}

/* ---- crashes ---- */

static void lease_crash(struct model_lease *lease)
{
	bool lives = lease->token && disk_has_lease(disk, lease->id);

	lease->session = 0;
	lease->causes |= CAUSE_RESTART;
	lease->orphan_ns = UINT64_MAX;
	lease->release = 0;
	lease->released_by = 0;
	if (!lives) {
		lease->phase = OVER;
		lease->over = true;
		return;
	}
	if (lease->told)
		broken("I4: lease %llu comes back after somebody was told that it is over",
			(unsigned long long)lease->id);
	/* An end that was not stored yet, and that nobody was told of, has to be brought about
	 * anew. */
	lease->phase = GRANTED;
	if (!(lease->causes & CAUSE_EPOCH))
		lease->over = false;
}

void model_crash(bool power)
{
	for (unsigned i = 0; i < world.nleases; i++)
		lease_crash(&world.leases[i]);
	for (unsigned i = 0; i < world.ncommands; i++) {
		struct model_command *command = &world.commands[i];

		command->unknown |= command->begun;
		command->lost |= power;
		command->former |= command->applied != 0;
		command->begun = false;
		command->session = 0;
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		world.clients[i].connected = false;
	world.npending = 0;
}

/* ---- requests ---- */

void pending_add(enum waits_for kind, unsigned client, unsigned index, uint64_t request_id)
{
	if (world.npending == PENDING)
		broken("more requests than the reference remembers");
	world.pending[world.npending++] = (struct pending){
		.kind = kind, .client = client, .index = index, .request_id = request_id};
}

const struct pending *pending_next(void)
{
	return world.npending ? &world.pending[0] : NULL;
}

static void pending_drop(unsigned i)
{
	world.npending--;
	memmove(&world.pending[i], &world.pending[i + 1],
		(world.npending - i) * sizeof(world.pending[0]));
}

bool pending_take(enum waits_for kind, unsigned client, uint64_t request_id, unsigned *ret_index)
{
	for (unsigned i = 0; i < world.npending; i++) {
		const struct pending *pending = &world.pending[i];

		if (pending->kind != kind || pending->client != client ||
			pending->request_id != request_id)
			continue;
		*ret_index = pending->index;
		pending_drop(i);
		return true;
	}
	return false;
}

void pending_drop_client(unsigned client)
{
	for (unsigned i = world.npending; i > 0; i--) {
		if (world.pending[i - 1].client == client)
			pending_drop(i - 1);
	}
}
