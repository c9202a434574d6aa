/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is on its way between the operators of sim_world and the hosts. What goes over one
 * connection comes in its order and late; what goes over two comes in any order. With a connection
 * that is lost what was on its way may be lost as well, or come all the same; and whoever made it
 * may be back by another one before the host has heard of that.
 */
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "proto/wire/unpack.h"
#include "tests/sim/world_planes.h"
#include "vmsig/vmsig_error.h"

struct wire wires[WIRES];

static struct message *messages; /* by when they are due */
static unsigned serials;

static void message_drop(struct message *message)
{
	DL_DELETE(messages, message);
	free(message);
}

void wires_reset(void)
{
	while (messages)
		message_drop(messages);
	memset(wires, 0, sizeof(wires));
	serials = 0;
}

/* ---- connections ---- */

static bool is_to_operator(const struct message *message)
{
	return message->kind >= GRANTED;
}

struct wire *wire_open(unsigned op, int h)
{
	const struct grant_tenant *grants = grants_of(operator_tenant(op));

	for (unsigned i = 0; i < WIRES; i++) {
		struct wire *wire = &wires[i];

		if (wire->used)
			continue;
		*wire = (struct wire){.used = true,
			.open = true,
			.serial = ++serials,
			.op = op,
			.broker = seats[h].broker,
			.h = h,
			.desk = {.tenant = grants,
				.uid = grants->uids[0],
				.pid = 100 + op,
				.client = wire}};
		strcpy(wire->desk.serial, "1");
		(void)planes_clock(h);
		if (desk_operator_open(seats[h].desk, &wire->desk))
			broken("an operator is not let in");
		return wire;
	}
	broken("the simulator has no connection left");
}

/* Of what is on its way to the host nothing comes from some moment on. */
static void lose_some(const struct wire *wire)
{
	uint64_t from = world.now + MS * dice(60);
	struct message *message, *next;

	DL_FOREACH_SAFE (messages, message, next) {
		if (message->wire == (unsigned)(wire - wires) && message->serial == wire->serial &&
			!is_to_operator(message) && message->due >= from)
			message_drop(message);
	}
}

void wire_cut(struct wire *wire)
{
	if (wire->cut)
		return;
	wire->cut = true;
	if (world.faults && dice(2))
		lose_some(wire);
	(void)wire_send(wire, CUT);
}

static void wire_close(struct wire *wire)
{
	if (wire->open && seats[wire->h].desk)
		desk_operator_close(seats[wire->h].desk, planes_clock(wire->h), &wire->desk);
	wire->used = wire->open = false;
}

void wires_end(int h)
{
	for (unsigned i = 0; i < WIRES; i++) {
		struct wire *wire = &wires[i];

		if (!wire->used || wire->h != h)
			continue;
		wire_close(wire);
		if (!wire->cut)
			operator_cut(wire->op, wire);
	}
}

struct message *wire_send(struct wire *wire, enum message_kind kind)
{
	uint64_t *last = &wire->last_due[kind >= GRANTED];
	uint64_t due = world.now + MS * (1 + dice(world.faults && dice(10) == 0 ? 4000 : 30));
	struct message *message = calloc(1, sizeof(*message)), *before;

	if (!message)
		broken("out of memory");
	if (due <= *last)
		due = *last + 1;
	*last = due;
	*message = (struct message){
		.kind = kind, .due = due, .wire = (unsigned)(wire - wires), .serial = wire->serial};
	before = messages ? messages->prev : NULL;
	while (before && before->due > due)
		before = before == messages ? NULL : before->prev;
	DL_APPEND_ELEM(messages, before, message);
	return message;
}

/* ---- arriving at a host ---- */

