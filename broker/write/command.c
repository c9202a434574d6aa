/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/state.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/net/closer.h"
#include "vmsig/vmsig_error.h"

/* ---- ends ---- */

void command_charge(struct command *command, uint64_t session)
{
	struct desk_operator *payer = desk_operator_find(command->desk, command->session);

	if (payer) {
		payer->commands--;
		payer->queued -= command->charge;
		DL_DELETE2(payer->own, command, own_prev, own_next);
	}
	command->session = session;
	payer = desk_operator_find(command->desk, session);
	if (payer) {
		payer->commands++;
		payer->queued += command->charge;
		DL_APPEND2(payer->own, command, own_prev, own_next);
	}
}

/* Is in no list any more. */
struct command *command_free(struct command *command)
{
	struct desk *desk = command->desk;

	command_charge(command, 0);
	lane_leave(command);
	replay_leave(command);
	DL_DELETE2(desk->all, command, all_prev, all_next);
	bulk_free(command->bulk);
	if (command->bulk_fd >= 0)
		closer_give(desk->env.closer, command->bulk_fd, command->uid);
	share_unref(command->share);
	memwrite_plan_deinit(&command->plan);
	free(command->ops);
	free(command->before);
	vmsig__write_request__free_unpacked(command->request, NULL);
	free(command);
	return NULL;
}

void command_reject(struct command *command, int error, const char *detail)
{
	struct desk *desk = command->desk;
	struct desk_operator *op = desk_operator_find(desk, command->session);
	Vmsig__AuditRecord record;
	int number = error > 0 ? error : VMSIG_ERR_NO_MEMORY;

	if (detail != command->detail)
		snprintf(command->detail, sizeof(command->detail), "%s", detail ? detail : "");
	record_command(&record, command, VMSIG__AUDIT_RECORD__KIND__WRITE_REFUSED);
	record.outcome = (uint32_t)number;
	refusal_record(desk, &record);
	replay_done(command);
	if (op)
		desk->env.events->rejected(op->client, command->request_id, number,
			command->detail[0] ? command->detail : NULL);
	command_free(command);
}

/* ---- admission ---- */

int command_admit(void *ctx, const struct lease_range *range)
{
	const struct command *command = ctx;
	const Vmsig__CmdMemwrite *body = command->body;

	return lease_admit(command->desk->engine, desk_now(), command->tenant, body->lease,
		body->token, body->epoch, range);
}

/* Everything but the range. */
static int lease_check(struct command *command)
{
	struct lease_view lease;
	struct lease_range probe;

	if (!lease_find(command->desk->engine, command->key.lease, &lease) ||
		lease.endpoint != command->body->endpoint || !lease.nranges)
		return VMSIG_ERR_NO_LEASE;
	probe = (struct lease_range){.start = lease.ranges[0].start, .last = lease.ranges[0].start};
	return command_admit(command, &probe);
}

/* Whether the endpoint takes bytes at the moment. */
static int endpoint_check(struct command *command)
{
	const vmsig_memwrite_reg *reg = site_reg(command->site, command->desk);
	const char *why = NULL;
	int r;

	if (!reg || !command->site->target)
		return VMSIG_ERR_NOT_READY;
	r = reg->may_write(reg->ctx, &why);
	if (r && why)
		snprintf(command->detail, sizeof(command->detail), "%s", why);
	return r;
}

/* The policy may be another one than when the command came. */
static int policy_check(struct command *command)
{
	const struct desk *desk = command->desk;

	return command->policy == desk->policy
		       ? 0
		       : command_rule(command, desk_rule(desk, command->tenant, command->uid,
						       command->site->name, NULL));
}

int command_check(struct command *command)
{
	int r = lease_check(command);

	if (!r)
		r = policy_check(command);
	return r ? r : endpoint_check(command);
}

/* ---- before the intent ---- */

void command_merge(const struct command *command, const uint8_t *old, uint8_t *new)
{
	for (size_t i = 0; i < command->nops; i++) {
		const struct memwrite_op *op = &command->ops[i];

		for (size_t j = 0; op->mask && j < op->len; j++)
			new[j] = (uint8_t)((old[j] & ~op->mask[j]) | (op->data[j] & op->mask[j]));
		if (!op->mask)
			memcpy(new, op->data, op->len);
		old += op->len;
		new += op->len;
	}
}

static bool has_mask(const struct command *command)
{
	for (size_t i = 0; i < command->nops; i++) {
		if (command->ops[i].mask)
			return true;
	}
	return false;
}

int command_hash(struct command *command, const uint8_t *old)
{
	struct audit *audit = command->desk->audit;
	size_t len = (size_t)command->bytes;
	uint8_t *new;
	int r = audit_digest(audit, old, len, command->old_hash);

	if (r)
		return r;
	if (!has_mask(command)) {
		memcpy(command->new_hash, command->data_hash, AUDIT_HASH);
		return 0;
	}
	new = desk_scratch(command->desk, len);
	if (!new)
		return -ENOMEM;
	command_merge(command, old, new);
	return audit_digest(audit, new, len, command->new_hash);
}

