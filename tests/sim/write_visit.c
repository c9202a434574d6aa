/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the desk stores into guests, through the real broker/memwrite/. Each word that has changed
 * afterwards is accounted for:
 *   I17  it lies in a piece that was admitted and that a durable intent names
 *   I3   the reference lets its command write there
 *   I6   and it was not written by it before
 *   I5   what was said to be written is there
 */
#include "tests/sim/write_guest.h"

#include <string.h>

#include "vmsig/vmsig_error.h"

#define ADMITTED 4096

/* One call of apply(). */
struct visit {
	struct guest *guest;
	struct model_command *command;
	desk_admit_fn admit;
	void *arg;
	unsigned touches; /* of the guest, before */
	struct lease_range admitted[ADMITTED];
	size_t n;
};

static bool is_in(const struct lease_range *ranges, size_t n, uint64_t at)
{
	for (size_t i = 0; i < n; i++) {
		if (ranges[i].start <= at && at <= ranges[i].last)
			return true;
	}
	return false;
}

static bool is_recorded(const Vmsig__AuditRecord *intent, uint64_t at)
{
	for (size_t i = 0; i < intent->n_ranges; i++) {
		if (intent->ranges[i]->start <= at && at <= intent->ranges[i]->last)
			return true;
	}
	return false;
}

static int visit_admit(void *ctx, const struct lease_range *range)
{
	struct visit *visit = ctx;
	int r;

	guest_meanwhile(visit->guest);
	if (is_ghost())
		return VMSIG_ERR_INTERNAL;
	r = visit->admit(visit->arg, world.now, range);
	if (r)
		return r;
	if (visit->command)
		model_admit(visit->command, range);
	if (visit->n < ADMITTED)
		visit->admitted[visit->n++] = *range;
	return 0;
}

/* RAM begins at 0 and is not in parts. */
static void check_word(const struct visit *visit, uint64_t at)
{
	struct guest *guest = visit->guest;
	const struct model_command *command = visit->command;
	const Vmsig__AuditRecord *intent = records_intent(&command->body);
	uint64_t word = guest->ram[at / WORD];
	struct model_command *writer = body_find(word);

	if (!is_in(visit->admitted, visit->n, at))
		broken("I17: 0x%llx of %s changed and was not admitted", (unsigned long long)at,
			guest->name);
	if (!intent)
		broken("I5: 0x%llx of %s changed and no durable intent says so",
			(unsigned long long)at, guest->name);
	if (!is_recorded(intent, at))
		broken("I17: 0x%llx of %s changed and is not in the intent", (unsigned long long)at,
			guest->name);
	/* Between the words of a mask what was there a moment ago is written back. */
	if (writer && writer != command &&
		!(command->body.ops[0].masks && guest->touches != visit->touches))
		broken("0x%llx of %s has a word of another command", (unsigned long long)at,
			guest->name);
}

static void check_pages(struct guest *guest, const struct visit *visit)
{
	guest_regrow(guest);
	for (uint64_t page = 0; page < PAGES; page++) {
		const uint64_t *ram = guest->ram + page * (PAGE / WORD);
		const uint64_t *expected = guest->expected + page * (PAGE / WORD);

		if (memcmp(ram, expected, PAGE) == 0)
			continue;
		for (uint64_t i = 0; i < PAGE / WORD; i++) {
			unsigned long long at = page * PAGE + i * WORD;

			if (ram[i] == expected[i])
				continue;
			if (!visit)
				broken("0x%llx of %s changed and nobody wrote it", at, guest->name);
			check_word(visit, at);
		}
	}
}

void guest_check(struct guest *guest)
{
	check_pages(guest, NULL);
	if (guest->page.sequence % 2)
		broken("the sequence word of %s stayed odd", guest->name);
}

/* What lies behind the pieces now is what the command says. */
static void check_stored(const struct visit *visit, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, uint64_t written)
{
	for (size_t i = 0; i < plan->n && written; i++) {
		const struct memwrite_piece *piece = &plan->pieces[i];
		uint64_t len = piece->len < written ? piece->len : written;

		if (memcmp((const uint8_t *)visit->guest->ram + piece->off,
			    ops[piece->op].data + piece->into, (size_t)len) != 0)
			broken("I5: what was said to be written to 0x%llx of %s is not there",
				(unsigned long long)piece->gpa, visit->guest->name);
		written -= len;
	}
}

