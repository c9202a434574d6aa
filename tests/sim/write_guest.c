/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests: RAM with page tables, which they change between any two steps of a command and at
 * each admission inside of one, and what an adapter says of them.
 */
#include "tests/sim/write_guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

#define GUEST_WORD (1ull << 63) /* what the guest itself writes */

static unsigned targets_open;

/* ---- memory ---- */

static void ram_write(struct guest *guest, uint64_t at, const void *data, size_t len)
{
	if (pwrite(guest->fd, data, len, (off_t)at) != (ssize_t)len)
		broken("cannot write the RAM file");
	memcpy((uint8_t *)guest->expected + at, data, len);
	guest->touches++;
}

static void leaf_roll(struct guest *guest, unsigned index)
{
	const uint64_t entry = dice(16) ? (uint64_t)dice(PAGES) * PAGE | 7 : 0;

	ram_write(guest, LEAF + index * WORD, &entry, sizeof(entry));
}

static void tables_make(struct guest *guest)
{
	for (unsigned level = 0; level < 3; level++) {
		const uint64_t entry = (TABLES + level + 1) * (uint64_t)PAGE | 7;

		ram_write(guest, (TABLES + level) * PAGE, &entry, sizeof(entry));
	}
	for (unsigned i = 0; i < PAGES; i++)
		leaf_roll(guest, i);
}

void guest_reboot(struct guest *guest)
{
	memset(guest->expected, 0, RAM);
	if (ftruncate(guest->fd, 0) < 0 || ftruncate(guest->fd, RAM) < 0)
		broken("cannot empty the RAM file");
	tables_make(guest);
	guest->epoch = ++guest->max_epoch;
	guest->stopped = false;
}

static void guest_make(struct guest *guest, uint32_t id, const char *name)
{
	uint64_t *expected = guest->expected;
	int fd = guest->fd;
	const uint64_t *ram = guest->ram;

	if (!expected) {
		expected = malloc(RAM);
		fd = memfd_create("sim-write", MFD_CLOEXEC);
		if (!expected || fd < 0 || ftruncate(fd, RAM) < 0)
			broken("cannot make a RAM file");
		ram = mmap(NULL, RAM, PROT_READ, MAP_SHARED, fd, 0);
		if (ram == MAP_FAILED)
			broken("cannot map a RAM file");
	}
	*guest = (struct guest){.id = id, .name = name, .fd = fd, .ram = ram, .expected = expected};
	guest_reboot(guest);
}

void guests_make(void)
{
	guest_make(&world.guests[0], 1, "w1");
	guest_make(&world.guests[1], 2, "w2");
}

void guests_forget(void)
{
	for (unsigned i = 0; i < SITES; i++) {
		struct guest *guest = &world.guests[i];

		guest->configured = guest->ready = guest->stopped = false;
		guest->done = NULL;
	}
	if (targets_open)
		broken("%u mappings of RAM are left", targets_open);
}

struct guest *guest_find(uint32_t id)
{
	if (!id || id > SITES)
		broken("endpoint %u, which never was", id);
	return &world.guests[id - 1];
}

/* ---- what happens at any time ---- */

static void touch(struct guest *guest)
{
	uint64_t at = dice(WORDS), word = GUEST_WORD | dice(UINT32_MAX);

	/* Often it takes what an operator has put there. */
	for (unsigned tries = 0; tries < 8 && !body_find(guest->expected[at]); tries++)
		at = dice(WORDS);
	if (at * WORD / PAGE >= TABLES && at * WORD / PAGE < TABLES + 4)
		return;
	ram_write(guest, at * WORD, &word, sizeof(word));
}

/* It takes the words of a command: what looks at bytes finds the old ones. */
static void consume(struct guest *guest)
{
	const struct model_command *command;
	const struct body_op *op;

	if (!world.ncommands)
		return;
	command = &world.commands[world.ncommands - 1 -
				  dice(world.ncommands < 4 ? world.ncommands : 4)];
	op = &command->body.ops[0];
	if (!command->applied || op->is_virtual || op->table || command->body.bulk ||
		!command->old_known || op->words > 8 || guest != guest_find(command->body.endpoint))
		return;
	ram_write(guest, op->addr, command->old, op->words * WORD);
}

