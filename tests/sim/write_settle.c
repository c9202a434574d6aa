/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a seed: the faults stop. Every request has its answer and every waiter its turn
 * within the times that leases may take (I10); what was charged is given back, so that everybody
 * may do again what the policy says; and what was told is recorded.
 */
#include "tests/sim/write_world.h"

#include "vmsig/vmsig_error.h"

#define ROUNDS 4000

/* A moment in which everything that waits for the world is done. */
static void quiet_step(void)
{
	disk_step(disk);
	bulk_work(true);
	for (unsigned i = 0; i < SITES; i++)
		guest_step(&world.guests[i]);
	broker_step();
	model_check();
}

/* Time runs to where the desk has something to do, or a little. */
static void pass(uint64_t most_ns)
{
	uint64_t delay = desk_delay(world.desk, world.now);

	world.now += delay < most_ns ? delay : most_ns;
}

__attribute__((noreturn)) static void say_pending(const struct pending *pending)
{
	if (pending->kind == WAITS_WRITE)
		broken("I10: command %u (lease %llu/%llu) has no answer", pending->index,
			(unsigned long long)world.commands[pending->index].body.lease,
			(unsigned long long)world.commands[pending->index].body.sequence);
	broken("I10: the %s of lease %llu has no answer",
		pending->kind == WAITS_LEASE     ? "request"
		: pending->kind == WAITS_RELEASE ? "release"
						 : "revocation",
		(unsigned long long)world.leases[pending->index].id);
}

/* Nobody renews and nobody asks any more. */
static void answer_all(void)
{
	uint64_t bound = world.now + WAIT_NS + HOLD_NS + PREEMPT_NS + RESUME_NS;

	for (unsigned round = 0; pending_next(); round++) {
		if (world.now > bound || round == ROUNDS)
			say_pending(pending_next());
		quiet_step();
		pass(5 * MS);
	}
}

/* What is held runs out. */
static void end_all(void)
{
	uint64_t bound = world.now + TTL_MAX_NS + PREEMPT_NS + RESUME_NS, cursor = 0;
	struct lease_view view;

	while (desk_lease_next(world.desk, &cursor, &view)) {
		if (world.now > bound)
			broken("I10: lease %llu does not end", (unsigned long long)view.id);
		quiet_step();
		pass(20 * MS);
		cursor = 0;
	}
	/* The rest of it: what could not be recorded is tried again now and then. */
	for (unsigned i = 0; i < 20; i++) {
		quiet_step();
		pass(50 * MS);
	}
}

/* To everybody who was there. */
static void check_ends(void)
{
	for (unsigned i = 0; i < world.nleases; i++) {
		const struct model_lease *lease = &world.leases[i];

		if (lease->phase != OVER && lease->session)
			broken("I10: nobody was told of the end of lease %llu",
				(unsigned long long)lease->id);
	}
}

static void check_charges(void)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		const struct desk_operator *op = &world.clients[i].op;

		if (!world.clients[i].connected)
			continue;
		for (unsigned slot = DESK_WRITES; slot <= DESK_BYTES; slot++) {
			if (account_used(&op->account, slot))
				broken("charge: %llu stay charged for slot %u",
					(unsigned long long)account_used(&op->account, slot), slot);
		}
		if (op->releases)
			broken("charge: %u releases stay counted", op->releases);
	}
	if (fds_open())
		broken("charge: %u descriptors stay open", fds_open());
	if (rooms_used())
		broken("charge: %u rooms for bytes before stay in use", rooms_used());
	if (disk_marks_used(disk))
		broken("charge: %u marks stay in use", disk_marks_used(disk));
}

/* All that the policy lets a tenant hold at once can be had, and written to. */
static void check_usable(struct client *client)
{
	const struct grant_rule *rule = policy_rule(world.policy, client->tenant, 1);
	unsigned first = world.nleases, before = world.ncommands;

	for (unsigned i = 0; i < rule->leases; i++) {
		struct model_lease wanted = {.site = 1, .ttl_ns = 200 * MS, .nranges = 1};
		int r;

		wanted.ranges[0] = (struct lease_range){(8 + i) * PAGE, (9 + i) * PAGE - 1};
		r = operator_acquire(client, &wanted, true);
		if (r)
			broken("charge: %s is refused lease %u of %u with %s",
				tenant_names[client->tenant], i + 1, rule->leases,
				vmsig_error_name(r));
		quiet_step();
	}
	answer_all();
	for (unsigned i = first; i < world.nleases; i++) {
		struct model_lease *lease = &world.leases[i];

		if (lease->phase != GRANTED)
			broken("charge: %s has lease %u of %u no more",
				tenant_names[client->tenant], i - first + 1, rule->leases);
		operator_write_word(client, lease);
	}
	answer_all();
	for (unsigned i = before; i < world.ncommands; i++) {
		if (!world.commands[i].answered || world.commands[i].outcome)
			broken("charge: %s may not write: %s", tenant_names[client->tenant],
				world.commands[i].answered
					? vmsig_error_name((int)world.commands[i].outcome)
					: "rejected");
	}
	for (unsigned i = first; i < world.nleases; i++)
		operator_release(client, &world.leases[i]);
	answer_all();
}

void settle(void)
{
	say("the faults stop");
	world.faults = false;
	world.kill_in = 0;
	disk_heal(disk);
	if (world.desk && disk_is_lost(disk))
		broker_bury(false);
	while (!world.desk)
		broker_start();
	broker_reload(0);
	for (unsigned i = 0; i < SITES; i++) {
		guest_regrow(&world.guests[i]);
		guest_ready(&world.guests[i]);
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (!world.clients[i].connected)
			operator_connect(&world.clients[i]);
	}
	answer_all();
	for (unsigned i = 0; i < CLIENTS; i++)
		operator_retransmit(&world.clients[i]);
	answer_all();
	end_all();
	/* What a second's rate was spent on is there again, and so are the marks. */
	world.now += 6000 * MS;
	end_all();
	check_ends();
	check_charges();
	for (unsigned i = 0; i < CLIENTS; i++)
		check_usable(&world.clients[i]);
	end_all();
	check_ends();
	check_charges();
	broker_stop();
	records_check();
}