static void arrive_acquire(struct wire *wire, const struct message *message)
{
	Vmsig__LeaseAcquire request = VMSIG__LEASE_ACQUIRE__INIT;
	Vmsig__Range range = VMSIG__RANGE__INIT, *ranges[] = {&range};
	struct seat *seat = &seats[wire->h];
	uint64_t id;
	bool waits;
	int r;

	range.start = message->range.start;
	range.last = message->range.last;
	request.endpoint = world.guests[message->g].uuid;
	request.ranges = ranges;
	request.n_ranges = 1;
	request.ttl_ms = LEASE_TTL_MS;
	request.wait_ms = 30000;
	request.priority = dice(8) == 0;
	request.no_wait = dice(6) == 0;
	r = desk_acquire(seat->desk, seat->now_ns, &wire->desk, &request, &id, &waits);
	if (seat->ghost)
		return;
	if (!r) {
		model_asked(wire->h, message->g, id, operator_tenant(wire->op), &message->range);
		return;
	}
	if (r == VMSIG_ERR_INTERNAL || r < 0)
		broken("a request for a lease is refused with %d", r);
	say("a lease of guest %d is refused at host %d: %s (%s)", message->g, wire->h,
		vmsig_error_name(r), wire->desk.detail);
	world_tallies[W_REFUSED]++;
	wire_send(wire, REFUSED)->error = r;
}

static void arrive_renew(struct wire *wire, const struct message *message)
{
	struct seat *seat = &seats[wire->h];
	uint32_t left_ms;

	if (desk_renew(
		    seat->desk, seat->now_ns, &wire->desk, message->id, message->token, &left_ms) ||
		seat->ghost)
		return;
	model_renewed(wire->h, message->id, left_ms * MS);
}

static void arrive_resume(struct wire *wire, const struct message *message)
{
	struct seat *seat = &seats[wire->h];
	const struct model_lease *lease = model_lease(message->id);
	int r = desk_resume(seat->desk, seat->now_ns, &wire->desk, message->id, message->token);

	if (seat->ghost)
		return;
	if (!r && lease->over)
		broken("I4: lease %llu is resumed after its end was told",
			(unsigned long long)message->id);
	world_tallies[W_RESUMED] += !r;
	wire_send(wire, RESUMED)->error = r;
}

static void arrive_release(struct wire *wire, const struct message *message)
{
	struct seat *seat = &seats[wire->h];
	bool later = false;
	int r = desk_release(seat->desk, seat->now_ns, &wire->desk, message->id, message->id,
		message->token, &later);

	if (!seat->ghost && !r && !later)
		model_over(wire->h, message->id);
}

static Vmsig__WriteRequest *pack(const struct model_command *command)
{
	static uint64_t data[OPS][WORDS];
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__CmdMemwrite message = VMSIG__CMD_MEMWRITE__INIT;
	Vmsig__WriteOp ops[OPS], *pointers[OPS];
	const struct unpack_budget budget = {.parts = 64, .bytes = 1 << 16};
	uint8_t packed[1024];
	ProtobufCMessage *own;
	size_t len;

	message.lease = command->key.lease;
	message.token = command->token;
	message.endpoint = planes_endpoint(command->g);
	message.epoch = command->epoch;
	message.writer = command->key.writer;
	message.sequence = command->key.sequence;
	for (unsigned i = 0; i < command->nops; i++) {
		vmsig__write_op__init(&ops[i]);
		pointers[i] = &ops[i];
		ops[i].addr = command->ops[i].addr;
		for (unsigned k = 0; k < command->ops[i].words; k++)
			data[i][k] = (uint64_t)(command->number + 1) << 8 | i << 4 | k;
		ops[i].data = (ProtobufCBinaryData){
			.data = (uint8_t *)data[i], .len = command->ops[i].words * WORD};
	}
	message.ops = pointers;
	message.n_ops = command->nops;
	request.request_id = command->number + 1;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_MEMWRITE;
	request.memwrite = &message;
	len = vmsig__write_request__pack(&request, packed);
	if (unpack_message(&own, request.base.descriptor, &budget, packed, len))
		broken("out of memory");
	return (Vmsig__WriteRequest *)(void *)own;
}

static void arrive_write(struct wire *wire, const struct message *message)
{
	struct seat *seat = &seats[wire->h];

	message->command->transmissions++;
	desk_write(seat->desk, seat->now_ns, &wire->desk, pack(message->command), -1);
}

static void (*const arrivals[])(struct wire *wire, const struct message *message) = {
	[ACQUIRE] = arrive_acquire,
	[RENEW] = arrive_renew,
	[RESUME] = arrive_resume,
	[WRITE] = arrive_write,
	[RELEASE] = arrive_release,
};

