/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command comes in (desk_write()): it is read, paid for, held against the policy and its rates,
 * and READY from then on, or refused.
 */
#include "broker/write/desk.h"

#include <stdio.h>

#include "broker/write/bill.h"
#include "broker/write/budget.h"
#include "broker/write/bulk.h"
#include "broker/write/command.h"
#include "broker/write/lane.h"
#include "broker/write/message.h"
#include "broker/write/operator.h"
#include "broker/write/outcome.h"
#include "broker/write/permit.h"
#include "broker/write/replay.h"
#include "broker/write/site.h"
#include "proto/wire/unpack.h"

/* What is refused counts as a write, but its bytes are not charged: nothing has looked at them,
 * and how many it says there are is the sender's to invent. Returns `refusal`, or why not even
 * that is had now. */
static int rate_check(struct command *command, const struct desk_operator *op,
	const struct grant_rule *rule, int refusal)
{
	uint64_t bytes = refusal ? 0 : command->bytes;
	uint32_t wait_ms;
	int r = refusal ? 0
			: bill_check(command->desk, op->tenant, command->detail,
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

static int bulk_allowed(struct command *command)
{
	int r = bulk_check(command);

	/* Nobody but a holder has work done. */
	return r ? r : replay_authorise(command);
}

static int policy_check(struct command *command, struct desk_operator *op)
{
	const struct desk_ruling *ruling;
	const struct grant_rule *rule;
	int r;

	command->site = site_find(command->desk, command->body->endpoint);
	if (!command->site)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	ruling = operator_ruling(command->desk, op, command->site->id, &command->site->subject);
	if (!ruling->sees)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	rule = ruling->rule;
	r = permit_rule(command, rule);
	if (rule && !r && command->body->bulk)
		r = bulk_allowed(command);
	return rule ? rate_check(command, op, rule, r) : r;
}

static int enter(struct command *command, struct desk_operator *op)
{
	int r = message_read(command);

	if (!r)
		r = lane_enter(command);
	if (!r)
		r = operator_check(command, op);
	if (!r)
		r = policy_check(command, op);
	return r;
}

/* There is not even a command. The operator comes last: who cannot be told is gone afterwards. */
static void turn_away(struct desk *desk, const struct desk_operator *op,
	Vmsig__WriteRequest *request, int bulk_fd)
{
	const struct desk_ops *ops = &desk->env.ops;
	uint64_t request_id = request->request_id;

	unpack_free(request);
	if (bulk_fd >= 0)
		ops->fd_close(ops->ctx, bulk_fd, op->uid);
	desk->env.events->rejected(op->client, request_id, VMSIG_ERR_NO_MEMORY, NULL);
}

void desk_write(struct desk *desk, uint64_t now_ns, struct desk_operator *op,
	Vmsig__WriteRequest *request, int bulk_fd)
{
	struct command *command;
	int r;

	desk_enter(desk, now_ns);
	if (command_new(&command, desk, op, request, bulk_fd)) {
		turn_away(desk, op, request, bulk_fd);
		return;
	}
	r = enter(command, op);
	if (r)
		outcome_reject(command, r, command->detail);
	else
		command_move(command, COMMAND_READY);
}
