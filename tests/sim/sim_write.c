/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deterministic simulation of the write plane: the real broker/write/, lease/ and
 * broker/memwrite/ in a world that is made up (write_world.h), against a reference that only
 * knows what operators were told. The disk is slow, full or fails, the broker is killed at any
 * of its calls and starts from what was durable, guests turn their page tables and take what was
 * written, endpoints are reset and removed, policies change, operators vanish and come back.
 * Checked after every step, and at each store into a guest:
 *   I1   no byte has two leases              I2   tokens of an endpoint rise
 *   I3   bytes change inside lease, deadline, token, epoch and policy
 *   I4   and never after the end was told    I5   what was told is recorded, and in the guest
 *   I6   each number is applied once, and a repeated answer is the same
 *   I7   what is unknown is told as unknown, and nothing else
 *   I8   a part is told with its length      I9   nobody is overtaken
 *   I10  when the faults stop, everything is answered
 *   I11  the wall clock decides nothing      I12  records stand in the order of their batches
 *   I17  what changed was admitted and is named by a durable intent
 *   quota, charge, order, spin, want_old: nobody gets more than the policy says; what was
 *   charged comes back; releases keep their place; the desk sleeps when it can do nothing; the
 *   bytes before come with a repeated answer
 *
 *   sim_write [--seeds N] [--first S] [--seed S] [--steps N] [--only A-B,C] [--verbose 1]
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "broker/memwrite/fault.h"
#include "tests/sim/write_world.h"
#include "vmsig/vmsig_error.h"

struct world world;
struct disk *disk;
unsigned long long tallies[TALLIES];

bool is_ghost(void)
{
	if (!world.ghost && world.kill_in && --world.kill_in == 0) {
		say("the broker is a ghost from here on");
		world.ghost = true;
	}
	return world.ghost;
}

/* An assertion has a seed, too. Nothing goes on after it. */
static void on_abort(int signum)
{
	broken("assert: see above"); /* NOLINT(bugprone-signal-handler) */
}

/* ---- steps ---- */

struct revocation {
	struct desk_wait wait;
	unsigned lease; /* index */
	uint64_t request_id;
	struct revocation *prev, *next;
};

static struct revocation *revocations;

static void revocation_drop(struct revocation *revocation)
{
	desk_wait_cancel(&revocation->wait);
	DL_DELETE(revocations, revocation);
	free(revocation);
}

/* The administrator was told. */
static void revoked(unsigned index, int error)
{
	struct model_lease *lease = &world.leases[index];

	say("the revocation of lease %llu is answered: %s", (unsigned long long)lease->id,
		vmsig_error_name(error));
	if (error == -ENOMEM)
		return;
	if (error && error != VMSIG_ERR_NO_LEASE && error != VMSIG_ERR_IO)
		broken("a revocation is answered with %s", vmsig_error_name(error));
	/* Of an endpoint that the desk does not know yet nothing is said. */
	if (error != VMSIG_ERR_IO && desk_endpoint_name(world.desk, lease->site + 1))
		model_over(lease);
}

static void on_revoked(struct desk_wait *wait, int error, const char *detail)
{
	struct revocation *revocation = (struct revocation *)(void *)wait;
	unsigned index = revocation->lease;

	if (!world.ghost && !pending_take(WAITS_REVOKE, CLIENTS, revocation->request_id, &index))
		broken("a revocation is answered twice");
	revocation_drop(revocation);
	if (!world.ghost)
		revoked(index, error);
}

void revocations_forget(void)
{
	while (revocations)
		revocation_drop(revocations);
}

static void revoke_lease(unsigned index)
{
	static char star[] = "*", root[] = "root";
	static char *all[] = {star};
	static const struct tenant tenant = {.name = root, .endpoints = all, .nendpoints = 1};
	const struct desk_admin admin = {.tenant = &tenant, .serial = "1"};
	struct revocation *revocation = calloc(1, sizeof(*revocation));
	struct model_lease *lease = &world.leases[index];
	bool later;
	int r;

	if (!revocation)
		broken("out of memory");
	revocation->wait.done = on_revoked;
	revocation->lease = index;
	DL_APPEND(revocations, revocation);
	r = desk_revoke(world.desk, world.now, &admin, lease->id, &revocation->wait, &later);
	if (!r && !world.ghost && lease->phase != OVER)
		model_end(lease, CAUSE_REVOKED);
	if (later && !world.ghost) {
		revocation->request_id = ++world.request_id;
		pending_add(WAITS_REVOKE, CLIENTS, index, revocation->request_id);
		return;
	}
	revocation_drop(revocation);
	if (!world.ghost)
		revoked(index, r);
}

/* Of the newest ones, sometimes twice. */
static void do_revoke(void)
{
	unsigned index;

	if (!world.nleases)
		return;
	index = world.nleases - 1 - dice(world.nleases < 8 ? world.nleases : 8);
	index = (unsigned)(model_lease(world.leases[index].id) - world.leases);
	for (unsigned n = 1 + (dice(4) == 0); n > 0 && !world.ghost; n--)
		revoke_lease(index);
}

static void do_time(void)
{
	world.now += dice(dice(8) ? 12 : 120) * MS;
	/* The wall clock has dice of its own. */
	world.wall += 10 * MS;
	if (sim_roll(&world.wall_random) % 16 == 0)
		world.wall = 1ull << 60 | sim_roll(&world.wall_random) >> 8;
}

