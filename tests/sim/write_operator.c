/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operators: they come and go, take leases and give them back, write under their own and now and
 * then under others', send again what has no answer and what has one, and sometimes another
 * command under a used number.
 */
#include "tests/sim/write_world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

static unsigned index_of(const struct client *client)
{
	return (unsigned)(client - world.clients);
}

static uint64_t next_request(void)
{
	return ++world.request_id;
}

/* ---- connections ---- */

static void resume_all(struct client *client)
{
	for (unsigned i = 0; i < world.nleases; i++) {
		struct model_lease *lease = &world.leases[i];

		if (lease->tenant == client->tenant && lease->phase == GRANTED && !lease->session &&
			dice(4))
			operator_resume(client, lease);
	}
}

/* What was left out before the connection was lost comes ahead of what is sent again. */
static void write_skipped(struct client *client)
{
	for (unsigned i = 0; i < world.nleases; i++) {
		struct model_lease *lease = &world.leases[i];

		if (lease->skipped && lease->session == client->op.session &&
			lease->phase == GRANTED)
			(void)!operator_write(client, lease);
	}
}

void operator_resume(struct client *client, struct model_lease *lease)
{
	int r = desk_resume(world.desk, world.now, &client->op, lease->id, lease->token);

	if (r || world.ghost)
		return;
	/* Of one of an epoch that is over the desk knows so when the endpoint is there. */
	if (lease->over && !(lease->causes & CAUSE_EPOCH))
		broken("I4: lease %llu is resumed after its end (causes 0x%x)",
			(unsigned long long)lease->id, lease->causes);
	if (world.now >= lease->deadline_ns || world.now >= lease->orphan_ns)
		broken("I3: lease %llu is resumed after its deadline",
			(unsigned long long)lease->id);
	lease->session = client->op.session;
	lease->client = index_of(client);
	lease->orphan_ns = UINT64_MAX;
}

void operator_connect(struct client *client)
{
	const struct grant_tenant *tenant = policy_tenant(world.policy, client->tenant);
	int r;

	if (!tenant || !world.desk)
		return;
	client->op = (struct desk_operator){.tenant = tenant,
		.uid = client->uid,
		.pid = 100 + index_of(client),
		.client = client};
	snprintf(client->op.serial, sizeof(client->op.serial), "%u", index_of(client));
	r = desk_operator_open(world.desk, &client->op);
	if (r == -ENOMEM && world.faults)
		return;
	if (r)
		broken("an operator is not let in");
	client->connected = true;
	say("%s is there", tenant_names[client->tenant]);
	resume_all(client);
	write_skipped(client);
	operator_retransmit(client);
}

void operator_disconnect(struct client *client)
{
	uint64_t session = client->op.session;

	if (!client->connected)
		return;
	say("%s is gone", tenant_names[client->tenant]);
	client->connected = false;
	desk_operator_close(world.desk, world.now, &client->op);
	pending_drop_client(index_of(client));
	for (unsigned i = 0; i < world.nleases; i++) {
		struct model_lease *lease = &world.leases[i];

		if (lease->session != session)
			continue;
		lease->session = 0;
		lease->causes |= CAUSE_GONE;
		lease->orphan_ns = world.now + RESUME_NS;
		if (lease->phase == ASKED)
			lease->phase = OVER;
	}
}

/* ---- leases ---- */

/* Whether anybody but the asker's own release is in the way: one that was over before it, and
 * drains, is. */
static bool is_in_the_way(
	const struct client *client, unsigned site, const struct lease_range *ranges, size_t n)
{
	struct lease_view view;
	uint64_t cursor = 0;

	while (desk_lease_next(world.desk, &cursor, &view)) {
		const struct model_lease *lease;

		if (view.endpoint != site + 1 ||
			!ranges_overlap(view.ranges, view.nranges, ranges, n))
			continue;
		lease = model_lease(view.id);
		if (!lease->release || lease->released_by != client->op.session ||
			view.state == LEASE_WAITING || view.reason)
			return true;
	}
	return false;
}

