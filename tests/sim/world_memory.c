/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests' memory in sim_world, one file at each host, and what desks store there through the real
 * broker/memwrite. Each word that has changed afterwards is accounted for: it lies in a piece that
 * was admitted and that a durable intent at this host names, and it is the command's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/memwrite/memwrite.h"
#include "tests/sim/world_planes.h"
#include "vmsig/vmsig_error.h"

#define ADMITTED 64

struct desk_target {
	int g, h;
	struct memwrite_target *memory;
};

struct memory {
	int fd;
	const uint64_t *now; /* as it is */
	uint64_t *expected;
};

static struct memory memories[GUESTS][HOSTS];
static unsigned targets;

/* ---- memory ---- */

static void memory_open(struct memory *memory)
{
	void *map;

	memory->fd = memfd_create("sim-world", MFD_CLOEXEC);
	memory->expected = calloc(1, RAM);
	if (memory->fd < 0 || !memory->expected || ftruncate(memory->fd, RAM) < 0)
		broken("cannot make a RAM file: %s", strerror(errno));
	map = mmap(NULL, RAM, PROT_READ, MAP_SHARED, memory->fd, 0);
	if (map == MAP_FAILED)
		broken("cannot map a RAM file");
	memory->now = map;
}

static void memory_empty(struct memory *memory)
{
	memset(memory->expected, 0, RAM);
	if (ftruncate(memory->fd, 0) < 0 || ftruncate(memory->fd, RAM) < 0)
		broken("cannot empty a RAM file");
}

void memory_make(void)
{
	for (int g = 0; g < GUESTS; g++) {
		for (int h = 0; h < HOSTS; h++) {
			if (memories[g][h].expected)
				memory_empty(&memories[g][h]);
			else
				memory_open(&memories[g][h]);
		}
	}
}

void memory_free(void)
{
	if (targets)
		broken("%u mappings of RAM are left", targets);
}

void memory_born(int g, int h)
{
	memory_empty(&memories[g][h]);
}

void memory_copied(int g, int from, int to)
{
	struct memory *a = &memories[g][from], *b = &memories[g][to];

	memcpy(b->expected, a->expected, RAM);
	if (pwrite(b->fd, a->expected, RAM, 0) != RAM)
		broken("cannot write a RAM file");
}

/* What was acknowledged at the source is there. */
void memory_arrived(int g, int from, int to)
{
	if (memcmp(memories[g][from].expected, memories[g][to].expected, RAM) != 0)
		broken("I16: the memory of guest %d changed at host %d after it was on its way to "
		       "host %d",
			g, from, to);
	memory_check(g, from);
	memory_check(g, to);
}

void memory_check(int g, int h)
{
	const struct memory *memory = &memories[g][h];

	if (memcmp(memory->now, memory->expected, RAM) == 0)
		return;
	for (uint64_t at = 0; at < RAM / WORD; at++) {
		if (memory->now[at] != memory->expected[at])
			broken("0x%llx of guest %d at host %d changed and nobody wrote it",
				(unsigned long long)(at * WORD), g, h);
	}
}

/* ---- what a desk stores ---- */

struct visit {
	struct desk_target *target;
	struct model_command *command;
	desk_admit_fn admit;
	void *arg;
	struct lease_range admitted[ADMITTED];
	size_t n;
};

static bool may_write(int h, int g)
{
	const struct tenure *tenure = world.hosts[h].services[g].tenure;

	return world_flaw == WORLD_NO_RIGHT ||
	       (tenure && tenure_may_apply(tenure, planes_clock(h)));
}

static int visit_admit(void *ctx, const struct lease_range *range)
{
	struct visit *visit = ctx;
	int h = visit->target->h, r;

	/* Time passes between two pieces, less than a pause. */
	if (world.faults && dice(6) == 0)
		world.now += MS * dice(8);
	if (desks_is_ghost(&seats[h]))
		return VMSIG_ERR_INTERNAL;
	if (!may_write(h, visit->target->g))
		return VMSIG_ERR_NOT_READY;
	r = world_flaw == WORLD_NO_FENCE ? 0 : visit->admit(visit->arg, planes_clock(h), range);
	if (r)
		return r;
	if (visit->command) {
		model_admit(h, visit->command, range);
		judge_write(h, visit->target->g);
	}
	if (visit->n == ADMITTED)
		broken("more pieces than the simulator remembers");
	visit->admitted[visit->n++] = *range;
	return 0;
}

