/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/slices.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/write/bulk_object.h"
#include "broker/write/command.h"
#include "broker/write/docket.h"
#include "broker/write/digests.h"
#include "broker/write/outcome.h"
#include "broker/write/permit.h"
#include "broker/write/site.h"
#include "broker/write/standstill.h"
#include "proto/mishap.h"

#define CHECK_PART (4ull << 20) /* bytes whose addresses are looked up in one go: 1,024 pages */

static const struct desk_ops *ops_of(const struct bulk *bulk)
{
	return &bulk->command->desk->env.ops;
}

static struct bulk *bulk_of(struct share_task *task)
{
	return (struct bulk *)(void *)((char *)task - offsetof(struct bulk, task));
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- the end ---- */

static void leave(struct bulk *bulk);

/* The memory that a thread may be at is the next command's only after that. */
static void rest(struct bulk *bulk)
{
	if (bulk->reading || bulk->hashing)
		return;
	if (bulk->kept)
		leave(bulk);
	digests_make(bulk, leave);
}

static void explain(struct bulk *bulk, enum vmsig_error cause)
{
	struct command *command = bulk->command;

	if (!command->detail[0])
		snprintf(command->detail, sizeof(command->detail), "after %llu bytes: %s",
			(unsigned long long)bulk->done, vmsig_error_text((int)cause));
}

/* The mark has the sum from before the moment in which the outcome is in it. */
static void finish(struct bulk *bulk)
{
	struct command *command = bulk->command;
	struct memwrite_result *result = &command->result;

	*result = bulk->result;
	if (result->error)
		explain(bulk, result->cause ? result->cause : result->error);
	if (result->error && bulk->done)
		result->error = VMSIG_ERR_PARTIAL;
	result->written = bulk->done;
	result->failed_op = 0;
	share_task_cancel(&bulk->task);
	if (command->is_still)
		standstill_end(command);
	command->sum_at = bulk->done;
	command->sum = bulk->sum;
	ops_of(bulk)->marks->sum(ops_of(bulk)->ctx, command->mark, bulk->sum);
	bulk->finished = true;
	outcome_finish(command);
	rest(bulk);
}

static void end_by(struct bulk *bulk, int error)
{
	bulk->result = (struct memwrite_result){
		.error = error > 0 ? (enum vmsig_error)error : VMSIG_ERR_INTERNAL};
	finish(bulk);
}

void slices_fail(struct command *command, int error)
{
	end_by(command->bulk, error);
}

/* What ends it before its next slice. */
static int stop_reason(struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;
	int r = command->desk->closing ? VMSIG_ERR_SHUTTING_DOWN : permit_command(command);

	if (r || !command->is_still)
		return r;
	return ops->guests->quiesced(ops->ctx, command->site->id);
}

/* ---- data, ahead of what is stored ---- */

static bool is_staged(const struct bulk *bulk)
{
	return bulk->command->old || bulk->kept;
}

/* What is going to be stored to of the memory for old bytes, when nobody ever has. */
static void touch(const struct bulk *bulk, struct desk_reading *part)
{
	const struct bulk_room *room =
		bulk->kept && bulk->rooms ? &bulk->rooms[part->at / DESK_ROOM] : NULL;

	part->touch = room && room->fresh ? room->memory + part->at % DESK_ROOM : NULL;
	part->touch_len = part->touch ? part->len : 0;
}

static void on_read(void *arg, uint64_t now_ns, int error);

static void read_ahead(struct bulk *bulk)
{
	unsigned free = bulk->ready[bulk->current] ? !bulk->current : bulk->current;
	struct desk_reading *part = &bulk->parts[free];

	if (bulk->reading || bulk->ready[free] || bulk->asked == bulk->len)
		return;
	*part = (struct desk_reading){.at = bulk->asked,
		.data = bulk->payer->data[free],
		.len = (size_t)lesser(bulk->len - bulk->asked, DESK_READING)};
	touch(bulk, part);
	bulk->asked += part->len;
	bulk->reading = true;
	ops_of(bulk)->bulk->read(ops_of(bulk)->ctx, bulk->source, part, on_read, bulk);
}

static void on_read(void *arg, uint64_t now_ns, int error)
{
	struct bulk *bulk = arg;

	desk_enter(bulk->command->desk, now_ns);
	bulk->reading = false;
	if (bulk->finished) {
		rest(bulk);
		return;
	}
	if (error) {
		end_by(bulk, error);
		return;
	}
	bulk->ready[bulk->ready[bulk->current] ? !bulk->current : bulk->current] = true;
	read_ahead(bulk);
	if (!bulk->hashing)
		share_task_ready(&bulk->task);
}

/* ---- slices ---- */

static uint8_t *old_at(const struct bulk *bulk)
{
	uint64_t at = bulk->done;

	if (bulk->command->old)
		return bulk->command->old + at;
	return bulk->kept ? bulk->rooms[at / DESK_ROOM].memory + at % DESK_ROOM
			  : bulk->payer->old + bulk->used;
}

/* Of the bytes up to the end of this slice, of which `written` were stored. */
static void sum_add(struct bulk *bulk, const uint8_t *data, uint64_t written)
{
	const struct desk_reading *part = &bulk->parts[bulk->current];
	uint64_t end = bulk->used + written;

	if (!written)
		return;
	if (end % DESK_SLICE == 0 || end == part->len)
		bulk->sum = part->sums[(end - 1) / DESK_SLICE];
	else
		bulk->sum = ops_of(bulk)->bulk->add(
			ops_of(bulk)->ctx, bulk->sum, data, (size_t)written);
}

/* The last one ends it, though its result has still to be made. */
static void slice_mark(struct bulk *bulk)
{
	struct command *command = bulk->command;
	const struct desk_ops *ops = ops_of(bulk);

	command->result = (struct memwrite_result){.written = bulk->done};
	ops->marks->sum(ops->ctx, command->mark, bulk->sum);
	if (!bulk->result.error && bulk->done == bulk->len)
		outcome_mark(command);
	else
		ops->marks->pause(ops->ctx, command->mark, bulk->done);
}

static void slice_apply(struct bulk *bulk)
{
	struct command *command = bulk->command;
	const struct desk_ops *ops = ops_of(bulk);
	struct desk_reading *part = &bulk->parts[bulk->current];
	struct memwrite_op op = {.data = part->data + bulk->used};
	struct memwrite_slice slice;

	memwrite_plan_cut(&command->plan, bulk->done,
		lesser(part->len - bulk->used, DESK_SLICE - bulk->used % DESK_SLICE), &slice);
	op.len = slice.plan.bytes;
	ops->marks->begin(ops->ctx, command->mark);
	ops->guests->apply(ops->ctx, command->site->target, &op, &slice.plan, permit_bytes, command,
		old_at(bulk), &bulk->result);
	sum_add(bulk, op.data, bulk->result.written);
	bulk->done += bulk->result.written;
	bulk->used += (size_t)bulk->result.written;
	slice_mark(bulk);
}

static void part_leave(struct bulk *bulk)
{
	bulk->ready[bulk->current] = false;
	bulk->current = !bulk->current;
	bulk->used = 0;
	read_ahead(bulk);
	if (bulk->ready[bulk->current])
		share_task_ready(&bulk->task);
}

static void on_part_hashed(struct bulk *bulk)
{
	int r = bulk->hash_error;

	if (bulk->finished)
		rest(bulk);
	else if (r)
		end_by(bulk, r);
	else if (bulk->done == bulk->len)
		finish(bulk);
	else
		part_leave(bulk);
}

static void part_end(struct bulk *bulk)
{
	if (!is_staged(bulk))
		digests_part(bulk, on_part_hashed);
	else if (bulk->done == bulk->len)
		finish(bulk);
	else
		part_leave(bulk);
}

static void store_step(struct share_task *task)
{
	struct bulk *bulk = bulk_of(task);
	int r;

	if (!bulk->ready[bulk->current])
		return;
	r = stop_reason(bulk->command);
	if (r) {
		end_by(bulk, r);
		return;
	}
	slice_apply(bulk);
	if (bulk->result.error)
		finish(bulk);
	else if (bulk->used == bulk->parts[bulk->current].len)
		part_end(bulk);
	else
		share_task_ready(task);
}

/* ---- the beginning ---- */

static int rooms_take(struct bulk *bulk)
{
	const struct desk_bulk_ops *ops = ops_of(bulk)->bulk;
	size_t n = (size_t)((bulk->len + DESK_ROOM - 1) / DESK_ROOM);

	bulk->rooms = MISHAP("rooms-memory") ? NULL : calloc(n, sizeof(*bulk->rooms));
	if (!bulk->rooms)
		return VMSIG_ERR_NO_MEMORY;
	for (; bulk->nrooms < n; bulk->nrooms++) {
		struct bulk_room *room = &bulk->rooms[bulk->nrooms];

		room->memory = ops->room_take(ops_of(bulk)->ctx, &room->fresh);
		if (!room->memory)
			return VMSIG_ERR_NO_MEMORY;
	}
	return 0;
}

/* Memory that is not there is as a limit that is reached: what rooms there are go with it. */
static void keep(struct bulk *bulk)
{
	bulk->kept = !payer_keep(bulk->payer, &bulk->charges, bulk->len);
	if (!bulk->kept || bulk->command->old)
		return;
	if (rooms_take(bulk) == 0)
		return;
	bulk->kept = false;
	payer_forget(&bulk->charges);
}

static void begin(struct bulk *bulk)
{
	struct command *command = bulk->command;
	int r = stop_reason(command);

	if (!r)
		r = lease_write_begin(command->desk->engine, command->key.lease);
	if (r) {
		end_by(bulk, r);
		return;
	}
	command->writing = true;
	keep(bulk);
	share_task_init(&bulk->task, command->docket->share, store_step);
	read_ahead(bulk);
}

/* ---- a guest that stands still ---- */

static void say_moved(struct command *command)
{
	snprintf(command->detail, sizeof(command->detail),
		"the guest has moved the memory behind these addresses before it stopped; "
		"nothing was written; send it again");
}

/* Since the intent it has run until it stopped: what its tables say now is looked at once more, and
 * only looked at. */
static void check_step(struct share_task *task)
{
	struct bulk *bulk = bulk_of(task);
	struct command *command = bulk->command;
	const struct desk_ops *ops = ops_of(bulk);
	const Vmsig__WriteBulk *body = command->body->bulk;
	const struct memwrite_op op = {
		.addr = body->addr, .cr3 = body->cr3, .is_virtual = true, .len = body->len};
	int r = stop_reason(command);

	if (!r)
		r = ops->guests->resolve_part(
			ops->ctx, command->site->target, &op, CHECK_PART, &bulk->again);
	if (!r && bulk->again.bytes < bulk->len) {
		share_task_ready(task);
		return;
	}
	if (!r && !memwrite_plan_is_same(&bulk->again, &command->plan))
		r = VMSIG_ERR_BUSY;
	if (r == VMSIG_ERR_BUSY)
		say_moved(command);
	if (r)
		end_by(bulk, r);
	else
		begin(bulk);
}

static void on_still(struct command *command, int error)
{
	struct bulk *bulk = command->bulk;

	if (error) {
		end_by(bulk, error);
		return;
	}
	command_move(command, COMMAND_SLICING);
	if (!command->body->bulk->virtual_address) {
		begin(bulk);
		return;
	}
	share_task_init(&bulk->task, command->docket->share, check_step);
	share_task_ready(&bulk->task);
}

/* ---- whose turn it is ---- */

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
		if (command->body->quiesce)
			standstill_begin(command, on_still);
		else
			begin(command->bulk);
		return;
	}
}

static void leave(struct bulk *bulk)
{
	struct payer *payer = bulk->payer;

	if (payer->storing != bulk->command)
		return;
	payer->storing = NULL;
	store_next(payer);
}

void slices_store(struct command *command)
{
	command_move(command, COMMAND_SLICING);
	store_next(command->bulk->payer);
}

/* One that ends may have others begin, and end, at once. */
void slices_look(struct desk *desk)
{
	struct command *command = desk->lists[COMMAND_SLICING];

	while (command) {
		int r = stop_reason(command);

		if (r)
			end_by(command->bulk, r);
		command = r ? desk->lists[COMMAND_SLICING] : command->next;
	}
}
