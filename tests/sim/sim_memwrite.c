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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/memwrite/fault.h"
#include "tests/sim/memwrite_world.h"

static const char *const flaw_names[FLAWS] = {
	"", "walk-again", "resolve-again", "admit-once", "old-plan", "record-virtual"};

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

static void run(uint64_t seed, unsigned steps)
{
	world_make(seed);
	while (sim_next(steps)) {
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

static bool take_flaw(const char *option, const char *value)
{
	if (strcmp(option, "--break") != 0)
		return false;
	world.flaw = flaw_find(value);
	return true;
}

int main(int argc, char **argv)
{
	struct sim_options options = {.first = 1, .seeds = 100, .steps = 60};

	sim_options(&options, argc, argv, " [--break WHAT]", take_flaw);
	must(fault_setup(), "fault handler");
	for (uint64_t i = 0; i < options.seeds; i++)
		run(options.first + i, options.steps);
	printf("%llu seeds of %u steps\n", (unsigned long long)options.seeds, options.steps);
	return 0;
}
