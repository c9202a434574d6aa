/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deterministic simulation of a write's way through memwrite/ under the lease engine, in a
 * world that changes whenever it is asked: between any two steps of a command, and at each
 * admission inside of one, the guest or the holder turns page tables, the clock runs, the
 * lease ends, the policy is replaced, the RAM file shrinks or is another one. Checked after
 * every command:
 *   I17  each byte that changed lies in a piece that was admitted and recorded
 *   I3   what was admitted lies inside of the lease, before its deadline and in its epoch
 *   I4   no byte changes after the lease has ended
 *   I8   what was written is as long as was said, and lies where the record of the result says
 *
 *   sim_memwrite [--seeds N] [--seed S] [--steps N] [--break FLAW]
 *
 * A flaw spoils something between the steps, as the broker would if it had it:
 *   walk-again     each operation is translated once more right before it is stored
 *   resolve-again  the whole batch is, after its intent was recorded
 *   admit-once     pieces are stored with the admission of the check
 *   old-plan       a plan is used on another target
 *   record-virtual guest-virtual addresses are recorded
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/memwrite/fault.h"
#include "broker/memwrite/memwrite.h"
#include "lease/lease.h"

#define PAGE 4096u
#define PAGES 32u
#define SIZE (PAGES * PAGE)
#define ROOT (1u * PAGE) /* four tables, the leaf table last */
#define LEAF (4u * PAGE)
#define OPS 4u
#define LONG (6u * PAGE) /* of a single operation that is stored in slices */
#define SLICE (2u * PAGE)
#define MS 1000000ull

enum flaw { SOUND, WALK_AGAIN, RESOLVE_AGAIN, ADMIT_ONCE, OLD_PLAN, RECORD_VIRTUAL, FLAWS };

static const char *const flaw_names[FLAWS] = {
	"", "walk-again", "resolve-again", "admit-once", "old-plan", "record-virtual"};

struct world {
	uint64_t seed, random, now;
	unsigned step;
	enum flaw flaw;
	int fd;
	struct memwrite_target *target;
	vmsig_coherence page;
	/* What is there if the broker does nothing more. */
	uint8_t expected[SIZE];

	struct lease_engine *engine;
	uint32_t epoch;
	uint64_t lease, token, deadline;
	struct lease_range leased[2];
	size_t nleased;
	bool held;

	/* The command. */
	struct memwrite_op ops[OPS];
	size_t nops;
	uint8_t data[LONG], old[LONG];
	struct memwrite_plan plan;
	struct lease_range recorded[MEMWRITE_SLICE_PIECES], admitted[1024];
	size_t nrecorded, nadmitted;
	bool storing, replaced;
	bool over;            /* the lease has ended since it was being stored: */
	uint8_t at_end[SIZE]; /* what was there then, and what the guest did since */
};

static struct world world;

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

__attribute__((format(printf, 1, 2), noreturn)) static void broken(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "seed %llu, step %u: ", (unsigned long long)world.seed, world.step);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

static uint32_t dice(uint32_t sides)
{
	world.random ^= world.random >> 12;
	world.random ^= world.random << 25;
	world.random ^= world.random >> 27;
	return (uint32_t)((world.random * 0x2545f4914f6cdd1dull) >> 33) % sides;
}

static void must(int r, const char *what)
{
	if (r)
		broken("%s: %d", what, r);
}

/* ---- the guest's memory ---- */

static void ram_write(uint64_t at, const void *data, size_t len)
{
	if (pwrite(world.fd, data, len, (off_t)at) != (ssize_t)len)
		broken("cannot write the RAM file");
	memcpy(world.expected + at, data, len);
	memcpy(world.at_end + at, data, len);
}

/* Where the file has shrunk there is nothing. */
static void ram_read(uint8_t ram[static SIZE])
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

static bool model_holds(void)
{
	return world.held && world.now < world.deadline;
}

/* It has ended, now or by the clock: from here on nothing may change. */
static void look_at_lease(void)
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

static void lease_take(void)
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

static bool model_covers(const struct lease_range *range)
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

static void meanwhile(void)
{
	if (dice(3) == 0)
		happenings[dice(sizeof(happenings) / sizeof(happenings[0]))]();
	look_at_lease();
}

/* Another file; told to the engine, or (the endpoint would be at fault) not. */
static void replace(void)
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

/* ---- admission ---- */

static bool was_admitted(const struct lease_range *range)
{
	for (size_t i = 0; i < world.nadmitted; i++) {
		if (world.admitted[i].start <= range->start &&
			range->last <= world.admitted[i].last)
			return true;
	}
	return false;
}

