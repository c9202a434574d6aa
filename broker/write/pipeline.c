/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/pipeline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/write/batch.h"
#include "broker/write/budget.h"
#include "broker/write/bulk.h"
#include "broker/write/command.h"
#include "broker/write/docket.h"
#include "broker/write/hashes.h"
#include "broker/write/lane.h"
#include "broker/write/operator.h"
#include "broker/write/outcome.h"
#include "broker/write/permit.h"
#include "broker/write/record.h"
#include "broker/write/release.h"
#include "broker/write/replay.h"
#include "broker/write/site.h"
#include "broker/write/slices.h"
#include "broker/write/standstill.h"

/* ---- it is looked at ---- */

static void reject(struct command *command, int error)
{
	bulk_free(command);
	outcome_reject(command, error, command->detail);
}

/* At which operation it ended, and why. */
static void explain(struct command *command)
{
	const struct memwrite_result *result = &command->result;
	enum vmsig_error cause = result->cause ? result->cause : result->error;

	snprintf(command->detail, sizeof(command->detail), "operation %u at 0x%llx: %s",
		result->failed_op, (unsigned long long)command->ops[result->failed_op].addr,
		vmsig_error_text((int)cause));
}

/* What is wrong with the batch uses its number up. */
static void fail(struct command *command)
{
	if (command->nops && !command->detail[0])
		explain(command);
	bulk_free(command);
	outcome_finish(command);
}

static void intend(struct command *command)
{
	struct desk *desk = command->desk;
	const struct desk_ops *ops = &desk->env.ops;
	Vmsig__AuditRecord record;

	record_command(&record, command, VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT);
	record_hashes(&record, command);
	record_ranges(&record, command, command->plan.bytes);
	if (command->keep_bytes && !command->body->bulk)
		record_bytes(&record, command, command->before);
	record_append(desk, &record);
	command->intent = record.id;
	if (!desk->batch.failed)
		batch_note(desk, ops->ledger->intend(ops->ctx, &command->key, command_name(command),
					 command->intent));
	command_move(command, COMMAND_INTENDED);
}

static bool is_lease_error(int error)
{
	return error == VMSIG_ERR_NO_LEASE || error == VMSIG_ERR_LEASE_EXPIRED ||
	       error == VMSIG_ERR_LEASE_REVOKED || error == VMSIG_ERR_STALE_EPOCH ||
	       error == VMSIG_ERR_MOVED;
}

static int plan_ops(struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;
	struct memwrite_result *result = &command->result;
	int r;

	*result = (struct memwrite_result){0};
	command->looked = command_looks(command);
	r = ops->guests->resolve(ops->ctx, command->site->target, command->ops, command->nops,
		&command->plan, &result->failed_op);
	if (r < 0)
		return r;
	if (r)
		result->error = result->cause = (enum vmsig_error)r;
	else
		ops->guests->check(ops->ctx, command->site->target, command->ops, &command->plan,
			permit_bytes, command, command->looked ? command->old : NULL, result);
	return (int)result->error;
}

/* What is there now, or at least what will be, for the intent. */
static int hash_intent(struct command *command)
{
	if (!command->looked) {
		memcpy(command->new_hash, command->data_hash, DESK_HASH);
		return 0;
	}
	memcpy(command->before, command->old, (size_t)command->bytes);
	return command_hash(command, command->before);
}

/* Their addresses and what is there now, for the intent. */
static int prepare_ops(struct command *command)
{
	int r = plan_ops(command);

	/* Its deadline has come just now: that says nothing about the batch. */
	if (r < 0 || is_lease_error(r))
		return r;
	if (r) {
		fail(command);
		return 0;
	}
	r = hash_intent(command);
	if (r)
		return r;
	if (command->body->quiesce)
		lane_own(command);
	intend(command);
	return 0;
}

static int prepare_bulk(struct command *command)
{
	bool again;
	int r = bulk_planned(command, &again);

	if (again) {
		/* Nothing came of it yet; it comes back here. */
		command_give_back(command);
		return 0;
	}
	if (r < 0 || is_lease_error(r))
		return r;
	if (!r) {
		intend(command);
		return 0;
	}
	/* Its number is used up, by this data. */
	if (!command->data_known) {
		command_give_back(command);
		return bulk_hash(command, 0);
	}
	command->result = (struct memwrite_result){.error = (enum vmsig_error)r};
	fail(command);
	return 0;
}

