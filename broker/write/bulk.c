/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/bulk.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/write/command.h"
#include "broker/write/operator.h"
#include "broker/write/outcome.h"
#include "broker/write/payer.h"
#include "broker/write/permit.h"
#include "broker/write/site.h"

#define SLICE (256u << 10)     /* bytes that are stored in one go: some 100 us */
#define PLAN_PART (4ull << 20) /* bytes whose addresses are looked up in one go: 1,024 pages */

struct bulk {
	struct command *command;
	struct payer *payer;
	struct desk_source *source;
	struct share_task task;
	bool working; /* a thread has it */
	uint64_t len;
	int plan_error;
	uint64_t plan_charge; /* bytes of the command's size that are for the plan */
	uint64_t done;
	size_t data_len, old_len; /* what was read, and how much of it has been stored */
	bool last;                /* there is no further slice: `result` says why */
	struct memwrite_result result;
};

static const struct desk_ops *ops_of(const struct bulk *bulk)
{
	return &bulk->command->desk->env.ops;
}

/* ---- life ---- */

void bulk_free(struct command *command)
{
	struct bulk *bulk = command->bulk;

	if (!bulk)
		return;
	command->bulk = NULL;
	share_task_cancel(&bulk->task);
	if (bulk->source)
		ops_of(bulk)->bulk->close(ops_of(bulk)->ctx, bulk->source);
	if (bulk->payer && bulk->payer->storing == command)
		bulk->payer->storing = NULL;
	payer_unref(bulk->payer);
	free(bulk);
}

__attribute__((format(printf, 3, 4))) static int complain(
	struct command *command, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(command->detail, sizeof(command->detail), format, args);
	va_end(args);
	return error;
}

int bulk_check(struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;
	const Vmsig__WriteBulk *body = command->body->bulk;
	const char *why = NULL;
	int r = ops->bulk->check(ops->ctx, command->bulk_fd, body->offset, body->len, &why);

	return r && why ? complain(command, r, "%s", why) : r;
}

/* ---- hashing ---- */

static void plan_start(struct bulk *bulk);

static void on_hashed(void *arg, uint64_t now_ns, int error)
{
	struct bulk *bulk = arg;
	struct command *command = bulk->command;
	int r = error;

	desk_enter(command->desk, now_ns);
	bulk->working = false;
	if (!r)
		r = ops_of(bulk)->bulk->digest(ops_of(bulk)->ctx, bulk->source, command->data_hash);
	if (!r) {
		plan_start(bulk);
		return;
	}
	bulk_free(command);
	outcome_reject(command, r, NULL);
}

static int open_parts(struct bulk *bulk)
{
	struct command *command = bulk->command;
	int r = payer_get(command->desk, command->tenant, &bulk->payer);

	return r ? r
		 : ops_of(bulk)->bulk->open(ops_of(bulk)->ctx, bulk->payer->line, command->bulk_fd,
			   command->body->bulk->offset, bulk->len, &bulk->source);
}

static void plan_step(struct share_task *task);

int bulk_open(struct command *command)
{
	struct bulk *bulk = command->bulk = calloc(1, sizeof(*bulk));
	int r;

	if (!bulk)
		return -ENOMEM;
	bulk->command = command;
	bulk->len = command->body->bulk->len;
	share_task_init(&bulk->task, command->share, plan_step);
	r = open_parts(bulk);
	if (r) {
		bulk_free(command);
		return r;
	}
	bulk->working = true;
	command_move(command, COMMAND_HASHING);
	ops_of(bulk)->bulk->hash(ops_of(bulk)->ctx, bulk->source, on_hashed, bulk);
	return 0;
}

/* ---- where it goes ---- */

static int admit_from(struct command *command, size_t first)
{
	const struct memwrite_plan *plan = &command->plan;

	for (size_t i = first; i < plan->n; i++) {
		const struct memwrite_piece *piece = &plan->pieces[i];
		const struct lease_range range = {piece->gpa, piece->gpa + (piece->len - 1)};
		int r = permit_bytes(command, command->desk->now_ns, &range);

		if (r)
			return r;
	}
	return 0;
}

