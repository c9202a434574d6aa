/* SPDX-License-Identifier: Apache-2.0 */
/* The desk's life: started from what is durable, turned, stopped, killed at any of its calls. */
#include "tests/sim/write_world.h"

#include <stdlib.h>
#include <string.h>

#include "broker/policy/share.h"
#include "vmsig/vmsig_error.h"

#define TURNS 400 /* at one moment, after which it spins */

static struct shares *shares;
static bool is_closed;

/* Nothing costs time here. */
static uint64_t no_time(void *ctx)
{
	return 0;
}

static void on_log(
	void *ctx, enum desk_log level, const char *text, const struct desk_fact facts[static 2])
{
	if (!world.ghost)
		say("log: %s", text);
}

static void ops_fill(struct desk_ops *ops)
{
	*ops = (struct desk_ops){
		.records = &disk_records,
		.leases = &disk_leases,
		.ledger = &disk_ledger,
		.marks = &disk_marks,
		.guests = &guest_ops,
		.bulk = &bulk_ops,
		.digest = sim_digest,
		.digests = sim_digests,
		.fd_close = fd_close,
		.log = on_log,
		.ctx = disk,
	};
}

/* Nothing is left of it but what is durable. */
static void clear(bool power)
{
	for (unsigned i = 0; world.desk && i < CLIENTS; i++) {
		if (world.clients[i].connected)
			desk_operator_close(world.desk, world.now, &world.clients[i].op);
	}
	revocations_forget();
	bulk_forget();
	world.desk = desk_free(world.desk);
	shares = shares_free(shares);
	if (fds_open())
		broken("%u descriptors are left", fds_open());
	world.ghost = false;
	world.kill_in = 0;
	world.stopping = false;
	disk_restart(disk, power);
	guests_forget();
	for (unsigned i = 0; power && i < SITES; i++)
		guest_reboot(&world.guests[i]);
	model_crash(power);
}

void broker_bury(bool power)
{
	say("the broker is killed%s", power ? ", and the power cut" : "");
	world.ghost = true;
	clear(power);
	tallies[T_KILLS]++;
}

static void give_up(void)
{
	world.ghost = true;
	clear(false);
}

void broker_start(void)
{
	char error[512];
	struct desk_env env = {.config = policy_config(world.policy),
		.events = &told_events,
		.lease_actions = world.lease_actions};
	int r;

	ops_fill(&env.ops);
	if (shares_new(&shares, &SHARE_LIMITS_DEFAULT, no_time, NULL))
		broken("out of memory");
	env.shares = shares;
	say("the broker starts");
	r = desk_new(&world.desk, &env, world.now, error, sizeof(error));
	if (r) {
		world.desk = NULL;
		give_up();
		return;
	}
	memset(world.passed, 0, sizeof(world.passed));
	world.full_ns = world.now;
}

static void on_closed(void *arg)
{
	is_closed = true;
}

void broker_stop(void)
{
	say("the broker is stopped");
	for (unsigned i = 0; i < CLIENTS; i++)
		operator_disconnect(&world.clients[i]);
	is_closed = false;
	world.stopping = true;
	desk_close(world.desk, world.now, on_closed, NULL);
	for (unsigned turns = 0; !is_closed && !world.ghost; turns++) {
		if (turns == TURNS)
			broken("I10: the desk does not end");
		disk_step(disk);
		bulk_work(true);
		for (unsigned i = 0; i < SITES; i++)
			guest_step(&world.guests[i]);
		(void)broker_turn();
	}
	clear(false);
}

bool broker_turn(void)
{
	bool more = shares_run(shares);

	desk_turn(world.desk, world.now);
	if (world.rests && !shares_pending(shares))
		(void)!desk_rest(world.desk, world.now);
	return desk_delay(world.desk, world.now) == 0 || more || shares_pending(shares);
}

void broker_step(void)
{
	/* Something else may come between two turns. */
	unsigned most = world.faults && dice(4) == 0 ? 1 + dice(3) : TURNS;
	unsigned turns = 0;

	while (!world.ghost && turns < most && broker_turn())
		turns++;
	if (turns == TURNS)
		broken("spin: the desk wants %u turns at one moment", turns);
}

/* As the broker does: connections first. */
void broker_reload(unsigned policy)
{
	say("policy %u", policy);
	world.policy = policy;
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *client = &world.clients[i];
		const struct grant_tenant *tenant = policy_tenant(policy, client->tenant);

		if (tenant)
			client->op.tenant = tenant;
		else
			operator_disconnect(client);
	}
	for (unsigned i = 0; i < world.nleases; i++) {
		struct model_lease *lease = &world.leases[i];

		/* One that has survived a restart is judged when its endpoint is known. */
		if (lease->phase != OVER && desk_endpoint_name(world.desk, lease->site + 1) &&
			!policy_allows(policy, lease))
			model_end(lease, CAUSE_POLICY);
	}
	desk_reload(world.desk, world.now, policy_config(policy));
}