/* Nothing has looked at its data. */
static void refund(struct command *command)
{
	const struct grant_tenant *tenant;
	const struct grant_rule *rule = operator_rule(
		command->desk, command->tenant, command->uid, &command->site->subject, &tenant);

	if (rule)
		budget_refund(command->desk, tenant, rule, command->bytes);
}

/* All marks are in use, and some will be free when the results of now, or of the broker before,
 * are recorded. */
static bool is_crowded(struct desk *desk)
{
	desk->crowded = desk->marks == DESK_MARKS_SETTLED || desk->lists[COMMAND_INTENDED] ||
			desk->lists[COMMAND_FINISHED] || desk->lists[COMMAND_TOLD] ||
			desk->lists[COMMAND_RECORDED];
	return desk->crowded;
}

static int take(struct command *command)
{
	int r = command_take(command);

	if (r)
		return r;
	r = replay_note(command);
	if (r)
		command_give_back(command);
	return r;
}

/* Whether it may begin now. */
static int check_new(struct command *command)
{
	struct desk *desk = command->desk;
	int r = permit_command(command);

	if (r)
		return r;
	return desk->closing ? VMSIG_ERR_SHUTTING_DOWN : batch_is_stuck(desk) ? VMSIG_ERR_IO : 0;
}

static void refuse_unread(struct command *command, int error)
{
	refund(command);
	reject(command, error);
}

/* Those behind it wait already, so that they do not overtake it. */
static void look_up(struct command *command)
{
	int r;

	lane_own(command);
	r = bulk_open(command);
	if (r)
		refuse_unread(command, r);
}

/* Of a repeated one. */
static void read_again(struct command *command, uint64_t sum_at)
{
	int r;

	lane_own(command);
	r = bulk_hash(command, sum_at);
	if (r)
		refuse_unread(command, r);
}

static void prepare(struct command *command)
{
	int r = check_new(command);

	if (!r && command->body->bulk && !bulk_is_planned(command)) {
		look_up(command);
		return;
	}
	if (!r) {
		r = take(command);
		/* It stays where it is. */
		if (r == VMSIG_ERR_BUSY && is_crowded(command->desk))
			return;
	}
	if (!r)
		r = command->body->bulk ? prepare_bulk(command) : prepare_ops(command);
	if (r)
		reject(command, r);
}

static void judge(struct command *command)
{
	struct replay_verdict verdict = {.answer = REPLAY_REFUSE};

	verdict.error = replay_authorise(command);
	if (!verdict.error)
		verdict.error = hashes_data(command);
	if (!verdict.error)
		verdict.error = command_hash_all(command);
	if (!verdict.error)
		verdict = replay_look(command);
	switch (verdict.answer) {
	case REPLAY_NEW:
		prepare(command);
		break;
	case REPLAY_WAIT:
		bulk_free(command);
		outcome_join(verdict.first, command);
		break;
	case REPLAY_LATER:
		lane_own(command);
		command_move(command, COMMAND_COMPARING);
		break;
	case REPLAY_READ:
		read_again(command, verdict.sum_at);
		break;
	case REPLAY_ANSWER:
		bulk_free(command);
		outcome_answer(command, &verdict.entry);
		free(verdict.entry.reply);
		break;
	case REPLAY_REFUSE:
		if (command->body->bulk && !command->bulk)
			refund(command);
		reject(command, verdict.error);
		break;
	}
}

static void look(struct command *command)
{
	command->detail[0] = '\0';
	if (lane_is_taken(command)) {
		command_move(command, COMMAND_WAITING);
	} else if (command->release) {
		/* Behind the bytes of those before it; those after it find no lease. */
		lane_own(command);
		command_move(
			command, lane_is_unsettled(command) ? COMMAND_WAITING : COMMAND_INTENDED);
	} else {
		judge(command);
	}
}

static bool look_next(struct command *command)
{
	struct desk *desk = command->desk;

	look(command);
	return !desk->crowded;
}

/* Whoever ends here lets those behind it in its lane go on, and they come before what was sent
 * after them. */
void pipeline_collect(struct desk *desk)
{
	desk->crowded = false;
	docket_round(desk, DOCKET_READY, look_next);
}

/* ---- the bytes ---- */

/* Since the intent of a quiesced one its guest has run until it stopped. */
static int place_check(struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;
	int r = command->body->quiesce ? ops->guests->plan_holds(ops->ctx, command->site->target,
						 command->ops, command->nops, &command->plan)
				       : 0;

	if (r == VMSIG_ERR_BUSY)
		snprintf(command->detail, sizeof(command->detail),
			"the guest has moved the memory behind these addresses before it stopped; "
			"nothing was written; send it again");
	return r < 0 ? VMSIG_ERR_NO_MEMORY : r;
}