/* The next part of it, the last piece of the one before included: it may have grown. */
static int plan_part(struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;
	const Vmsig__WriteBulk *body = command->body->bulk;
	const struct memwrite_op op = {.addr = body->addr,
		.cr3 = body->cr3,
		.is_virtual = body->virtual_address,
		.len = body->len};
	size_t known = command->plan.n;
	int r;

	if (!command->site->target)
		return VMSIG_ERR_NOT_READY;
	r = ops->guests->resolve_part(
		ops->ctx, command->site->target, &op, PLAN_PART, &command->plan);
	return r ? r : admit_from(command, known ? known - 1 : 0);
}

/* The pieces are memory that the connection pays for, like its requests. */
static void plan_charge(struct command *command)
{
	struct bulk *bulk = command->bulk;
	uint64_t size = command->plan.size * sizeof(*command->plan.pieces);

	operator_pay_more(command, command->size - bulk->plan_charge + size);
	bulk->plan_charge = size;
}

static struct bulk *bulk_of(struct share_task *task)
{
	return (struct bulk *)(void *)((char *)task - offsetof(struct bulk, task));
}

static void plan_step(struct share_task *task)
{
	struct bulk *bulk = bulk_of(task);
	struct command *command = bulk->command;

	bulk->plan_error = plan_part(command);
	if (!bulk->plan_error && command->plan.bytes < bulk->len) {
		share_task_ready(task);
		return;
	}
	plan_charge(command);
	command_move(command, COMMAND_READY);
}

static void plan_start(struct bulk *bulk)
{
	struct command *command = bulk->command;

	memwrite_plan_deinit(&command->plan);
	command_move(command, COMMAND_PLANNING);
	share_task_ready(&bulk->task);
}

static int plan_complain(struct command *command, int error)
{
	if (error == VMSIG_ERR_QUOTA)
		return complain(command, error,
			"the bulk data goes to more than %u separate pieces of guest memory; send "
			"it in parts",
			MEMWRITE_PIECES_MAX);
	return complain(command, error, "planned up to byte %llu: %s",
		(unsigned long long)command->plan.bytes, vmsig_error_text(error));
}

int bulk_planned(struct command *command, bool *ret_again)
{
	struct bulk *bulk = command->bulk;
	const struct desk_ops *ops = ops_of(bulk);
	int r = bulk->plan_error;

	/* Its memory was not there, or is another one by now. */
	*ret_again =
		r == VMSIG_ERR_NOT_READY || r == VMSIG_ERR_STALE_EPOCH ||
		(!r && !ops->guests->plan_fits(ops->ctx, &command->plan, command->site->target));
	if (*ret_again) {
		bulk->plan_error = 0;
		plan_start(bulk);
		return 0;
	}
	return r > 0 ? plan_complain(command, r) : r;
}

/* ---- slices ---- */

static void store_next(struct payer *payer);

/* What ends it before its next slice. */
static int stop_reason(struct command *command)
{
	return command->desk->closing ? VMSIG_ERR_SHUTTING_DOWN : permit_command(command);
}

static void hash_old(struct bulk *bulk)
{
	struct command *command = bulk->command;

	/* Not of all of it when a thread was stopped before it had looked: then of nothing. */
	if (bulk->old_len ||
		ops_of(bulk)->bulk->digest(ops_of(bulk)->ctx, bulk->source, command->old_hash))
		memset(command->old_hash, 0, DESK_HASH);
}

static void finish(struct bulk *bulk, struct memwrite_result result)
{
	struct command *command = bulk->command;
	enum vmsig_error cause = result.cause ? result.cause : result.error;
	struct payer *payer = bulk->payer;

	if (result.error && !command->detail[0])
		snprintf(command->detail, sizeof(command->detail), "after %llu bytes: %s",
			(unsigned long long)bulk->done, vmsig_error_text((int)cause));
	if (result.error && bulk->done)
		result.error = VMSIG_ERR_PARTIAL;
	result.written = bulk->done;
	result.failed_op = 0;
	command->result = result;
	hash_old(bulk);
	outcome_finish(command);
	if (payer->storing == command) {
		payer->storing = NULL;
		store_next(payer);
	}
	bulk_free(command);
}

