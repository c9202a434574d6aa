/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/write/command.h"
#include "broker/write/operator.h"
#include "proto/mishap.h"

static bool lengths_ok(const Vmsig__WriteOp *op)
{
	return op->data.len && op->data.len <= MEMWRITE_BYTES_MAX &&
	       (!op->expect.len || op->expect.len == op->data.len) &&
	       (!op->mask.len || op->mask.len == op->data.len);
}

static int ops_measure(const Vmsig__CmdMemwrite *body, uint64_t *ret_bytes)
{
	uint64_t bytes = 0;

	if (body->n_ops > MEMWRITE_OPS_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	for (size_t i = 0; i < body->n_ops; i++) {
		if (!lengths_ok(body->ops[i]))
			return VMSIG_ERR_BAD_REQUEST;
		bytes += body->ops[i]->data.len;
	}
	*ret_bytes = bytes;
	return bytes <= MEMWRITE_BYTES_MAX ? 0 : VMSIG_ERR_BAD_REQUEST;
}

static int ops_unpack(struct command *command)
{
	const Vmsig__CmdMemwrite *body = command->body;
	int r = ops_measure(body, &command->bytes);

	if (r)
		return r;
	/* The operations, and the bytes before as the intent and as the write see them. */
	command->memory =
		MISHAP("message-memory")
			? NULL
			: malloc(body->n_ops * sizeof(*command->ops) + 2 * (size_t)command->bytes);
	if (!command->memory)
		return -ENOMEM;
	command->ops = command->memory;
	command->nops = body->n_ops;
	command->before = (uint8_t *)(command->ops + command->nops);
	command->old = command->before + command->bytes;
	for (size_t i = 0; i < body->n_ops; i++) {
		const Vmsig__WriteOp *op = body->ops[i];

		command->ops[i] = (struct memwrite_op){.addr = op->addr,
			.cr3 = op->cr3,
			.data = op->data.data,
			.expect = op->expect.len ? op->expect.data : NULL,
			.mask = op->mask.len ? op->mask.data : NULL,
			.len = op->data.len,
			.is_virtual = op->virtual_address};
	}
	return 0;
}

static const char *shape_error(const struct command *command)
{
	const Vmsig__CmdMemwrite *body = command->body;

	if (!body->sequence)
		return "sequence numbers start at 1";
	if (!body->n_ops == !body->bulk)
		return "a write has either operations or bulk data";
	if (body->bulk && body->want_old && body->bulk->len > MEMWRITE_BYTES_MAX)
		return "the bytes that were there before come with at most 1 MiB of bulk data; "
		       "send it in parts";
	if (body->bulk && command->bulk_fd < 0)
		return "the descriptor of the bulk data is not there: none was sent, or the "
		       "policy's 'bulk' is 0";
	if (body->bulk && !body->bulk->len)
		return "the bulk data is empty";
	return NULL;
}

/* What was there before, for the answer: memory that the connection pays for. */
static int bulk_unpack(struct command *command)
{
	command->bytes = command->body->bulk->len;
	if (!command->body->want_old)
		return 0;
	command->memory = MISHAP("old-bytes-memory") ? NULL : calloc(1, (size_t)command->bytes);
	if (!command->memory)
		return -ENOMEM;
	command->old = command->before = command->memory;
	operator_pay_more(command, command->size + command->bytes);
	return 0;
}

int message_read(struct command *command)
{
	const Vmsig__CmdMemwrite *body = command->body;
	const char *why = shape_error(command);
	int r;

	if (why) {
		snprintf(command->detail, sizeof(command->detail), "%s", why);
		return VMSIG_ERR_BAD_REQUEST;
	}
	command->key = (struct ledger_key){
		.lease = body->lease, .writer = body->writer, .sequence = body->sequence};
	r = body->bulk ? bulk_unpack(command) : ops_unpack(command);
	if (r > 0)
		snprintf(command->detail, sizeof(command->detail),
			"a write has 1 to %u operations of together at most %u bytes, each with "
			"expect and mask as long as its data; use bulk data for more",
			MEMWRITE_OPS_MAX, MEMWRITE_BYTES_MAX);
	return r;
}