/* It is as long again when somebody looks. */
static void shrink(struct guest *guest)
{
	uint64_t len = (TABLES + 4 + dice(PAGES - TABLES - 4)) * (uint64_t)PAGE;

	if (ftruncate(guest->fd, (off_t)len) < 0)
		broken("cannot cut the RAM file");
	memset((uint8_t *)guest->expected + len, 0, RAM - len);
	guest->touches++;
}

void guest_regrow(struct guest *guest)
{
	if (ftruncate(guest->fd, RAM) < 0)
		broken("cannot grow the RAM file");
}

/* Inside of a call of the desk. */
void guest_meanwhile(struct guest *guest)
{
	switch (dice(24)) {
	case 0:
	case 1:
	case 2:
	case 3:
		leaf_roll(guest, dice(PAGES));
		break;
	case 4:
		touch(guest);
		break;
	case 5:
	case 6:
		world.now += dice(world.faults ? 30 : 2) * MS;
		break;
	case 7:
		if (world.faults && dice(4) == 0)
			shrink(guest);
		break;
	default:
		break;
	}
}

/* ---- translation ---- */

static int guest_resolve(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	size_t nops, struct memwrite_plan *plan, uint32_t *ret_failed_op)
{
	int r = memwrite_resolve(target->target, ops, nops, plan, ret_failed_op);

	guest_meanwhile(target->guest);
	if (!is_ghost())
		return r;
	*ret_failed_op = 0;
	return VMSIG_ERR_INTERNAL;
}

static int guest_resolve_part(void *ctx, struct desk_target *target, const struct memwrite_op *op,
	uint64_t len, struct memwrite_plan *plan)
{
	int r = memwrite_resolve_part(target->target, op, len, plan);

	guest_meanwhile(target->guest);
	return is_ghost() ? VMSIG_ERR_INTERNAL : r;
}

static int guest_plan_holds(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	size_t nops, const struct memwrite_plan *plan)
{
	return is_ghost() ? VMSIG_ERR_INTERNAL
			  : memwrite_plan_holds(target->target, ops, nops, plan);
}

static bool guest_plan_fits(void *ctx, const struct memwrite_plan *plan, struct desk_target *target)
{
	return memwrite_plan_fits(plan, target->target);
}

/* ---- the adapter ---- */

static int guest_by_name(void *ctx, const char *name, uint32_t *ret_endpoint, bool *ret_writable)
{
	for (unsigned i = 0; i < SITES; i++) {
		const struct guest *guest = &world.guests[i];

		if (!guest->configured || strcmp(guest->name, name) != 0)
			continue;
		*ret_endpoint = guest->id;
		*ret_writable = guest->ready || dice(8);
		return is_ghost() ? VMSIG_ERR_NO_SUCH_ENDPOINT : 0;
	}
	return VMSIG_ERR_NO_SUCH_ENDPOINT;
}

static int guest_open(
	void *ctx, uint32_t endpoint, vmsig_coherence *page, struct desk_target **ret_target)
{
	const vmsig_memseg seg = {0, RAM, 0};
	struct desk_target *target;

	if (is_ghost())
		return VMSIG_ERR_NOT_READY;
	target = calloc(1, sizeof(*target));
	if (!target)
		return VMSIG_ERR_NO_MEMORY;
	target->guest = guest_find(endpoint);
	guest_regrow(target->guest);
	if (memwrite_target_new(
		    &target->target, target->guest->fd, &seg, 1, 0, TABLES * PAGE, 4, page))
		broken("RAM cannot be mapped");
	targets_open++;
	*ret_target = target;
	return 0;
}

static void guest_close(void *ctx, struct desk_target *target)
{
	memwrite_target_free(target->target);
	free(target);
	targets_open--;
}