/* In the turn's transaction. */
static void intend(struct command *command)
{
	struct desk *desk = command->desk;
	Vmsig__AuditRecord record;
	void *ranges;

	command->intended = true;
	record_command(&record, command, VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT);
	record_hashes(&record, command);
	ranges = record_ranges(&record, command, command->plan.bytes);
	if (command->keep_bytes && !command->body->bulk)
		record_bytes(&record, command, command->before);
	desk_append(desk, &record);
	free(ranges);
	command->intent = record.id;
	desk_note(
		desk, ledger_intend(desk->ledger, &command->key, command->digest, command->intent));
	DL_APPEND(desk->intended, command);
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
static void refuse(struct command *command)
{
	if (command->nops && !command->detail[0])
		explain(command);
	command_finish(command);
}

static bool is_lease_error(int error)
{
	return error == VMSIG_ERR_NO_LEASE || error == VMSIG_ERR_LEASE_EXPIRED ||
	       error == VMSIG_ERR_LEASE_REVOKED || error == VMSIG_ERR_STALE_EPOCH;
}

static int prepare_ops(struct command *command)
{
	struct memwrite_result *result = &command->result;
	int r;

	*result = (struct memwrite_result){0};
	r = memwrite_resolve(command->site->target, command->ops, command->nops, &command->plan,
		&result->failed_op);
	if (r < 0)
		return r;
	if (r)
		result->error = result->cause = (enum vmsig_error)r;
	else
		memwrite_check(command->site->target, command->ops, &command->plan, command_admit,
			command, command->old, result);
	/* Its deadline has come just now: that says nothing about the batch. */
	if (is_lease_error((int)result->error))
		return (int)result->error;
	if (result->error) {
		refuse(command);
		return 0;
	}
	memcpy(command->before, command->old, (size_t)command->bytes);
	r = command_hash(command, command->before);
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
		replay_done(command);
		return 0;
	}
	if (r < 0 || is_lease_error(r))
		return r;
	if (r) {
		command->result = (struct memwrite_result){.error = (enum vmsig_error)r};
		refuse(command);
		return 0;
	}
	memcpy(command->new_hash, command->data_hash, AUDIT_HASH);
	intend(command);
	return 0;
}

/* Nothing has looked at its data. */
static void refund(struct command *command)
{
	const struct config_tenant *tenant;
	const struct config_write_rule *rule = desk_rule(
		command->desk, command->tenant, command->uid, command->site->name, &tenant);

	if (rule)
		budget_refund(command->desk, tenant, rule, command->bytes);
}

/* Those behind it wait already, so that they do not overtake it. */
static void fetch_bulk(struct command *command)
{
	int r;

	lane_own(command);
	/* Its lease may have ended while it waited for its turn. */
	r = replay_authorise(command);
	if (!r)
		r = bulk_open(command);
	if (!r)
		return;
	refund(command);
	command_reject(command, r, command->detail);
}

/* All marks are in use, and some will be free when the results of this turn are recorded. */
static bool is_crowded(struct desk *desk)
{
	desk->crowded = desk->intended || desk->finished;
	return desk->crowded;
}

/* The command ends up in another list, or is gone. */
static void prepare(struct command *command)
{
	struct desk *desk = command->desk;
	bool is_new = false;
	int r;

	command->detail[0] = '\0';
	if (lane_wait(command))
		return;
	if (command->release) {
		/* Behind the bytes of those before it; those after it find no lease. */
		lane_own(command);
		DL_APPEND(desk->intended, command);
		return;
	}
	if (command->body->bulk && !command->bulk) {
		fetch_bulk(command);
		return;
	}
	r = replay_check(command, &is_new);
	if (!r && !is_new)
		return;
	if (!r)
		r = command_check(command);
	if (!r && (desk->closing || desk_is_stuck(desk)))
		r = desk->closing ? VMSIG_ERR_SHUTTING_DOWN : VMSIG_ERR_IO;
	if (!r)
		r = replay_take(command);
	if (r == VMSIG_ERR_BUSY && is_crowded(desk)) {
		DL_PREPEND(desk->ready, command);
		return;
	}
	if (!r)
		r = command->body->bulk ? prepare_bulk(command) : prepare_ops(command);
	if (r)
		command_reject(command, r, command->detail);
}

/* ---- the bytes ---- */

/* Since the intent of a quiesced one its guest has run until it stopped. */
static int place_check(struct command *command)
{
	int r = command->body->quiesce ? memwrite_plan_holds(command->site->target, command->ops,
						 command->nops, &command->plan)
				       : 0;

	if (r == VMSIG_ERR_BUSY)
		snprintf(command->detail, sizeof(command->detail),
			"the guest has moved the memory behind these addresses before it stopped; "
			"nothing was written; send it again");
	return r < 0 ? VMSIG_ERR_NO_MEMORY : r;
}

static void apply(struct command *command)
{
	int r = command_check(command);

	if (!r)
		r = place_check(command);
	if (r) {
		command->result = (struct memwrite_result){.error = (enum vmsig_error)r};
	} else {
		marks_begin(command->desk->marks, command->mark);
		memwrite_apply(command->site->target, command->ops, &command->plan, command_admit,
			command, command->old, &command->result);
		if (command->result.error && !command->detail[0])
			explain(command);
	}
	command_finish(command);
}

