/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/net/closer.h"
#include "vmsig/vmsig_error.h"

#define COMMANDS_PER_PENDING 4 /* writes are cheap to have in line, and come in windows of 64 */

/* ---- what the message says ---- */

static bool lengths_ok(const Vmsig__WriteOp *op)
{
	return op->data.len && op->data.len <= MEMWRITE_BYTES_MAX &&
	       (!op->expect.len || op->expect.len == op->data.len) &&
	       (!op->mask.len || op->mask.len == op->data.len);
}

static int ops_unpack(struct command *command)
{
	const Vmsig__CmdMemwrite *body = command->body;

	if (body->n_ops > MEMWRITE_OPS_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	command->ops = calloc(body->n_ops, sizeof(*command->ops));
	if (!command->ops)
		return -ENOMEM;
	command->nops = body->n_ops;
	for (size_t i = 0; i < body->n_ops; i++) {
		const Vmsig__WriteOp *op = body->ops[i];

		if (!lengths_ok(op))
			return VMSIG_ERR_BAD_REQUEST;
		command->ops[i] = (struct memwrite_op){.addr = op->addr,
			.cr3 = op->cr3,
			.data = op->data.data,
			.expect = op->expect.len ? op->expect.data : NULL,
			.mask = op->mask.len ? op->mask.data : NULL,
			.len = op->data.len,
			.is_virtual = op->virtual_address};
		command->bytes += op->data.len;
	}
	if (command->bytes > MEMWRITE_BYTES_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	/* The bytes before, as the intent and as the write see them. */
	command->before = malloc(2 * (size_t)command->bytes);
	if (!command->before)
		return -ENOMEM;
	command->old = command->before + command->bytes;
	return 0;
}

/* As one run of bytes. */
static int data_hash(struct command *command)
{
	uint8_t *all, *at;

	if (command->nops == 1)
		return audit_digest(command->desk->audit, command->ops[0].data, command->ops[0].len,
			command->data_hash);
	all = at = desk_scratch(command->desk, (size_t)command->bytes);
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < command->nops; i++) {
		memcpy(at, command->ops[i].data, command->ops[i].len);
		at += command->ops[i].len;
	}
	return audit_digest(command->desk->audit, all, (size_t)command->bytes, command->data_hash);
}

static const char *shape_error(const struct command *command)
{
	const Vmsig__CmdMemwrite *body = command->body;

	if (!body->sequence)
		return "sequence numbers start at 1";
	if (!body->n_ops == !body->bulk)
		return "a write has either operations or bulk data";
	if (body->bulk && (body->want_old || body->quiesce))
		return "bulk data goes without want_old and quiesce; use operations";
	if (body->bulk && command->bulk_fd < 0)
		return "the descriptor of the bulk data is not there: none was sent, or the "
		       "policy's 'bulk' is 0";
	if (body->bulk && !body->bulk->len)
		return "the bulk data is empty";
	return NULL;
}

/* ---- what the policy says ---- */

static int quota_check(struct command *command, const struct desk_operator *op)
{
	uint32_t limit = op->tenant->tenant.quota.pending * COMMANDS_PER_PENDING;

	if (op->commands <= limit && op->queued <= op->tenant->queued_max)
		return 0;
	snprintf(command->detail, sizeof(command->detail),
		"%u writes of %llu bytes have no outcome yet; wait for some, or raise "
		"quota.pending or quota.queued",
		op->commands - 1, (unsigned long long)(op->queued - command->charge));
	return VMSIG_ERR_QUOTA;
}

int command_rule(struct command *command, const struct config_write_rule *rule)
{
	if (!rule) {
		snprintf(command->detail, sizeof(command->detail),
			"the policy has no 'write' rule of yours for this endpoint");
		return VMSIG_ERR_FORBIDDEN;
	}
	command->policy = command->desk->policy;
	command->keep_bytes = rule->keep_bytes;
	command->quiesce_ms = rule->quiesce_max_ms;
	command->bulk_max = rule->bulk_max;
	if (command->body->quiesce && !rule->quiesce_max_ms) {
		snprintf(command->detail, sizeof(command->detail),
			"the policy does not let you stop the guest; its rule needs 'quiesce'");
		return VMSIG_ERR_FORBIDDEN;
	}
	if (command->body->bulk && command->body->bulk->len > rule->bulk_max) {
		snprintf(command->detail, sizeof(command->detail),
			"bulk data of %llu bytes, and the policy's 'bulk' is %llu; send it in "
			"parts",
			(unsigned long long)command->body->bulk->len,
			(unsigned long long)rule->bulk_max);
		return VMSIG_ERR_QUOTA;
	}
	return 0;
}

/* What is refused counts as a write, but its bytes are not charged: nothing has looked at them,
 * and how many it says there are is the sender's to invent. Returns `refusal`, or why not even
 * that is had now. */
static int rate_check(struct command *command, const struct desk_operator *op,
	const struct config_write_rule *rule, int refusal)
{
	uint64_t bytes = refusal ? 0 : command->bytes;
	uint32_t wait_ms;
	int r = refusal ? 0
			: account_check(command->desk, op->tenant, command->detail,
				  sizeof(command->detail));

	if (r)
		return r;
	r = budget_charge(command->desk, op->tenant, rule, bytes, &wait_ms);
	if (r > 0)
		snprintf(command->detail, sizeof(command->detail),
			"more than the policy's writes_per_second or bytes_per_second; send it "
			"again in %u ms",
			wait_ms);
	return r ? r : refusal;
}

static int policy_check(struct command *command, const struct desk_operator *op)
{
	const struct config_write_rule *rule;
	int r;

	command->site = site_find(command->desk, command->body->endpoint);
	if (!command->site || !tenant_sees(&op->tenant->tenant, command->site->name))
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	rule = config_write_rule_find(op->tenant, command->site->name);
	r = command_rule(command, rule);
	if (rule && !r && command->body->bulk)
		r = bulk_check(command);
	return rule ? rate_check(command, op, rule, r) : r;
}

/* ---- */

static int unpack(struct command *command)
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
	command->bytes = body->bulk ? body->bulk->len : 0;
	r = body->bulk ? 0 : ops_unpack(command);
	if (r > 0)
		snprintf(command->detail, sizeof(command->detail),
			"a write has 1 to %u operations of together at most %u bytes, each with "
			"expect and mask as long as its data; use bulk data for more",
			MEMWRITE_OPS_MAX, MEMWRITE_BYTES_MAX);
	return r;
}