static bool is_recorded(const struct model_command *command, int h, uint64_t at)
{
	const struct disk *disk = seats[h].disk;

	for (size_t i = disk_durable(disk); i > 0; i--) {
		const Vmsig__AuditRecord *record = disk_record(disk, i - 1);

		if (record->kind != VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT ||
			record->lease != command->key.lease ||
			record->sequence != command->key.sequence)
			continue;
		for (size_t k = 0; k < record->n_ranges; k++) {
			if (record->ranges[k]->start <= at && at <= record->ranges[k]->last)
				return true;
		}
		return false;
	}
	return false;
}

static void check_word(const struct visit *visit, uint64_t at)
{
	int g = visit->target->g, h = visit->target->h;
	uint64_t word = memories[g][h].now[at / WORD];
	bool admitted = false;

	for (size_t i = 0; i < visit->n; i++)
		admitted |= visit->admitted[i].start <= at && at <= visit->admitted[i].last;
	if (!admitted)
		broken("I17: 0x%llx of guest %d changed and was not admitted",
			(unsigned long long)at, g);
	if (!is_recorded(visit->command, h, at))
		broken("I17: 0x%llx of guest %d changed and no durable intent says so",
			(unsigned long long)at, g);
	if (word >> 8 != visit->command->number + 1)
		broken("0x%llx of guest %d has a word of another command", (unsigned long long)at,
			g);
}

/* Every word of it that is another one now. */
static void visit_check(const struct visit *visit)
{
	struct memory *memory = &memories[visit->target->g][visit->target->h];

	for (uint64_t at = 0; at < RAM; at += PIECE) {
		uint64_t *expected = memory->expected + at / WORD;
		const uint64_t *now = memory->now + at / WORD;

		if (memcmp(expected, now, PIECE) == 0)
			continue;
		for (uint64_t i = 0; i < PIECE / WORD; i++) {
			if (expected[i] != now[i])
				check_word(visit, at + i * WORD);
		}
		memcpy(expected, now, PIECE);
	}
}

static struct model_command *command_of(const struct memwrite_op *op)
{
	struct model_command *command;
	uint64_t word;

	memcpy(&word, op->data, sizeof(word));
	command = model_command_numbered((unsigned)(word >> 8) - 1);
	if (!command)
		broken("bytes of no command are stored");
	return command;
}

static void apply(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, desk_admit_fn admit, void *arg, uint8_t *old,
	struct memwrite_result *ret_result)
{
	struct seat *seat = &seats[target->h];
	struct visit visit = {.target = target, .admit = admit, .arg = arg};

	*ret_result = (struct memwrite_result){.error = VMSIG_ERR_INTERNAL};
	if (seat->ghost)
		return;
	visit.command = command_of(&ops[0]);
	visit.command->begun = true;
	visit.command->applied_at = target->h;
	/* Of all moments these are the ones that matter. */
	if (sim.seed % 4 && world.faults && world.now >= world.calm_until && !seat->kill_in &&
		dice(100) == 0)
		seat->kill_in = 1 + dice(6);
	if (desks_is_ghost(seat))
		return;
	memwrite_apply(target->memory, ops, plan, visit_admit, &visit, old, ret_result);
	visit_check(&visit);
	visit.command->applied += ret_result->written;
	world_tallies[W_WRITES] += ret_result->written != 0;
	/* Between the last byte and the mark. */
	(void)desks_is_ghost(seat);
}

static void look(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, desk_admit_fn admit, void *arg, uint8_t *old,
	struct memwrite_result *ret_result)
{
	struct visit visit = {.target = target, .admit = admit, .arg = arg};

	*ret_result = (struct memwrite_result){.error = VMSIG_ERR_INTERNAL};
	if (desks_is_ghost(&seats[target->h]))
		return;
	memwrite_check(target->memory, ops, plan, visit_admit, &visit, old, ret_result);
}