static void check_refusal(
	const struct client *client, const struct model_lease *lease, bool no_wait, int error)
{
	if (world.ghost)
		return;
	if (error == VMSIG_ERR_INTERNAL || (error < 0 && (error != -ENOMEM || !world.faults)))
		broken("a request for a lease is refused with %d", error);
	if (error != VMSIG_ERR_LEASE_HELD)
		return;
	if (!no_wait)
		broken("somebody who would wait is refused with LEASE_HELD");
	if (!is_in_the_way(client, lease->site, lease->ranges, lease->nranges))
		broken("order: a lease is refused that its asker's own release gives back");
}

static void request_fill(Vmsig__LeaseAcquire *request, const struct model_lease *lease,
	Vmsig__Range *ranges, Vmsig__Range **pointers)
{
	for (size_t i = 0; i < lease->nranges; i++) {
		vmsig__range__init(&ranges[i]);
		ranges[i].start = lease->ranges[i].start;
		ranges[i].last = lease->ranges[i].last;
		pointers[i] = &ranges[i];
	}
	request->endpoint = (char *)(uintptr_t)world.guests[lease->site].name;
	request->ranges = pointers;
	request->n_ranges = lease->nranges;
	request->ttl_ms = (uint32_t)(lease->ttl_ns / MS);
	request->wait_ms = (uint32_t)(lease->wait_ns / MS);
	request->priority = lease->priority;
}

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
	return value < low ? low : value > high ? high : value;
}

int operator_acquire(struct client *client, const struct model_lease *wanted, bool no_wait)
{
	Vmsig__LeaseAcquire request = VMSIG__LEASE_ACQUIRE__INIT;
	Vmsig__Range ranges[2], *pointers[2];
	struct model_lease lease = *wanted;
	uint64_t id;
	bool waits;
	int r;

	request_fill(&request, &lease, ranges, pointers);
	request.no_wait = no_wait;
	r = desk_acquire(world.desk, world.now, &client->op, &request, &id, &waits);
	if (r || world.ghost) {
		say("%s is refused at once: %s (%s)", tenant_names[client->tenant],
			vmsig_error_name(r), client->op.detail);
		check_refusal(client, &lease, no_wait, r);
		return r;
	}
	lease.ttl_ns = clamp(lease.ttl_ns, TTL_MIN_NS, TTL_MAX_NS);
	say("%s asks for lease %llu: 0x%llx-0x%llx of %s", tenant_names[client->tenant],
		(unsigned long long)id, (unsigned long long)lease.ranges[0].start,
		(unsigned long long)lease.ranges[0].last, request.endpoint);
	model_ask(client, &lease, id);
	pending_add(WAITS_LEASE, index_of(client), world.nleases - 1, id);
	return 0;
}

static void ranges_roll(struct model_lease *lease, unsigned pages)
{
	uint64_t at = dice(3) ? dice(pages / 2) : dice(8);

	lease->nranges = 1 + dice(2);
	for (size_t i = 0; i < lease->nranges; i++) {
		lease->ranges[i].start = at * PAGE;
		at += 1 + dice(dice(4) ? 40 : 110);
		if (at > pages)
			at = pages;
		lease->ranges[i].last = at * PAGE - 1;
		at += dice(4);
		if (at >= pages)
			lease->nranges = i + 1;
	}
}

static void acquire(struct client *client)
{
	struct model_lease lease = {.site = dice(SITES),
		.ttl_ns = (20 + dice(500)) * MS,
		.wait_ns = (1 + dice(1000)) * MS};
	const struct grant_rule *rule = policy_rule(world.policy, client->tenant, lease.site);

	/* Now and then it asks for what it may not have. */
	lease.priority = rule ? dice(rule->priority_max + (dice(16) ? 1 : 2)) : 0;
	ranges_roll(&lease, rule && rule->nranges && dice(16) ? PAGES / 2 : PAGES);
	(void)!operator_acquire(client, &lease, dice(3) == 0);
}

/* One that was sent before waits for its turn. */
static bool is_releasing(const struct model_lease *lease)
{
	for (unsigned i = 0; i < world.npending; i++) {
		if (world.pending[i].kind == WAITS_RELEASE &&
			&world.leases[world.pending[i].index] == lease)
			return true;
	}
	return false;
}