static void arrive_at_host(struct wire *wire, const struct message *message)
{
	int h = wire->h;

	if (!seats[h].desk || seats[h].ghost)
		return;
	(void)planes_clock(h);
	if (message->kind == CUT)
		wire_close(wire);
	else
		arrivals[message->kind](wire, message);
	planes_perform(h);
	host_perform(h);
}

void wires_deliver(void)
{
	while (messages && messages->due <= world.now) {
		struct message message = *messages;
		struct wire *wire = &wires[message.wire];

		message_drop(messages);
		if (!wire->used || wire->serial != message.serial)
			continue;
		if (!is_to_operator(&message))
			arrive_at_host(wire, &message);
		else if (!wire->cut)
			operator_hears(wire->op, &message);
	}
}

/* ---- what the desk tells ---- */

static bool is_dead(const struct wire *wire)
{
	return seats[wire->h].ghost;
}

static void tell(struct wire *wire, enum message_kind kind, const struct lease_view *lease)
{
	struct message *message = wire_send(wire, kind);

	message->g = (int)lease->endpoint - 1;
	message->id = lease->id;
	message->token = lease->token;
	message->epoch = lease->epoch;
	message->error = (int)lease->reason;
}

static void told_granted(void *arg, const struct lease_view *lease)
{
	struct wire *wire = arg;

	if (is_dead(wire))
		return;
	model_granted(wire->h, lease);
	tell(wire, GRANTED, lease);
}

static void told_refused(void *arg, const struct lease_view *lease)
{
	struct wire *wire = arg;

	if (is_dead(wire))
		return;
	say("a lease of guest %d is refused later at host %d: %s", (int)lease->endpoint - 1,
		wire->h, vmsig_error_name((int)lease->reason));
	world_tallies[W_REFUSED]++;
	tell(wire, REFUSED, lease);
}

static void told_notice(void *arg, const struct lease_view *lease)
{
}

static void told_ended(void *arg, const struct lease_view *lease)
{
	struct wire *wire = arg;

	if (is_dead(wire))
		return;
	say("lease %llu of guest %d has ended at host %d: %s", (unsigned long long)lease->id,
		(int)lease->endpoint - 1, wire->h, vmsig_error_name((int)lease->reason));
	model_ended(wire->h, lease);
	tell(wire, ENDED, lease);
}

/* A release is asked for with the number of its lease. */
static void told_released(void *arg, uint64_t request_id, int error, const char *detail)
{
	const struct wire *wire = arg;

	if (!is_dead(wire) && !error)
		model_over(wire->h, request_id);
}

static void told_written(void *arg, uint64_t request_id, const Vmsig__WriteResult *result)
{
	struct wire *wire = arg;
	struct model_command *command = model_command_numbered((unsigned)request_id - 1);
	struct message *message;

	if (is_dead(wire))
		return;
	say("command %u of lease %llu/%llu at host %d: %s, %llu bytes%s", command->number,
		(unsigned long long)command->key.lease, (unsigned long long)command->key.sequence,
		wire->h, vmsig_error_name((int)result->outcome),
		(unsigned long long)result->written, result->replayed ? ", again" : "");
	model_written(wire->h, command, result);
	message = wire_send(wire, ANSWERED);
	message->command = command;
	message->error = (int)result->outcome;
}

static void told_rejected(void *arg, uint64_t request_id, int error, const char *detail)
{
	struct wire *wire = arg;
	struct model_command *command = model_command_numbered((unsigned)request_id - 1);
	struct message *message;

	if (is_dead(wire))
		return;
	say("command %u of lease %llu/%llu is rejected at host %d: %s (%s)", command->number,
		(unsigned long long)command->key.lease, (unsigned long long)command->key.sequence,
		wire->h, vmsig_error_name(error), detail ? detail : "");
	model_rejected(wire->h, command, error);
	message = wire_send(wire, ANSWERED);
	message->command = command;
	message->error = error;
}

const struct desk_events wire_events = {
	.granted = told_granted,
	.refused = told_refused,
	.notice = told_notice,
	.ended = told_ended,
	.released = told_released,
	.written = told_written,
	.rejected = told_rejected,
};