/* Of a command whose address cannot move. */
static void old_note(struct model_command *command, const struct guest *guest)
{
	const struct body_op *op = &command->body.ops[0];

	size_t len = op->words * WORD;

	command->old_known = !op->is_virtual && op->addr + len <= RAM &&
			     (command->body.bulk || len <= sizeof(command->old));
	if (command->old_known)
		memcpy(command->old, guest->expected + op->addr / WORD,
			len < sizeof(command->old) ? len : sizeof(command->old));
}

static void check_expectation(const struct visit *visit)
{
	const struct body *body = &visit->command->body;
	const struct body_op *op = &body->ops[0];

	for (unsigned i = 0; op->expects && i < op->words; i++) {
		if ((!op->masks || i % 2 == 0) && visit->command->old[i] != body->expect[i])
			broken("a write was applied though what it expects was not there");
	}
}

static struct model_command *command_of(
	const struct memwrite_op *ops, const struct memwrite_plan *plan)
{
	for (size_t i = 0; i < plan->n; i++) {
		struct model_command *command;
		uint64_t word;

		memcpy(&word, ops[plan->pieces[i].op].data, sizeof(word));
		command = body_find(word);
		if (command)
			return command;
	}
	broken("bytes of no command are stored");
}

static void check_place(const struct model_command *command, const struct memwrite_op *ops)
{
	uint64_t word;

	memcpy(&word, ops[0].data, sizeof(word));
	if (command->body.bulk && (uint32_t)word * (uint64_t)WORD != command->applied)
		broken("I6: bytes from %llu on are stored after %llu were",
			(unsigned long long)(uint32_t)word * WORD,
			(unsigned long long)command->applied);
	if (!command->body.bulk && command->applied)
		broken("I6: a command is applied twice");
}

static void visit_end(struct visit *visit, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, const struct memwrite_result *result)
{
	struct model_command *command = visit->command;
	bool alone = visit->guest->touches == visit->touches;

	check_pages(visit->guest, visit);
	memcpy(visit->guest->expected, visit->guest->ram, RAM);
	command->applied += result->written;
	if (!alone) {
		command->old_known = false;
		return;
	}
	if (result->written && !command->body.bulk)
		check_expectation(visit);
	if (command->body.nops == 1 && !command->body.ops[0].masks &&
		!command->body.ops[0].is_virtual)
		check_stored(visit, ops, plan, result->written);
}

void guest_apply(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, desk_admit_fn admit, void *arg, uint8_t *old,
	struct memwrite_result *ret_result)
{
	static struct visit visit;

	*ret_result = (struct memwrite_result){.error = VMSIG_ERR_INTERNAL};
	if (world.ghost)
		return;
	visit.guest = target->guest;
	visit.command = command_of(ops, plan);
	visit.command->begun = true;
	/* Of all moments these are the ones that matter. */
	if (world.faults && world.kill_sides && !world.kill_in && dice(80) == 0)
		world.kill_in = 1 + dice(6);
	if (is_ghost())
		return;
	visit.admit = admit;
	visit.arg = arg;
	visit.n = 0;
	visit.touches = target->guest->touches;
	check_place(visit.command, ops);
	if (!visit.command->body.bulk || !visit.command->applied)
		old_note(visit.command, target->guest);
	memwrite_apply(target->target, ops, plan, visit_admit, &visit, old, ret_result);
	visit_end(&visit, ops, plan, ret_result);
	tallies[T_APPLIED] += ret_result->written != 0;
	/* Between the last byte and the mark. */
	(void)!is_ghost();
}

void guest_look(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, desk_admit_fn admit, void *arg, uint8_t *old,
	struct memwrite_result *ret_result)
{
	static struct visit visit;

	*ret_result = (struct memwrite_result){.error = VMSIG_ERR_INTERNAL};
	if (is_ghost())
		return;
	visit = (struct visit){.guest = target->guest, .admit = admit, .arg = arg};
	memwrite_check(target->target, ops, plan, visit_admit, &visit, old, ret_result);
	check_pages(target->guest, NULL);
}