void operator_release(struct client *client, struct model_lease *lease)
{
	uint64_t request_id = next_request();
	bool later = false;
	int r;

	r = desk_release(
		world.desk, world.now, &client->op, request_id, lease->id, lease->token, &later);
	say("%s releases lease %llu: %s%s", tenant_names[client->tenant],
		(unsigned long long)lease->id, vmsig_error_name(r), later ? ", later" : "");
	if (r == VMSIG_ERR_NO_LEASE && !world.ghost && client->tenant == lease->tenant)
		model_over(lease);
	if (r || world.ghost)
		return;
	if (!lease->release)
		lease->release = ++world.order;
	lease->released_by = client->op.session;
	if (later)
		pending_add(WAITS_RELEASE, index_of(client), (unsigned)(lease - world.leases),
			request_id);
	else if (lease->phase == GRANTED && !is_releasing(lease)) {
		model_end(lease, CAUSE_RELEASE);
		model_over(lease);
	}
}

static void renew(struct client *client, struct model_lease *lease)
{
	uint32_t left_ms = 0;
	int r = desk_renew(world.desk, world.now, &client->op, lease->id, lease->token, &left_ms);

	if (r || world.ghost)
		return;
	if (!model_holds(lease) && !(lease->causes & CAUSE_EPOCH))
		broken("I3: lease %llu is renewed after its end", (unsigned long long)lease->id);
	if (left_ms * MS > lease->ttl_ns)
		broken("I3: lease %llu is renewed for longer than its TTL",
			(unsigned long long)lease->id);
	/* Milliseconds are rounded down. */
	lease->deadline_ns = world.now + left_ms * MS + MS;
}

/* ---- writes ---- */

static void transmit(struct client *client, struct model_command *command)
{
	uint64_t request_id = next_request();
	int fd = command->body.bulk ? fd_open((unsigned)(command - world.commands)) : -1;

	say("%s sends command %zu of lease %llu/%llu: %llu bytes%s%s%s",
		tenant_names[client->tenant], (size_t)(command - world.commands),
		(unsigned long long)command->body.lease, (unsigned long long)command->body.sequence,
		(unsigned long long)command->body.bytes, command->body.bulk ? ", bulk" : "",
		command->body.quiesce ? ", quiesced" : "", command->transmissions ? ", again" : "");
	command->order = ++world.order;
	command->client = index_of(client);
	command->session = client->op.session;
	command->transmissions++;
	pending_add(
		WAITS_WRITE, index_of(client), (unsigned)(command - world.commands), request_id);
	desk_write(world.desk, world.now, &client->op, body_pack(command, request_id), fd);
}

static struct model_command *command_new(struct client *client, const struct model_lease *lease)
{
	struct model_command *command;

	if (world.ncommands == COMMANDS)
		return NULL;
	command = &world.commands[world.ncommands++];
	*command = (struct model_command){.lease = (unsigned)(lease - world.leases),
		.tenant = client->tenant,
		.site = lease->site};
	command->body.lease = lease->id;
	command->body.token = lease->token;
	command->body.endpoint = lease->site + 1;
	command->body.epoch = lease->epoch;
	command->body.writer = 7;
	command->early = lease->phase == ASKED;
	return command;
}

static void rule_note(struct model_command *command)
{
	const struct grant_rule *rule = policy_rule(world.policy, command->tenant, command->site);
	const struct grant_tenant *tenant = policy_tenant(world.policy, command->tenant);

	command->rule = rule && tenant ? (unsigned)(rule - tenant->rules) : 0;
}

/* Numbers need not come in order. */
static uint64_t sequence_roll(struct model_lease *lease)
{
	uint64_t skipped = lease->skipped;

	if (skipped && dice(4) == 0) {
		lease->skipped = 0;
		return skipped;
	}
	if (!skipped && dice(6) == 0)
		lease->skipped = ++lease->sequence;
	return ++lease->sequence;
}

struct model_command *operator_write(struct client *client, struct model_lease *lease)
{
	struct model_command *command = command_new(client, lease);

	if (!command)
		return NULL;
	rule_note(command);
	command->body.sequence = sequence_roll(lease);
	body_roll(command, lease, &world.guests[lease->site]);
	if (dice(20) == 0)
		command->body.token += dice(2) ? 1 : UINT64_MAX;
	if (dice(40) == 0)
		command->body.epoch += dice(2) ? 1 : UINT32_MAX;
	transmit(client, command);
	return command;
}

