/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/batch.h"

#define RETRY_NS (250ull * NS_PER_MS)      /* after something could not be made durable */
#define COMPLAIN_NS (60000ull * NS_PER_MS) /* between two words about that */

void batch_note(struct desk *desk, int r)
{
	if (r && !desk->batch.failed)
		desk->batch.failed = r;
}

void batch_begin(struct desk *desk)
{
	const struct desk_ops *ops = &desk->env.ops;

	if (desk->batch.open)
		return;
	desk->batch.open = true;
	batch_note(desk, ops->records->begin(ops->ctx));
}

bool batch_is_open(const struct desk *desk)
{
	return desk->batch.open || desk->batch.failed;
}

bool batch_is_stuck(const struct desk *desk)
{
	return desk->batch.retry_ns && desk->now_ns < desk->batch.retry_ns;
}

/* Said once, and again now and then: it is tried four times a second. */
static void complain(struct desk *desk, int error)
{
	const struct desk_ops *ops = &desk->env.ops;
	struct batch *batch = &desk->batch;

	if (batch->failing && desk->now_ns - batch->complained_ns < COMPLAIN_NS)
		return;
	batch->complained_ns = desk->now_ns;
	desk_log(desk, DESK_LOG_ERROR,
		"what operators do cannot be recorded; nothing is granted or written meanwhile",
		FACT_TEXT("error", error_text(error)),
		FACT_TEXT("store", ops->records->error(ops->ctx)));
}

static void note_end(struct desk *desk, int r)
{
	struct batch *batch = &desk->batch;

	if (!r && batch->failing)
		desk_log(desk, DESK_LOG_INFO, "what operators do can be recorded again", NO_FACT,
			NO_FACT);
	batch->failing = r != 0;
	batch->retry_ns = r ? desk->now_ns + RETRY_NS : 0;
}

static int commit(struct desk *desk, bool waits, uint64_t *ret_ticket)
{
	const struct desk_ops *ops = &desk->env.ops;
	int r = desk->batch.failed;

	if (!r)
		r = ops->records->commit(ops->ctx, waits, ret_ticket);
	if (r) {
		complain(desk, r);
		ops->records->rollback(ops->ctx);
	}
	desk->batch.open = false;
	desk->batch.failed = 0;
	note_end(desk, r);
	return r;
}

int batch_end(struct desk *desk, bool waits, uint64_t *ret_ticket)
{
	struct batch *batch = &desk->batch;
	int r = 0;

	*ret_ticket = 0;
	if (batch_is_open(desk))
		r = commit(desk, waits, ret_ticket);
	if (r)
		return r;
	if (*ret_ticket)
		batch->awaited = *ret_ticket;
	/* What was begun later does not pass what still waits. */
	else if (waits)
		*ret_ticket = batch->awaited;
	return 0;
}

void batch_answered(struct desk *desk, uint64_t ticket)
{
	if (ticket >= desk->batch.awaited)
		desk->batch.awaited = 0;
}