static void end_by(struct bulk *bulk, int error)
{
	bulk->last = true;
	bulk->result = (struct memwrite_result){
		.error = error > 0 ? (enum vmsig_error)error : VMSIG_ERR_INTERNAL};
}

static void on_sliced(void *arg, uint64_t now_ns, int error)
{
	struct bulk *bulk = arg;
	int r = error;

	desk_enter(bulk->command->desk, now_ns);
	bulk->working = false;
	/* The thread has looked at them. */
	if (error != VMSIG_ERR_SHUTTING_DOWN)
		bulk->old_len = 0;
	if (!r)
		r = stop_reason(bulk->command);
	if (r && !bulk->last)
		end_by(bulk, r);
	if (bulk->last)
		finish(bulk, bulk->result);
	else
		share_task_ready(&bulk->task);
}

static size_t at_most(uint64_t left, size_t most)
{
	return left < most ? (size_t)left : most;
}

static void step(struct bulk *bulk)
{
	struct payer *payer = bulk->payer;

	bulk->working = true;
	bulk->data_len = bulk->last ? 0 : at_most(bulk->len - bulk->done, PAYER_ROOM);
	ops_of(bulk)->bulk->step(ops_of(bulk)->ctx, bulk->source, payer->old, bulk->old_len,
		bulk->done, payer->data, bulk->data_len, on_sliced, bulk);
}

/* There is nothing more to store; a thread still has to look at what was there before. */
static void wind_up(struct bulk *bulk)
{
	share_task_cancel(&bulk->task);
	if (bulk->old_len)
		step(bulk);
	else
		finish(bulk, bulk->result);
}

/* The last one ends it, though its result has still to be made. */
static void slice_mark(struct bulk *bulk, uint64_t done)
{
	struct command *command = bulk->command;

	command->result = (struct memwrite_result){.written = done};
	if (!bulk->result.error && done == bulk->len)
		outcome_mark(command);
	else
		ops_of(bulk)->marks->pause(ops_of(bulk)->ctx, command->mark, done);
}

static void slice_apply(struct bulk *bulk)
{
	struct command *command = bulk->command;
	const struct desk_ops *ops = ops_of(bulk);
	struct memwrite_op op = {.data = bulk->payer->data + bulk->old_len};
	size_t len = at_most(bulk->data_len - bulk->old_len, SLICE);
	struct memwrite_slice slice;
	int r = stop_reason(command);

	if (r) {
		end_by(bulk, r);
		return;
	}
	memwrite_plan_cut(&command->plan, bulk->done, len, &slice);
	op.len = slice.plan.bytes;
	ops->marks->begin(ops->ctx, command->mark);
	ops->guests->apply(ops->ctx, command->site->target, &op, &slice.plan, permit_bytes, command,
		bulk->payer->old + bulk->old_len, &bulk->result);
	slice_mark(bulk, bulk->done + bulk->result.written);
}

static void store_step(struct share_task *task)
{
	struct bulk *bulk = bulk_of(task);

	slice_apply(bulk);
	bulk->done += bulk->result.written;
	bulk->old_len += (size_t)bulk->result.written;
	bulk->last = bulk->result.error || bulk->done == bulk->len;
	if (bulk->last)
		wind_up(bulk);
	else if (bulk->old_len == bulk->data_len)
		step(bulk);
	else
		share_task_ready(task);
}

/* The next one of the tenant, in the order in which they were recorded. */
static void store_next(struct payer *payer)
{
	struct command *command;

	if (payer->storing)
		return;
	DL_FOREACH (payer->desk->lists[COMMAND_SLICING], command) {
		if (command->bulk->payer != payer)
			continue;
		payer->storing = command;
		share_task_init(&command->bulk->task, command->share, store_step);
		step(command->bulk);
		return;
	}
}

void bulk_store(struct command *command)
{
	command_move(command, COMMAND_SLICING);
	store_next(command->bulk->payer);
}

void bulks_look(struct desk *desk)
{
	struct command *command, *next;

	DL_FOREACH_SAFE (desk->lists[COMMAND_SLICING], command, next) {
		int r = command->bulk->working ? 0 : stop_reason(command);

		if (!r)
			continue;
		end_by(command->bulk, r);
		wind_up(command->bulk);
	}
}
