/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What commands say. Each word of a command's data names the command and its place in it, so
 * whoever finds one in a guest's memory knows where it comes from; but some commands store an
 * entry of a page table first and write through it then.
 */
#include "tests/sim/write_world.h"

#include <stdlib.h>
#include <string.h>

#include "proto/wire/unpack.h"

#define LONG_WORDS 1300u /* of an operation: some pages */
#define INVENTED (1ull << 62)

uint64_t body_word(const struct model_command *command, unsigned index)
{
	const struct body *body = &command->body;

	for (unsigned i = 0; i < body->nops; i++) {
		if (body->ops[i].table && body->ops[i].first == index)
			return body->ops[i].value;
	}
	return (uint64_t)(command - world.commands + 1) << 32 | index;
}

struct model_command *body_find(uint64_t word)
{
	uint64_t index = word >> 32;

	return index && index <= world.ncommands ? &world.commands[index - 1] : NULL;
}

/* ---- rolling ---- */

static bool is_in(const struct model_lease *lease, uint64_t page)
{
	for (size_t i = 0; i < lease->nranges; i++) {
		if (lease->ranges[i].start <= page * PAGE && page * PAGE <= lease->ranges[i].last)
			return true;
	}
	return false;
}

static uint64_t page_in(const struct model_lease *lease)
{
	const struct lease_range *range = &lease->ranges[dice((uint32_t)lease->nranges)];

	return range->start / PAGE + dice((uint32_t)((range->last - range->start + 1) / PAGE));
}

/* One that the tables lead into the lease from, if there is one. */
static uint64_t virtual_page(const struct model_lease *lease, const struct guest *guest)
{
	unsigned page = dice(PAGES);

	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t entry = guest->expected[LEAF / WORD + (page + i) % PAGES];

		if (entry & 1 && is_in(lease, entry / PAGE))
			return (page + i) % PAGES;
	}
	return page;
}

/* How many words there may be from here on; now and then it is too many. */
static unsigned words_at(const struct model_lease *lease, uint64_t at, unsigned words)
{
	uint64_t page = at / PAGE, end;

	while (dice(8) && page < PAGES && is_in(lease, page))
		page++;
	end = page * PAGE > at ? page * PAGE : at + WORD;
	if (words > (end - at) / WORD)
		words = (unsigned)((end - at) / WORD);
	return at + words * WORD > RAM ? 1 : words;
}

static void op_add(struct body *body, uint64_t addr, unsigned words, bool is_virtual)
{
	body->ops[body->nops++] = (struct body_op){.addr = addr,
		.words = words,
		.first = (unsigned)(body->bytes / WORD),
		.is_virtual = is_virtual};
	body->bytes += words * WORD;
}

static unsigned words_roll(void)
{
	return dice(3) ? 1 : dice(4) ? 1 + dice(16) : 1 + dice(LONG_WORDS);
}

static void roll_physical(struct body *body, const struct model_lease *lease)
{
	uint64_t at = page_in(lease) * PAGE + dice(PAGE / WORD) * WORD;

	op_add(body, at, words_at(lease, at, words_roll()), false);
}

static void roll_virtual(
	struct body *body, const struct model_lease *lease, const struct guest *guest)
{
	uint64_t page = dice(6) ? virtual_page(lease, guest) : dice(PAGES);
	uint64_t at = page * PAGE + dice(PAGE / WORD) * WORD;
	unsigned words = words_roll();

	if (dice(4) && at % PAGE + words * WORD > PAGE)
		words = (unsigned)((PAGE - at % PAGE) / WORD);
	op_add(body, at, at + words * WORD > RAM ? 1 : words, true);
}

/* One entry of the leaf table, so that the page of the next operation is another one. */
static void roll_lead_astray(
	struct body *body, const struct model_lease *lease, const struct guest *guest)
{
	unsigned page = (unsigned)virtual_page(lease, guest);

	op_add(body, LEAF + page * WORD, 1, false);
	body->ops[body->nops - 1].table = true;
	body->ops[body->nops - 1].value = (uint64_t)dice(PAGES) * PAGE | 7;
	op_add(body, page * PAGE + dice(PAGE / WORD) * WORD, 1, true);
}

static void roll_bulk(struct body *body, const struct model_lease *lease)
{
	const struct lease_range *range = &lease->ranges[0];
	uint64_t len = range->last - range->start + 1;
	uint32_t most = (uint32_t)((len < RAM ? len : RAM) / PAGE);

	body->bulk = true;
	body->nops = 0;
	body->bytes = 0;
	if (dice(4)) {
		op_add(body, range->start, (1 + dice(most)) * (PAGE / WORD), false);
	} else {
		unsigned pages = 1 + dice(PAGES - 1);

		op_add(body, dice(PAGES - pages) * PAGE, pages * (PAGE / WORD), true);
	}
	body->bulk_len = dice(10) ? body->bytes : INVENTED;
}