static int admit(void *ctx, const struct lease_range *range)
{
	int r;

	meanwhile();
	if (world.flaw == ADMIT_ONCE && was_admitted(range))
		return 0;
	r = lease_admit(
		world.engine, world.now, "red", world.lease, world.token, world.epoch, range);
	if (r)
		return r;
	if (!model_holds() || !model_covers(range))
		broken("I3: admitted without the lease");
	if (world.nadmitted < sizeof(world.admitted) / sizeof(world.admitted[0]))
		world.admitted[world.nadmitted++] = *range;
	return 0;
}

/* ---- checks ---- */

static bool is_in(const struct lease_range *ranges, size_t n, uint64_t at)
{
	for (size_t i = 0; i < n; i++) {
		if (ranges[i].start <= at && at <= ranges[i].last)
			return true;
	}
	return false;
}

/* Guest-physical addresses of the file's bytes, as the target that is there maps them. */
static uint64_t gpa_of(uint64_t off)
{
	static const uint8_t byte = 0;
	const struct memwrite_op op = {.data = &byte, .len = 1};
	struct memwrite_plan plan = {0};
	uint32_t failed_op;
	uint64_t at_zero;

	must(memwrite_resolve(world.target, &op, 1, &plan, &failed_op), "where RAM begins");
	at_zero = plan.pieces[0].off;
	memwrite_plan_deinit(&plan);
	return (off + at_zero) % SIZE;
}

static void check_byte(uint64_t off, const struct lease_range *stored, size_t nstored)
{
	uint64_t gpa = gpa_of(off);

	if (world.replaced)
		broken("I17: a plan of memory that is gone changed 0x%llx",
			(unsigned long long)gpa);
	if (!is_in(world.recorded, world.nrecorded, gpa))
		broken("I17: 0x%llx changed and is not recorded", (unsigned long long)gpa);
	if (!is_in(world.admitted, world.nadmitted, gpa))
		broken("I17: 0x%llx changed and was not admitted", (unsigned long long)gpa);
	if (!is_in(stored, nstored, gpa))
		broken("I8: 0x%llx changed, beyond what was said to be written",
			(unsigned long long)gpa);
}

static void check_ram(uint64_t written)
{
	struct lease_range stored[MEMWRITE_SLICE_PIECES];
	size_t nstored = memwrite_plan_ranges(&world.plan, written, stored);
	uint8_t ram[SIZE];

	ram_read(ram);
	for (uint64_t i = 0; i < SIZE; i++) {
		if (ram[i] != world.expected[i])
			check_byte(i, stored, nstored);
		if (world.over && ram[i] != world.at_end[i])
			broken("I4: 0x%llx changed after the lease had ended",
				(unsigned long long)gpa_of(i));
	}
	if (world.page.sequence % 2)
		broken("the sequence word stayed odd");
	memcpy(world.expected, ram, SIZE);
}

/* ---- commands ---- */

static void op_roll(struct memwrite_op *op, uint64_t len)
{
	*op = (struct memwrite_op){.data = world.data, .len = len};
	op->is_virtual = dice(3) != 0;
	/* Often into the tables themselves. */
	op->addr = op->is_virtual ? dice(PAGES * PAGE - (uint32_t)len)
		   : dice(3)      ? LEAF + dice(PAGES) * 8ull
				  : dice(SIZE - (uint32_t)len);
}

static void command_roll(void)
{
	for (size_t i = 0; i < LONG / 8; i++) {
		const uint64_t entry = (uint64_t)dice(PAGES) * PAGE | 7;

		memcpy(world.data + i * 8, &entry, sizeof(entry));
	}
	world.nops = 1 + dice(OPS);
	for (size_t i = 0; i < world.nops; i++)
		op_roll(&world.ops[i], dice(2) ? 8 : 1 + dice(PAGE));
	world.nadmitted = world.nrecorded = 0;
	world.storing = world.over = world.replaced = false;
}

static void record(void)
{
	world.nrecorded = memwrite_plan_ranges(&world.plan, world.plan.bytes, world.recorded);
	for (size_t i = 0; world.flaw == RECORD_VIRTUAL && i < world.nops; i++)
		world.recorded[i] = (struct lease_range){
			world.ops[i].addr, world.ops[i].addr + (world.ops[i].len - 1)};
	if (world.flaw == RECORD_VIRTUAL)
		world.nrecorded = world.nops;
}

static void store_begin(void)
{
	world.storing = true;
	look_at_lease();
}

static int resolve(const struct memwrite_op *ops, size_t nops)
{
	uint32_t failed_op;

	return memwrite_resolve(world.target, ops, nops, &world.plan, &failed_op);
}

static void apply(struct memwrite_result *result)
{
	memwrite_apply(world.target, world.ops, &world.plan, admit, NULL, world.old, result);
}