static int guest_may_write(void *ctx, uint32_t endpoint, const char **ret_why)
{
	*ret_why = "it is made up";
	if (is_ghost())
		return VMSIG_ERR_NOT_READY;
	return world.faults && dice(40) == 0 ? VMSIG_ERR_NOT_READY : 0;
}

static int guest_quiesce(void *ctx, uint32_t endpoint, uint64_t bound_ms,
	void (*done)(void *arg, uint64_t now_ns, int error), void *arg)
{
	struct guest *guest = guest_find(endpoint);

	if (is_ghost() || dice(10) == 0)
		return VMSIG_ERR_UNSUPPORTED;
	if (guest->done || guest->stopped)
		broken("vCPUs are to be stopped that are");
	guest->done = done;
	guest->done_arg = arg;
	return 0;
}

static int guest_quiesced(void *ctx, uint32_t endpoint)
{
	return dice(12) ? 0 : VMSIG_ERR_TIMEOUT;
}

static void guest_resume(void *ctx, uint32_t endpoint)
{
	struct guest *guest = guest_find(endpoint);

	if (!guest->stopped && !world.ghost)
		broken("vCPUs go on that were not stopped");
	guest->stopped = false;
}

const struct desk_guest_ops guest_ops = {
	.find = guest_by_name,
	.open = guest_open,
	.close = guest_close,
	.may_write = guest_may_write,
	.quiesce = guest_quiesce,
	.quiesced = guest_quiesced,
	.resume = guest_resume,
	.resolve = guest_resolve,
	.resolve_part = guest_resolve_part,
	.plan_holds = guest_plan_holds,
	.plan_fits = guest_plan_fits,
	.check = guest_look,
	.apply = guest_apply,
};

/* ---- by itself ---- */

static void quiesce_answer(struct guest *guest)
{
	void (*done)(void *arg, uint64_t now_ns, int error) = guest->done;
	bool fails = world.faults && dice(8) == 0;

	guest->done = NULL;
	guest->stopped = !fails;
	done(guest->done_arg, world.now, fails ? VMSIG_ERR_TIMEOUT : 0);
}

static void reset(struct guest *guest)
{
	say("%s is reset", guest->name);
	model_end_site(guest->id - 1, CAUSE_EPOCH);
	guest->ready = false;
	desk_endpoint_over(world.desk, world.now, guest->id);
	guest->epoch = ++guest->max_epoch;
	if (dice(2))
		guest_ready(guest);
}

static void remove_site(struct guest *guest)
{
	say("%s is removed", guest->name);
	model_end_site(guest->id - 1, CAUSE_EPOCH);
	if (guest->ready)
		desk_endpoint_over(world.desk, world.now, guest->id);
	guest->ready = false;
	guest->configured = false;
	guest->epoch = ++guest->max_epoch;
	if (guest->done)
		quiesce_answer(guest);
	desk_endpoint_remove(world.desk, guest->id);
}

void guest_ready(struct guest *guest)
{
	const struct selector_subject subject = selector_named(guest->name);
	int r = guest->configured ? 0 : desk_endpoint_add(world.desk, guest->id, &subject);

	if (r == -ENOMEM && world.faults)
		return;
	if (r)
		broken("an endpoint was refused");
	guest->configured = true;
	if (guest->ready)
		return;
	guest->ready = true;
	desk_endpoint_ready(world.desk, world.now, guest->id, guest->epoch, &guest->page);
}

void guest_step(struct guest *guest)
{
	unsigned what = dice(world.faults ? 200 : 6);

	if (guest->done && dice(3) == 0)
		quiesce_answer(guest);
	if (!guest->ready && dice(4) == 0)
		guest_ready(guest);
	else if (what < 4)
		leaf_roll(guest, dice(PAGES));
	else if (what < 12)
		consume(guest);
	else if (what < 20)
		touch(guest);
	else if (what == 20 && guest->ready)
		reset(guest);
	else if (what == 21 && dice(3) == 0 && guest->configured)
		remove_site(guest);
}