static void do_kill(void)
{
	/* In the middle of something, or between two things. */
	if (dice(3))
		world.kill_in = 1 + dice(dice(2) ? 10 : 100);
	else
		world.ghost = true;
}

static void do_fault(void)
{
	if (world.kill_sides && dice(world.kill_sides) == 0)
		do_kill();
	switch (dice(64)) {
	case 0:
		broker_reload(dice(3) ? 0 : dice(POLICIES));
		break;
	case 1:
		do_revoke();
		break;
	case 2:
		desk_flush(world.desk, world.now);
		break;
	case 3:
		desk_forget(world.desk);
		break;
	case 4:
		if (dice(8) == 0)
			broker_stop();
		break;
	default:
		break;
	}
}

static void step(void)
{
	do_time();
	if (!world.desk) {
		if (dice(2))
			broker_start();
		return;
	}
	for (unsigned i = 0; i < SITES && !world.ghost; i++)
		guest_step(&world.guests[i]);
	for (unsigned n = 1 + dice(2); n > 0 && !world.ghost; n--)
		operator_step(&world.clients[dice(CLIENTS)]);
	if (!world.ghost)
		do_fault();
	if (world.desk && !world.ghost)
		disk_step(disk);
	if (world.desk && !world.ghost)
		bulk_work(false);
	if (world.desk && !world.ghost && dice(5))
		broker_step();
	if (world.ghost) {
		broker_bury(dice(10) == 0);
		if (dice(3) == 0)
			world.policy = dice(POLICIES);
		world.now += dice(dice(2) ? 6 : 60) * MS;
		return;
	}
	if (!world.desk)
		return;
	model_check();
	for (unsigned i = 0; sim.step % 16 == 0 && i < SITES; i++)
		guest_check(&world.guests[i]);
}

/* ---- seeds ---- */

static bool ask_ghost(void *arg)
{
	return is_ghost();
}

static void time_is_lost(void *arg)
{
	model_may_end(CAUSE_DISK);
}

static void marked(void *arg, const struct ledger_key *key)
{
	model_marked(key);
}

static void disk_make(void)
{
	const struct disk_env env = {.now_ns = &world.now,
		.wall_ns = &world.wall,
		.faults = &world.faults,
		.fault_sides = &world.fault_sides,
		.sync_sides = 60,
		.desk = &world.desk,
		.endpoints = SITES,
		.is_ghost = ask_ghost,
		.may_end = time_is_lost,
		.marked = marked};

	disk = disk_new(&env);
}

static void world_make(uint64_t seed, uint64_t wall)
{
	static const unsigned tenants[CLIENTS] = {2, 2, 1, 1, 0};
	struct guest guests[SITES];

	memcpy(guests, world.guests, sizeof(guests));
	memset(&world, 0, sizeof(world));
	memcpy(world.guests, guests, sizeof(guests));
	sim_begin(seed);
	sim.now_ns = &world.now;
	world.wall = world.wall_random = wall;
	world.now = 1000 * MS;
	world.faults = true;
	sim.faults = &world.faults;
	world.rests = seed % 2;
	world.kill_sides = (const uint32_t[]){0, 200, 100, 40}[dice(4)];
	world.fault_sides = (const uint32_t[]){0, 100, 40, 20}[dice(4)];
	world.lease_actions = (const unsigned[]){1, 3, 8, 16, 64}[dice(5)];
	for (unsigned i = 0; i < CLIENTS; i++)
		world.clients[i] = (struct client){.tenant = tenants[i], .uid = 1001 + tenants[i]};
	disk_make();
	guests_make();
}

/* Returns a sum of what was told. */
static uint64_t run(uint64_t seed, unsigned steps, uint64_t wall)
{
	world_make(seed, wall);
	while (sim_next(steps))
		step();
	settle();
	disk = disk_free(disk);
	return world.trace;
}

static void run_twice(uint64_t seed, unsigned steps)
{
	uint64_t first = run(seed, steps, 0x1234567);

	if (seed % 8 == 0 && run(seed, steps, 0x7654321 + seed) != first)
		broken("I11: with another wall clock something else was told");
}

int main(int argc, char **argv)
{
	struct sim_options options = {.first = 1, .seeds = 100, .steps = 400};

	sim_options(&options, argc, argv, "", NULL);
	if (fault_setup() || signal(SIGABRT, on_abort) == SIG_ERR)
		broken("no handlers of signals");
	for (uint64_t i = 0; i < options.seeds; i++)
		run_twice(options.first + i, options.steps);
	printf("%llu seeds of %u steps: %llu grants, %llu stores, %llu parts, %llu unknown, %llu "
	       "told again, %llu rejected, %llu kills\n",
		(unsigned long long)options.seeds, options.steps, tallies[T_GRANTS],
		tallies[T_APPLIED], tallies[T_PARTIAL], tallies[T_UNKNOWN], tallies[T_REPLAYED],
		tallies[T_REJECTED], tallies[T_KILLS]);
	/* What has seen nothing has checked nothing. */
	return tallies[T_GRANTS] && tallies[T_APPLIED] && tallies[T_REPLAYED] ? 0 : 1;
}
