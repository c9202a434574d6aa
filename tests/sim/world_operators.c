/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operators of sim_world: each has a connection to one host at a time. They ask for leases, renew,
 * write, several commands at a time, and release; fall silent and write when their lease has long
 * passed on; lose their connection, find their guest where it is by then, resume, and send again
 * what has no answer and some of what has one.
 */
#include <string.h>

#include "broker/policy/selector.h"
#include "tests/sim/world_planes.h"
#include "vmsig/vmsig_error.h"

#define KEPT 8 /* newest commands under a lease, that may be sent again */
#define WRITER 7

enum holding { IDLE, ASKED, HOLDS };

struct operator
{
	unsigned tenant;
	struct wire *wire; /* NULL: none */
	enum holding holding;
	bool resumes; /* it has asked, and not heard */
	int g;
	uint64_t asked_at, silent_until;
	uint64_t id, token, sequence;
	uint32_t epoch;
	struct lease_range range;
	struct model_command *kept[KEPT];
	bool waits[KEPT]; /* for an answer, over this connection */
	uint64_t sent_at[KEPT];
};

static struct operator operators[OPERATORS];
static uint64_t stepped_at;

void operators_reset(void)
{
	memset(operators, 0, sizeof(operators));
	for (unsigned i = 0; i < OPERATORS; i++)
		operators[i] = (struct operator){.tenant = i % TENANTS};
	stepped_at = 0;
}

unsigned operator_tenant(unsigned op)
{
	return operators[op].tenant;
}

static unsigned index_of(const struct operator* operator)
{
	return (unsigned)(operator- operators);
}

/* ---- connections ---- */

static void let_go(struct operator* operator)
{
	operator->holding = IDLE;
	operator->resumes = false;
	memset(operator->kept, 0, sizeof(operator->kept));
	memset(operator->waits, 0, sizeof(operator->waits));
}

void operator_cut(unsigned op, const struct wire *wire)
{
	struct operator* operator= & operators[op];

	if (operator->wire != wire)
		return;
	operator->wire = NULL;
	operator->resumes = false;
	memset(operator->waits, 0, sizeof(operator->waits));
	if (operator->holding == ASKED)
		let_go(operator);
}

static void leave(struct operator* operator)
{
	struct wire *wire = operator->wire;

	if (!wire)
		return;
	operator_cut(index_of(operator), wire);
	wire_cut(wire);
}

static bool come(struct operator* operator, int h)
{
	if (operator->wire && operator->wire->h == h)
		return true;
	leave(operator);
	if (h == NOWHERE || !seats[h].desk || seats[h].ghost)
		return false;
	operator->wire = wire_open(index_of(operator), h);
	return true;
}

/* ---- writing ---- */

static void transmit(struct operator* operator, unsigned i)
{
	operator->waits[i] = true;
	operator->sent_at[i] = world.now;
	wire_send(operator->wire, WRITE)->command = operator->kept[i];
}

static void op_roll(const struct operator* operator, struct model_command * command, unsigned i)
{
	uint64_t pieces = (operator->range.last + 1 - operator->range.start) / PIECE;
	uint64_t at = operator->range.start + dice((uint32_t)pieces) * PIECE;

	command->ops[i].words = 1 + dice(WORDS);
	/* No two of one command overlap. */
	command->ops[i].addr = at + (dice(32) * OPS + i) * WORDS * WORD;
	command->bytes += command->ops[i].words * WORD;
}

static void write_new(struct operator* operator)
{
	struct model_command *command;
	unsigned i = (unsigned)(operator->sequence % KEPT);

	/* One that has no answer yet may have to be sent again. */
	if (operator->waits[i])
		return;
	command = model_command_new();
	command->key = (struct ledger_key){operator->id, WRITER, ++operator->sequence };
	command->op = index_of(operator);
	command->tenant = operator->tenant;
	command->g = operator->g;
	command->token = operator->token;
	command->epoch = operator->epoch;
	command->nops = dice(3) ? 1 : 1 + dice(OPS);
	for (unsigned k = 0; k < command->nops; k++)
		op_roll(operator, command, k);
	model_command_add(command);
	operator->kept[i] = command;
	transmit(operator, i);
}

/* What has no answer, in its order, and some of what has one. */
static void write_again(struct operator* operator)
{
	for (unsigned k = 0; k < KEPT; k++) {
		unsigned i = (unsigned)((operator->sequence + k) % KEPT);
		const struct model_command *command = operator->kept[i];

		if (command && !operator->waits[i] &&(!command->answered || dice(3) == 0))
			transmit(operator, i);
	}
}

/* ---- what arrives ---- */

static void hear_granted(struct operator* operator, const struct message * message)
{
	if (operator->holding != ASKED)
		return;
	operator->holding = HOLDS;
	operator->id = message->id;
	operator->token = message->token;
	operator->epoch = message->epoch;
	operator->g = message->g;
	operator->sequence = 0;
}