static int admit_all(void *ctx, const struct lease_range *range)
{
	meanwhile();
	return 0;
}

/* The fault that gave the rule its name. */
static void apply_walking(struct memwrite_result *result)
{
	*result = (struct memwrite_result){0};
	for (size_t i = 0; i < world.nops && !result->error; i++) {
		struct memwrite_result one;

		if (resolve(&world.ops[i], 1))
			return;
		memwrite_apply(
			world.target, &world.ops[i], &world.plan, admit_all, NULL, world.old, &one);
		result->error = one.error;
		result->written += one.written;
	}
}

static void do_batch(void)
{
	struct memwrite_result result;

	if (resolve(world.ops, world.nops))
		return;
	meanwhile();
	memwrite_check(world.target, world.ops, &world.plan, admit, NULL, world.old, &result);
	if (result.error)
		return;
	record();
	/* Those that translate again are to be found by what they do in the same memory. */
	if (world.flaw != WALK_AGAIN && world.flaw != RESOLVE_AGAIN && dice(8) == 0)
		replace();
	meanwhile();
	if (world.flaw == RESOLVE_AGAIN && resolve(world.ops, world.nops))
		return;
	store_begin();
	if (world.flaw == WALK_AGAIN)
		apply_walking(&result);
	else
		apply(&result);
	check_ram(result.written);
}

static int plan_long(const struct memwrite_op *op)
{
	while (world.plan.bytes < op->len) {
		int r = memwrite_resolve_part(world.target, op, PAGE, &world.plan);

		if (r)
			return r;
		meanwhile();
	}
	return 0;
}

static void slice_store(uint64_t done, struct memwrite_result *result)
{
	struct memwrite_slice slice;
	struct memwrite_op op = {.data = world.data + done};

	memwrite_plan_cut(&world.plan, done, SLICE, &slice);
	op.len = slice.plan.bytes;
	memwrite_apply(world.target, &op, &slice.plan, admit, NULL, world.old, result);
}

static void do_long(void)
{
	struct memwrite_result result = {0};
	uint64_t done = 0;

	op_roll(&world.ops[0], LONG);
	world.ops[0].addr %= SIZE - LONG;
	world.nops = 1;
	memwrite_plan_deinit(&world.plan);
	if (plan_long(&world.ops[0]))
		return;
	record();
	store_begin();
	while (done < LONG && !result.error) {
		if (dice(16) == 0)
			replace();
		meanwhile();
		slice_store(done, &result);
		done += result.written;
		check_ram(done);
		/* What was stored before was there before. */
		if (world.replaced && result.written)
			broken("I17: a plan of memory that is gone was stored to");
	}
}

/* ---- */

static void world_make(uint64_t seed)
{
	world.seed = seed;
	world.random = seed * 0x9e3779b97f4a7c15ull + 1;
	world.now = 1000 * MS;
	world.fd = -1;
	world.epoch = 1;
	must(lease_engine_new(&world.engine, &limits, 1), "engine");
	ram_make();
	target_make();
	must(lease_endpoint_ready(world.engine, world.now, 1, world.epoch), "ready");
}

static void world_free(void)
{
	memwrite_plan_deinit(&world.plan);
	world.target = memwrite_target_free(world.target);
	lease_engine_free(world.engine);
	close(world.fd);
	world.held = false;
}

static void run(uint64_t seed, unsigned steps)
{
	world_make(seed);
	for (world.step = 0; world.step < steps; world.step++) {
		lease_take();
		command_roll();
		if (dice(3))
			do_batch();
		else
			do_long();
	}
	world_free();
}

static enum flaw flaw_find(const char *name)
{
	for (unsigned i = 1; i < FLAWS; i++) {
		if (strcmp(name, flaw_names[i]) == 0)
			return (enum flaw)i;
	}
	fprintf(stderr, "no such flaw: %s\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	uint64_t first = 1, seeds = 100;
	unsigned steps = 60;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--seeds") == 0)
			seeds = strtoull(argv[i + 1], NULL, 0);
		else if (strcmp(argv[i], "--steps") == 0)
			steps = (unsigned)strtoul(argv[i + 1], NULL, 0);
		else if (strcmp(argv[i], "--break") == 0)
			world.flaw = flaw_find(argv[i + 1]);
		else if (strcmp(argv[i], "--seed") == 0)
			seeds = 1, first = strtoull(argv[i + 1], NULL, 0);
	}
	must(fault_setup(), "fault handler");
	for (uint64_t seed = first; seed < first + seeds; seed++)
		run(seed, steps);
	printf("%llu seeds of %u steps\n", (unsigned long long)seeds, steps);
	return 0;
}