/* Of one page, which the lease is. */
void operator_write_word(struct client *client, struct model_lease *lease)
{
	struct model_command *command = command_new(client, lease);

	if (!command)
		return;
	rule_note(command);
	command->body.sequence = ++lease->sequence;
	command->body.nops = 1;
	command->body.bytes = WORD;
	command->body.ops[0] = (struct body_op){.addr = lease->ranges[0].start, .words = 1};
	transmit(client, command);
}

/* The same number for something else: of bulk data it may be nothing but the data. */
static void write_other(struct client *client, const struct model_command *before)
{
	struct model_lease *lease = &world.leases[before->lease];
	struct model_command *command = command_new(client, lease);

	if (!command)
		return;
	rule_note(command);
	command->body.sequence = before->body.sequence;
	if (before->body.bulk && dice(3))
		command->body = before->body;
	else
		body_roll(command, lease, &world.guests[lease->site]);
	transmit(client, command);
}

static void write_again(struct client *client)
{
	struct model_command *command;

	if (!world.ncommands)
		return;
	command = &world.commands[world.ncommands - 1 -
				  dice(world.ncommands < 12 ? world.ncommands : 12)];
	if (command->tenant != client->tenant || command->lease == LEASES)
		return;
	if (dice(6) == 0)
		write_other(client, command);
	else
		transmit(client, command);
}

/* The answer may have been lost with the connection. */
static bool is_to_be_asked_again(const struct model_command *command)
{
	if (command->rejected)
		return false;
	if (!command->answered)
		return dice(8);
	return command->lease != LEASES && world.leases[command->lease].phase == GRANTED && dice(2);
}

/* What was sent and has no answer, by whoever of the tenant is there; some of what has one. */
void operator_retransmit(struct client *client)
{
	for (unsigned i = 0; i < world.ncommands; i++) {
		struct model_command *command = &world.commands[i];

		if (command->tenant == client->tenant && command->client == index_of(client) &&
			command->session != client->op.session && is_to_be_asked_again(command))
			transmit(client, command);
	}
}

/* ---- steps ---- */

static struct model_lease *own_lease(const struct client *client, bool held)
{
	struct model_lease *lease = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < world.nleases; i++) {
		struct model_lease *other = &world.leases[i];

		if (other->session == client->op.session &&
			(held ? other->phase == GRANTED : other->phase != OVER) && dice(++n) == 0)
			lease = other;
	}
	return lease;
}

static struct model_lease *any_lease(void)
{
	return world.nleases ? &world.leases[dice(world.nleases)] : NULL;
}

/* All of it in one go: nothing may overtake anything. */
static void burst(struct client *client, struct model_lease *lease)
{
	struct model_lease wanted = *lease;
	unsigned n = 1 + dice(6);

	for (unsigned i = 0; i < n; i++)
		(void)!operator_write(client, lease);
	operator_release(client, lease);
	wanted = (struct model_lease){.site = wanted.site,
		.ttl_ns = wanted.ttl_ns,
		.wait_ns = WAIT_NS,
		.ranges = {wanted.ranges[0], wanted.ranges[1]},
		.nranges = wanted.nranges,
		.priority = wanted.priority};
	if (dice(2))
		(void)!operator_acquire(client, &wanted, dice(2));
}

static void with_lease(struct client *client, struct model_lease *lease)
{
	switch (dice(20)) {
	case 0:
	case 1:
		operator_release(client, lease);
		break;
	case 2:
	case 3:
	case 4:
		renew(client, lease);
		break;
	case 5:
	case 6:
		burst(client, lease);
		break;
	default:
		(void)!operator_write(client, lease);
	}
}

void operator_step(struct client *client)
{
	struct model_lease *held, *other;
	unsigned what = dice(24);

	if (!client->connected) {
		if (dice(2))
			operator_connect(client);
		return;
	}
	held = own_lease(client, true);
	if (what == 0 && world.faults) {
		operator_disconnect(client);
	} else if (what == 1 && (other = any_lease())) {
		/* Whose ever it is. */
		(void)!operator_write(client, other);
	} else if (what == 2 && (other = own_lease(client, false))) {
		operator_release(client, other);
	} else if (what < 6) {
		write_again(client);
	} else if (!held || what < 9) {
		acquire(client);
	} else {
		with_lease(client, held);
	}
}