static void hear_answer(struct operator* operator, const struct message * message)
{
	for (unsigned i = 0; i < KEPT; i++) {
		if (operator->kept[i] == message->command)
			operator->waits[i] = false;
	}
}

static void resume(struct operator* operator)
{
	struct message *message = wire_send(operator->wire, RESUME);

	message->id = operator->id;
	message->token = operator->token;
	operator->resumes = true;
	operator->asked_at = world.now;
	/* It need not wait for the answer. */
	if (dice(2))
		write_again(operator);
}

/* The guest has moved, and its lease with it. */
static void follow(struct operator* operator)
{
	leave(operator);
	if (come(operator, world.guests[operator->g].where))
		resume(operator);
}

void operator_hears(unsigned op, const struct message *message)
{
	struct operator* operator= & operators[op];

	if (message->kind == GRANTED)
		hear_granted(operator, message);
	else if (message->kind == ANSWERED)
		hear_answer(operator, message);
	else if (message->kind == REFUSED && operator->holding == ASKED)
		let_go(operator);
	else if (message->kind == ENDED && operator->holding == ASKED)
		let_go(operator);
	else if (message->kind == ENDED && operator->holding == HOLDS && operator->id ==
					   message->id && message->error == VMSIG_ERR_MOVED &&
					   dice(8))
		follow(operator);
	else if (message->kind == ENDED && operator->holding == HOLDS && operator->id ==
					   message->id)
		let_go(operator);
	else if (message->kind == RESUMED && operator->resumes)
		operator->resumes = false,
		message->error ? let_go(operator) : write_again(operator);
}

/* ---- what they do ---- */

static bool sees(const struct operator* operator, int g)
{
	const struct selector_subject subject = selector_named(world.guests[g].uuid);

	return tenant_sees(policy_of(operator->tenant), &subject);
}

static void ask(struct operator* operator)
{
	int g = (int)dice(GUESTS), h;
	unsigned piece = dice(PIECES);
	struct message *message;

	for (unsigned tries = 0; tries < 8 && !sees(operator, g); tries++)
		g = (int)dice(GUESTS);
	h = world.guests[g].where;
	if (world.faults && dice(8) == 0)
		h = (int)dice(HOSTS);
	if (!sees(operator, g) || !come(operator, h))
		return;
	operator->g = g;
	operator->range =(struct lease_range){
		.start = piece * PIECE, .last = (piece + 1 + dice(PIECES - piece)) * PIECE - 1};
	operator->holding = ASKED;
	operator->asked_at = world.now;
	message = wire_send(operator->wire, ACQUIRE);
	message->g = g;
	message->range = operator->range;
}

static void send_of_lease(struct operator* operator, enum message_kind kind)
{
	struct message *message = wire_send(operator->wire, kind);

	message->id = operator->id;
	message->token = operator->token;
}

static void hold(struct operator* operator)
{
	switch (dice(world.faults ? 14 : 10)) {
	case 0:
		send_of_lease(operator, RELEASE);
		let_go(operator);
		break;
	case 1:
	case 2:
		send_of_lease(operator, RENEW);
		break;
	case 3:
		if (!operator->resumes)
			write_again(operator);
		break;
	case 10:
		operator->silent_until = world.now + MS * dice(8000);
		break;
	case 11:
		leave(operator);
		break;
	default:
		for (unsigned n = 1 + dice(4); n > 0; n--)
			write_new(operator);
	}
}

/* It holds something, as far as it knows, and has no connection. */
static void come_back(struct operator* operator)
{
	if (dice(12) == 0)
		let_go(operator);
	else if (come(operator, world.guests[operator->g].where))
		resume(operator);
}

static void operator_step(struct operator* operator)
{
	if (operator->silent_until> world.now && world.faults)
		return;
	if (operator->holding == HOLDS && !operator->wire)
		come_back(operator);
	else if (operator->holding == HOLDS)
		hold(operator);
	else if (operator->holding == IDLE)
		ask(operator);
	else if (world.faults && dice(40) == 0)
		leave(operator);
}

/* As many as have something to do in the time that has passed. */
void operators_step(void)
{
	uint64_t passed = (world.now - stepped_at) / MS;
	uint64_t most = OPERATORS / (world.faults ? 8 : 16), n = 1 + passed * OPERATORS / 800;

	stepped_at = world.now;
	wires_deliver();
	for (uint64_t i = 0; i < (n < most ? n : most); i++)
		operator_step(&operators[dice(OPERATORS)]);
}

void operators_settled(void)
{
	uint64_t long_ago = world.now - 100000 * MS;

	for (unsigned i = 0; i < OPERATORS; i++) {
		const struct operator* operator= & operators[i];

		if ((operator->holding == ASKED || operator->resumes) && operator->asked_at<
									 long_ago)
			broken("I10: operator %u waits for a lease of guest %d", i, operator->g);
		for (unsigned k = 0; k < KEPT; k++) {
			if (operator->waits[k] && operator->wire && operator->sent_at[k]<long_ago)
				broken("I10: operator %u waits for the answer to command %u",
					i, operator->kept[k]->number);
		}
	}
}