static void quiesce_next(struct site *site, struct desk *desk);

static void quiesce_failed(struct command *command, int error)
{
	command->result = (struct memwrite_result){.error = (enum vmsig_error)error};
	snprintf(command->detail, sizeof(command->detail),
		"the guest's vCPUs could not be stopped (%s); nothing was written",
		vmsig_error_name(error));
	command_finish(command);
}

static void on_quiesced(void *arg, int error)
{
	struct command *command = arg;
	struct desk *desk = command->desk;
	struct site *site = command->site;
	const vmsig_memwrite_reg *reg = site_reg(site, desk);
	struct share_scope scope;

	share_enter(&scope, desk->env.shares, command->share);
	if (error || !reg)
		quiesce_failed(command, error ? error : VMSIG_ERR_GONE);
	else if (reg->is_quiesced(reg->ctx))
		apply(command);
	else
		quiesce_failed(command, VMSIG_ERR_TIMEOUT);
	(void)share_leave(&scope);
	if (!error && reg)
		reg->resume(reg->ctx);
	site->quiescing = NULL;
	quiesce_next(site, desk);
}

static void quiesce(struct command *command)
{
	struct site *site = command->site;
	const vmsig_memwrite_reg *reg = site_reg(site, command->desk);

	if (site->quiescing) {
		DL_APPEND(site->waiting, command);
	} else if (!reg || !reg->quiesce) {
		quiesce_failed(command, VMSIG_ERR_UNSUPPORTED);
	} else {
		site->quiescing = command;
		reg->quiesce(reg->ctx, command->quiesce_ms, on_quiesced, command);
	}
}

static void quiesce_next(struct site *site, struct desk *desk)
{
	struct command *command;

	while (!site->quiescing && (command = site->waiting)) {
		DL_DELETE(site->waiting, command);
		quiesce(command);
	}
}

static void start_bulk(struct command *command)
{
	int r = lease_write_begin(command->desk->engine, command->key.lease);

	if (!r) {
		command->begun = true;
		bulk_store(command);
		return;
	}
	command->result.error = (enum vmsig_error)r;
	command_finish(command);
}

/* One whose lease has ended meanwhile needs no release. */
static void release(struct command *command)
{
	struct desk *desk = command->desk;
	struct desk_operator *op = desk_operator_find(desk, command->session);

	(void)!lease_release(
		desk->engine, desk_now(), command->tenant, command->key.lease, command->release);
	if (op) {
		op->releases--;
		desk->env.events->released(op->client, command->request_id);
	}
	command_free(command);
}

static void start(struct command *command)
{
	if (command->release)
		release(command);
	else if (command->body->bulk)
		start_bulk(command);
	else if (command->body->quiesce)
		quiesce(command);
	else
		apply(command);
}

/* ---- the turn ---- */

/* One at a time from the list itself: whoever ends here lets those behind it in its lane go on,
 * and they come before what was sent after them. */
static void prepare_ready(struct desk *desk)
{
	struct command *command;
	struct share_scope scope;

	if (desk->crowded)
		desk_settle(desk);
	desk->crowded = false;
	while (!desk->crowded && (command = desk->ready)) {
		DL_DELETE(desk->ready, command);
		command->prev = command->next = NULL;
		share_enter(&scope, desk->env.shares, command->share);
		prepare(command);
		(void)share_leave(&scope);
	}
}

void command_proceed(struct command *command, int result)
{
	struct share_scope scope;

	if (!result || command->release) {
		share_enter(&scope, command->desk->env.shares, command->share);
		start(command);
		(void)share_leave(&scope);
		return;
	}
	command->intended = false;
	command_reject(command, VMSIG_ERR_IO,
		"the broker cannot record it, so nothing was written; its log says why");
}

static void start_intended(struct desk *desk)
{
	struct command *command = desk->intended, *next;
	int r = store_is_open(desk->env.store) || desk->failed ? desk_commit(desk) : 0;
	uint64_t sync = command && !r ? durable_ask(desk) : 0;

	desk->intended = NULL;
	for (; command; command = next) {
		next = command->next;
		command->prev = command->next = NULL;
		if (sync)
			durable_hold(command, sync);
		else
			command_proceed(command, r);
	}
}

static void tell_finished(struct desk *desk)
{
	struct command *command;

	DL_FOREACH (desk->finished, command) {
		if (!command->told)
			command_tell(command);
	}
}

/* In the transaction of this turn's intents, if there are any. */
static bool is_record_time(const struct desk *desk)
{
	if (!desk->record_ns)
		return false;
	return store_is_open(desk->env.store) || desk->closing ||
	       (desk->record_ns <= desk_now() && !desk_is_stuck(desk));
}

bool commands_turn(struct desk *desk)
{
	if (!desk->ready && !desk->slicing && !desk->finished)
		return false;
	prepare_ready(desk);
	if (is_record_time(desk))
		commands_record(desk);
	start_intended(desk);
	bulks_look(desk);
	tell_finished(desk);
	return desk->ready != NULL;
}
