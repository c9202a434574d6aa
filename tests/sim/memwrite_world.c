/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/memwrite_world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct world world;

static const struct lease_limits limits = {.leases = 64,
	.waiters = 8,
	.ranges = 4,
	.preempt_grace_ns = 20 * MS,
	.resume_grace_ns = 30 * MS};
static const struct lease_terms terms = {.ttl_min_ns = 5 * MS,
	.ttl_max_ns = 100 * MS,
	.hold_max_ns = 400 * MS,
	.wait_max_ns = 100 * MS,
	.leases = 8,
	.waits = 8};

void must(int r, const char *what)
{
	if (r)
		broken("%s: %d", what, r);
}

/* ---- the guest's memory ---- */

void ram_write(uint64_t at, const void *data, size_t len)
{
	if (pwrite(world.fd, data, len, (off_t)at) != (ssize_t)len)
		broken("cannot write the RAM file");
	memcpy(world.expected + at, data, len);
	memcpy(world.at_end + at, data, len);
}

/* Where the file has shrunk there is nothing. */
void ram_read(uint8_t ram[static SIZE])
{
	memset(ram, 0, SIZE);
	if (pread(world.fd, ram, SIZE, 0) < 0)
		broken("cannot read the RAM file");
}

static void leaf_roll(unsigned index)
{
	const uint64_t entry = dice(12) ? (uint64_t)dice(PAGES) * PAGE | 7 : 0;

	ram_write(LEAF + index * 8u, &entry, sizeof(entry));
}

static void tables_make(void)
{
	for (unsigned level = 0; level < 3; level++) {
		const uint64_t entry = (ROOT + (level + 1) * PAGE) | 7;

		ram_write(ROOT + level * PAGE, &entry, sizeof(entry));
	}
	for (unsigned i = 0; i < PAGES; i++)
		leaf_roll(i);
}

static void target_make(void)
{
	static const vmsig_memseg segs[] = {{0, SIZE / 2, SIZE / 2}, {SIZE / 2, SIZE / 2, 0}};
	/* In one of two orders, so that a plan of the other one would go elsewhere. */
	const vmsig_memseg turned[] = {{0, SIZE, 0}};
	bool turn = dice(2);

	memwrite_target_free(world.target);
	must(memwrite_target_new(&world.target, world.fd, turn ? segs : turned, turn ? 2 : 1, 0,
		     ROOT, 4, &world.page),
		"target");
}

static void ram_make(void)
{
	uint8_t noise[SIZE];

	close(world.fd);
	world.fd = memfd_create("sim-memwrite", MFD_CLOEXEC);
	if (world.fd < 0 || ftruncate(world.fd, SIZE) < 0)
		broken("cannot make a RAM file");
	for (size_t i = 0; i < SIZE; i++)
		noise[i] = (uint8_t)dice(256);
	ram_write(0, noise, SIZE);
	tables_make();
}

/* ---- leases ---- */

bool model_holds(void)
{
	return world.held && world.now < world.deadline;
}

/* It has ended, now or by the clock: from here on nothing may change. */
void look_at_lease(void)
{
	if (world.over || !world.storing || model_holds())
		return;
	world.over = true;
	ram_read(world.at_end);
}

static void perform_all(void)
{
	static uint64_t token;
	struct lease_action action;

	while (lease_next_action(world.engine, &action)) {
		if (action.kind == LEASE_ACT_STORE_GRANT)
			lease_stored(world.engine, world.now, action.lease.id, ++token);
		if (action.kind != LEASE_ACT_GRANTED)
			continue;
		world.token = action.lease.token;
		world.deadline = action.lease.deadline_ns;
		world.held = true;
	}
}

static void lease_end(void)
{
	if (world.held)
		(void)!lease_revoke(world.engine, world.now, world.lease, VMSIG_ERR_LEASE_REVOKED);
	world.held = false;
	perform_all();
}

void lease_take(void)
{
	struct lease_request request = {.endpoint = 1,
		.tenant = "red",
		.session = 1,
		.ranges = world.leased,
		.ttl_ns = (20 + dice(80)) * MS};
	uint64_t at = dice(8);

	lease_end();
	world.nleased = 1 + dice(2);
	for (size_t i = 0; i < world.nleased; i++) {
		world.leased[i].start = at * PAGE;
		at += 1 + dice(PAGES / 2 - 2);
		world.leased[i].last = at++ * PAGE - 1;
	}
	request.nranges = world.nleased;
	must(lease_acquire(world.engine, world.now, &request, &terms, &world.lease), "acquire");
	perform_all();
	if (!world.held)
		broken("a free lease was not granted");
}

bool model_covers(const struct lease_range *range)
{
	for (size_t i = 0; i < world.nleased; i++) {
		if (world.leased[i].start <= range->start && range->last <= world.leased[i].last)
			return true;
	}
	return false;
}

/* ---- what happens meanwhile ---- */

static void do_turn_tables(void)
{
	leaf_roll(dice(PAGES));
}

static void do_touch(void)
{
	const uint64_t word = dice(UINT32_MAX);

	ram_write(dice(SIZE / 8) * 8ull, &word, sizeof(word));
}

static void do_wait(void)
{
	world.now += dice(60) * MS;
	lease_advance(world.engine, world.now);
	perform_all();
}

/* The administrator, or a policy that does not allow it any more. */
static void do_revoke(void)
{
	lease_end();
}

static void do_shrink(void)
{
	uint64_t len = dice(PAGES) * (uint64_t)PAGE;

	if (ftruncate(world.fd, (off_t)len) < 0 || ftruncate(world.fd, SIZE) < 0)
		broken("cannot cut the RAM file");
	memset(world.expected + len, 0, SIZE - len);
	memset(world.at_end + len, 0, SIZE - len);
}

static void (*const happenings[])(void) = {do_turn_tables, do_turn_tables, do_turn_tables,
	do_turn_tables, do_touch, do_wait, do_revoke, do_shrink};

void meanwhile(void)
{
	if (dice(3) == 0)
		happenings[dice(sizeof(happenings) / sizeof(happenings[0]))]();
	look_at_lease();
}

/* Another file; told to the engine, or (the endpoint would be at fault) not. */
void replace(void)
{
	bool told = dice(2);

	world.replaced = true;
	if (told) {
		lease_endpoint_down(world.engine, world.now, 1, VMSIG_ERR_STALE_EPOCH);
		world.held = false;
		perform_all();
	}
	ram_make();
	target_make();
	if (told)
		must(lease_endpoint_ready(world.engine, world.now, 1, ++world.epoch), "ready");
	if (world.flaw == OLD_PLAN) {
		struct memwrite_plan fresh = {0};
		uint32_t failed_op;

		/* As good as a plan without a serial. */
		if (memwrite_resolve(world.target, &(struct memwrite_op){.len = 1}, 1, &fresh,
			    &failed_op) == 0)
			world.plan.serial = fresh.serial;
		memwrite_plan_deinit(&fresh);
	}
}

/* ---- */

void world_make(uint64_t seed)
{
	sim_begin(seed);
	world.now = 1000 * MS;
	world.fd = -1;
	world.epoch = 1;
	must(lease_engine_new(&world.engine, &limits, 1), "engine");
	ram_make();
	target_make();
	must(lease_endpoint_ready(world.engine, world.now, 1, world.epoch), "ready");
}

void world_free(void)
{
	memwrite_plan_deinit(&world.plan);
	world.target = memwrite_target_free(world.target);
	lease_engine_free(world.engine);
	close(world.fd);
	world.held = false;
}