static struct command *command_new(struct desk *desk, const struct desk_operator *op,
	Vmsig__WriteRequest *request, int bulk_fd)
{
	struct command *command = calloc(1, sizeof(*command));

	if (!command)
		return NULL;
	command->desk = desk;
	command->charge = protobuf_c_message_get_packed_size(&request->base);
	command_charge(command, op->session);
	command->request_id = request->request_id;
	command->request = request;
	command->body = request->memwrite;
	command->bulk_fd = bulk_fd;
	command->uid = op->uid;
	command->pid = op->pid;
	snprintf(command->tenant, sizeof(command->tenant), "%s", op->tenant->tenant.name);
	snprintf(command->serial, sizeof(command->serial), "%s", op->serial);
	DL_APPEND2(desk->all, command, all_prev, all_next);
	return command;
}

void desk_write(
	struct desk *desk, struct desk_operator *op, Vmsig__WriteRequest *request, int bulk_fd)
{
	struct command *command = command_new(desk, op, request, bulk_fd);
	int r;

	if (!command) {
		desk->env.events->rejected(
			op->client, request->request_id, VMSIG_ERR_NO_MEMORY, NULL);
		vmsig__write_request__free_unpacked(request, NULL);
		if (bulk_fd >= 0)
			closer_give(desk->env.closer, bulk_fd, op->uid);
		return;
	}
	r = share_get(desk->env.shares, SHARE_TENANT, command->tenant, &command->share);
	if (!r)
		r = unpack(command);
	if (!r)
		r = lane_enter(command);
	if (!r)
		r = quota_check(command, op);
	if (!r)
		r = policy_check(command, op);
	if (!r && !command->body->bulk)
		r = data_hash(command);
	if (r) {
		command_reject(command, r, command->detail);
		return;
	}
	DL_APPEND(desk->ready, command);
}
