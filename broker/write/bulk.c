/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/bulk.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/write/bulk_object.h"
#include "broker/write/command.h"
#include "broker/write/docket.h"
#include "broker/write/operator.h"
#include "broker/write/outcome.h"
#include "broker/write/payer.h"
#include "broker/write/permit.h"
#include "broker/write/site.h"
#include "proto/mishap.h"

#define PLAN_PART (4ull << 20) /* bytes whose addresses are looked up in one go: 1,024 pages */

static const struct desk_ops *ops_of(const struct bulk *bulk)
{
	return &bulk->command->desk->env.ops;
}

/* ---- life ---- */

static void rooms_free(struct bulk *bulk)
{
	for (size_t i = 0; i < bulk->nrooms; i++) {
		if (bulk->rooms[i].memory)
			ops_of(bulk)->bulk->room_give(ops_of(bulk)->ctx, bulk->rooms[i].memory);
	}
	free(bulk->rooms);
}

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
	rooms_free(bulk);
	memwrite_plan_deinit(&bulk->again);
	payer_forget(&bulk->charges);
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

static void plan_step(struct share_task *task);

static struct bulk *bulk_new(struct command *command)
{
	struct bulk *bulk = MISHAP("bulk-memory") ? NULL : calloc(1, sizeof(*bulk));

	if (!bulk)
		return NULL;
	bulk->command = command;
	bulk->len = command->body->bulk->len;
	bulk->sum = DESK_SUM_NONE;
	share_task_init(&bulk->task, command->docket->share, plan_step);
	return bulk;
}

/* With a source that has hashed nothing yet. */
static int bulk_get(struct command *command)
{
	struct bulk *bulk = command->bulk ? command->bulk : bulk_new(command);
	int r = 0;

	command->bulk = bulk;
	if (!bulk)
		return -ENOMEM;
	if (!bulk->payer)
		r = payer_get(command->desk, command->tenant, &bulk->payer);
	if (!r && !bulk->source)
		r = ops_of(bulk)->bulk->open(ops_of(bulk)->ctx, bulk->payer->line, command->bulk_fd,
			command->body->bulk->offset, bulk->len, &bulk->source);
	if (r)
		bulk_free(command);
	return r;
}

/* ---- compared with an earlier one ---- */

static void on_hashed(void *arg, uint64_t now_ns, int error)
{
	struct bulk *bulk = arg;
	struct command *command = bulk->command;
	uint8_t none[DESK_HASH];
	int r = error;

	desk_enter(command->desk, now_ns);
	bulk->hashing = false;
	if (!r)
		r = ops_of(bulk)->bulk->digest(
			ops_of(bulk)->ctx, bulk->source, command->data_hash, none);
	if (r) {
		bulk_free(command);
		outcome_reject(command, r, NULL);
		return;
	}
	command->data_known = true;
	command->sum_at = bulk->hash.sum_at;
	command->sum = ops_of(bulk)->bulk->sum(ops_of(bulk)->ctx, bulk->source);
	/* A source hashes once. */
	ops_of(bulk)->bulk->close(ops_of(bulk)->ctx, bulk->source);
	bulk->source = NULL;
	command_move(command, COMMAND_READY);
}

int bulk_hash(struct command *command, uint64_t sum_at)
{
	int r = bulk_get(command);
	struct bulk *bulk = command->bulk;

	if (r)
		return r;
	bulk->hash = (struct desk_hashing){.data_len = bulk->len, .sum_at = sum_at};
	bulk->hashing = true;
	command_move(command, COMMAND_HASHING);
	ops_of(bulk)->bulk->hash(ops_of(bulk)->ctx, bulk->source, &bulk->hash, on_hashed, bulk);
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

int bulk_open(struct command *command)
{
	int r = bulk_get(command);

	if (!r)
		plan_start(command->bulk);
	return r;
}

bool bulk_is_planned(const struct command *command)
{
	const struct bulk *bulk = command->bulk;

	return bulk && (bulk->plan_error || command->plan.bytes == bulk->len);
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