static void apply(struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;
	int r = permit_command(command);

	if (!r)
		r = place_check(command);
	if (r) {
		command->result = (struct memwrite_result){.error = (enum vmsig_error)r};
	} else {
		ops->marks->begin(ops->ctx, command->mark);
		ops->guests->apply(ops->ctx, command->site->target, command->ops, &command->plan,
			permit_bytes, command, command->old, &command->result);
		/* Of a stale plan nothing was looked at. */
		command->seen = command->result.error != VMSIG_ERR_STALE_EPOCH;
		if (command->result.error && !command->detail[0])
			explain(command);
	}
	outcome_finish(command);
}

static void apply_still(struct command *command, int error)
{
	if (error) {
		command->result = (struct memwrite_result){.error = (enum vmsig_error)error};
		outcome_finish(command);
		return;
	}
	apply(command);
	standstill_end(command);
}

/* Its intent is durable: bytes may change. */
static bool proceed(struct command *command)
{
	if (command->release)
		release_begin(command);
	else if (command->body->bulk)
		slices_store(command);
	else if (command->body->quiesce)
		standstill_begin(command, apply_still);
	else
		apply(command);
	return true;
}

static const char unrecorded[] =
	"the broker cannot record it, so nothing was written; its log says why";

/* There is no intent. */
static void refuse(struct command *command)
{
	command->intent = 0;
	bulk_free(command);
	outcome_reject(command, VMSIG_ERR_IO, unrecorded);
}

/* Its intent is in the log, whatever the disk has: the number is used up, and that nothing was
 * written is its outcome. */
static void fall_through(struct command *command)
{
	command->result = (struct memwrite_result){.error = VMSIG_ERR_IO};
	snprintf(command->detail, sizeof(command->detail), "%s", unrecorded);
	if (command->body->bulk)
		slices_fail(command, VMSIG_ERR_IO);
	else
		outcome_finish(command);
}

/* Its mark, if it has one, says that it never began. */
static void drop(struct command *command)
{
	bulk_free(command);
	lane_leave(command);
	while (command->joined)
		command_free(command->joined);
	command_free(command);
}

bool pipeline_waits(const struct desk *desk)
{
	return desk->lists[COMMAND_INTENDED];
}

/* What became of the batch with the intents. */
struct verdict {
	int result;
	uint64_t ticket;
};

/* Those that are held come first: nobody passes them. */
static void settle(struct command *command, void *arg)
{
	const struct verdict *verdict = arg;
	const uint64_t ticket = verdict->ticket;
	struct desk *desk = command->desk;
	bool waits = ticket || desk->lists[COMMAND_HELD] || desk->due[DOCKET_CLEARED];

	if (waits && desk->closing) {
		drop(command);
	} else if (verdict->result && !command->release) {
		refuse(command);
	} else if (waits) {
		command->ticket = ticket ? ticket : desk->batch.awaited;
		command_move(command, command->ticket ? COMMAND_HELD : COMMAND_CLEARED);
	} else {
		(void)proceed(command);
	}
}

void pipeline_settle(struct desk *desk, int result, uint64_t ticket)
{
	struct verdict verdict = {result, ticket};

	docket_round(desk, DOCKET_CLEARED, proceed);
	docket_serve_all(desk, COMMAND_INTENDED, settle, &verdict);
}

bool pipeline_is_ready(const struct desk *desk)
{
	return desk->due[DOCKET_READY] || desk->due[DOCKET_CLEARED] ||
	       desk->lists[COMMAND_FINISHED];
}

/* In the order of their tickets. They go on in the turn, a part at a time. */
void pipeline_answered(struct desk *desk, uint64_t ticket, int result)
{
	struct command *command;

	while ((command = desk->lists[COMMAND_HELD]) && command->ticket <= ticket) {
		if (result && !command->release)
			fall_through(command);
		else
			command_move(command, COMMAND_CLEARED);
	}
}

/* ---- the end ---- */

void pipeline_drop_held(struct desk *desk)
{
	while (desk->lists[COMMAND_HELD])
		drop(desk->lists[COMMAND_HELD]);
	while (desk->due[DOCKET_CLEARED])
		drop(desk->due[DOCKET_CLEARED]->commands);
	while (desk->lists[COMMAND_PARTING])
		drop(desk->lists[COMMAND_PARTING]);
}

void pipeline_free(struct desk *desk)
{
	lanes_end(desk);
	while (desk->all)
		drop(desk->all);
}