static void roll_expectation(struct body *body, const struct guest *guest)
{
	struct body_op *op = &body->ops[0];

	if (op->is_virtual || op->table || op->words > 4 || body->bulk || dice(3))
		return;
	op->expects = true;
	for (unsigned i = 0; i < op->words; i++)
		body->expect[i] = guest->expected[op->addr / WORD + i] ^ (dice(6) == 0);
}

void body_roll(
	struct model_command *command, const struct model_lease *lease, const struct guest *guest)
{
	struct body *body = &command->body;
	unsigned kind = dice(16), n = dice(3) ? 1 : 1 + dice(OPS);

	body->nops = 0;
	body->bytes = 0;
	if (kind < 2 && policy_rule(world.policy, command->tenant, command->site) &&
		policy_rule(world.policy, command->tenant, command->site)->bulk_max) {
		roll_bulk(body, lease);
	} else if (kind < 5) {
		roll_lead_astray(body, lease, guest);
	} else {
		for (unsigned i = 0; i < n; i++) {
			if (kind < 9)
				roll_virtual(body, lease, guest);
			else
				roll_physical(body, lease);
		}
	}
	body->want_old = dice(3) == 0;
	body->quiesce = dice(6) == 0;
	if (body->bulk)
		return;
	body->ops[0].masks = body->ops[0].words > 1 && !body->ops[0].table && dice(4) == 0;
	roll_expectation(body, guest);
}

/* ---- packing ---- */

static void op_fill(Vmsig__WriteOp *op, const struct model_command *command, unsigned index,
	uint64_t *data, uint64_t *mask)
{
	const struct body_op *says = &command->body.ops[index];
	size_t len = says->words * WORD;

	vmsig__write_op__init(op);
	op->addr = says->addr;
	op->virtual_address = says->is_virtual;
	for (unsigned i = 0; i < says->words; i++) {
		data[i] = body_word(command, says->first + i);
		mask[i] = i % 2 ? 0 : UINT64_MAX;
	}
	op->data = (ProtobufCBinaryData){.data = (uint8_t *)data, .len = len};
	if (says->masks)
		op->mask = (ProtobufCBinaryData){.data = (uint8_t *)mask, .len = len};
	if (says->expects)
		op->expect = (ProtobufCBinaryData){
			.data = (uint8_t *)(uintptr_t)command->body.expect, .len = len};
}

static Vmsig__WriteRequest *copy(const Vmsig__WriteRequest *request)
{
	size_t len = vmsig__write_request__get_packed_size(request);
	const struct unpack_budget budget = {.parts = 1024, .bytes = 1 << 20};
	uint8_t *packed = malloc(len);
	ProtobufCMessage *own;

	if (!packed)
		broken("out of memory");
	vmsig__write_request__pack(request, packed);
	if (unpack_message(&own, request->base.descriptor, &budget, packed, len))
		broken("out of memory");
	free(packed);
	return (Vmsig__WriteRequest *)(void *)own;
}

static void head_fill(Vmsig__CmdMemwrite *message, const struct body *body)
{
	message->lease = body->lease;
	message->token = body->token;
	message->endpoint = body->endpoint;
	message->epoch = body->epoch;
	message->writer = body->writer;
	message->sequence = body->sequence;
	message->want_old = body->want_old;
	message->quiesce = body->quiesce;
}

Vmsig__WriteRequest *body_pack(const struct model_command *command, uint64_t request_id)
{
	static uint64_t data[OPS][LONG_WORDS + 1], mask[OPS][LONG_WORDS + 1];
	const struct body *body = &command->body;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__CmdMemwrite message = VMSIG__CMD_MEMWRITE__INIT;
	Vmsig__WriteBulk bulk = VMSIG__WRITE_BULK__INIT;
	Vmsig__WriteOp ops[OPS], *pointers[OPS];

	head_fill(&message, body);
	for (unsigned i = 0; !body->bulk && i < body->nops; i++) {
		op_fill(&ops[i], command, i, data[i], mask[i]);
		pointers[i] = &ops[i];
	}
	message.ops = pointers;
	message.n_ops = body->bulk ? 0 : body->nops;
	if (body->bulk) {
		bulk.addr = body->ops[0].addr;
		bulk.virtual_address = body->ops[0].is_virtual;
		bulk.len = body->bulk_len;
		message.bulk = &bulk;
	}
	request.request_id = request_id;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_MEMWRITE;
	request.memwrite = &message;
	return copy(&request);
}