/* ---- the rest of what a desk asks of guests ---- */

static int find(void *ctx, const char *name, uint32_t *ret_endpoint, bool *ret_writable)
{
	int h = planes_seat(ctx);

	for (int g = 0; g < GUESTS; g++) {
		if (strcmp(world.guests[g].uuid, name) != 0)
			continue;
		*ret_endpoint = planes_endpoint(g);
		*ret_writable = seats[h].places[g].there;
		return desks_is_ghost(&seats[h]) ? VMSIG_ERR_NO_SUCH_ENDPOINT : 0;
	}
	return VMSIG_ERR_NO_SUCH_ENDPOINT;
}

static int open_memory(
	void *ctx, uint32_t endpoint, vmsig_coherence *page, struct desk_target **ret_target)
{
	const vmsig_memseg seg = {0, RAM, 0};
	int h = planes_seat(ctx), g = (int)endpoint - 1;
	struct desk_target *target;

	if (desks_is_ghost(&seats[h]))
		return VMSIG_ERR_NOT_READY;
	target = calloc(1, sizeof(*target));
	if (!target)
		return VMSIG_ERR_NO_MEMORY;
	*target = (struct desk_target){.g = g, .h = h};
	if (memwrite_target_new(&target->memory, memories[g][h].fd, &seg, 1, 0, 0, 4, page))
		broken("RAM cannot be mapped");
	targets++;
	*ret_target = target;
	return 0;
}

static void close_memory(void *ctx, struct desk_target *target)
{
	memwrite_target_free(target->memory);
	free(target);
	targets--;
}

static int may_grant(void *ctx, uint32_t endpoint, const char **ret_why)
{
	int h = planes_seat(ctx);

	*ret_why = "the guest is not this host's";
	if (desks_is_ghost(&seats[h]))
		return VMSIG_ERR_NOT_READY;
	return may_write(h, (int)endpoint - 1) ? 0 : VMSIG_ERR_NOT_READY;
}

static bool may_prolong(void *ctx, uint32_t endpoint)
{
	int h = planes_seat(ctx);
	const struct tenure *tenure = world.hosts[h].services[endpoint - 1].tenure;

	return tenure && tenure_may_prolong(tenure, planes_clock(h));
}

static int quiesce(void *ctx, uint32_t endpoint, uint64_t bound_ms,
	void (*done)(void *arg, uint64_t now_ns, int error), void *arg)
{
	return VMSIG_ERR_UNSUPPORTED;
}

static int quiesced(void *ctx, uint32_t endpoint)
{
	return VMSIG_ERR_GONE;
}

static void resume(void *ctx, uint32_t endpoint)
{
}

static int resolve(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	size_t nops, struct memwrite_plan *plan, uint32_t *ret_failed_op)
{
	*ret_failed_op = 0;
	return desks_is_ghost(&seats[target->h])
		       ? VMSIG_ERR_INTERNAL
		       : memwrite_resolve(target->memory, ops, nops, plan, ret_failed_op);
}

static int resolve_part(void *ctx, struct desk_target *target, const struct memwrite_op *op,
	uint64_t len, struct memwrite_plan *plan)
{
	return memwrite_resolve_part(target->memory, op, len, plan);
}

static int plan_holds(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	size_t nops, const struct memwrite_plan *plan)
{
	return memwrite_plan_holds(target->memory, ops, nops, plan);
}

static bool plan_fits(void *ctx, const struct memwrite_plan *plan, struct desk_target *target)
{
	return memwrite_plan_fits(plan, target->memory);
}

const struct desk_guest_ops world_guest_ops = {
	.find = find,
	.open = open_memory,
	.close = close_memory,
	.may_write = may_grant,
	.may_grant = may_grant,
	.may_prolong = may_prolong,
	.quiesce = quiesce,
	.quiesced = quiesced,
	.resume = resume,
	.resolve = resolve,
	.resolve_part = resolve_part,
	.plan_holds = plan_holds,
	.plan_fits = plan_fits,
	.check = look,
	.apply = apply,
};
