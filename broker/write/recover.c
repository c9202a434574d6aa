/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a broker that was killed left between intents and results, settled once, at the start,
 * in the transaction that opens the desk: each intent gets the outcome that its mark
 * (broker/store/marks.h) proves, and UNKNOWN_OUTCOME when none does. So no later question is
 * answered from anything but the ledger, and whoever never asks again has the right record too.
 *
 *   ENDED    the reply that was, or would have been, sent
 *   PAUSED   PARTIAL with the length of the slices that were applied
 *   BEGUN    UNKNOWN_OUTCOME
 *   TAKEN    nothing was written: the number is free again
 *
 * The bytes before, of a write that wanted them, are in the mark when they are few, and
 * otherwise lost.
 */
#include "broker/write/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log.h"
#include "vmsig/vmsig_error.h"

#define REPLY_MAX 512 /* of a reply made here: numbers and a sentence */

/* Copies what the result has in common with the intent, whose strings it borrows. */
static void take_over(Vmsig__AuditRecord *record, const Vmsig__AuditRecord *intent)
{
	*record = *intent;
	record->ranges = NULL;
	record->n_ranges = 0;
	record->old_hash = record->new_hash = record->old_bytes = record->new_bytes =
		(ProtobufCBinaryData){0};
}

static void append_result(struct desk *desk, const struct ledger_key *key, uint64_t intent_id,
	const Vmsig__WriteResult *result, const char *why)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT, *intent = NULL;
	char tenant[LEASE_NAME_MAX + 1] = "";

	/* One that cannot be read leaves the key, and whose lease it was. */
	if (intent_id && audit_get(desk->audit, intent_id, &intent) == 0)
		take_over(&record, intent);
	else if (desk->leases->ops->find(desk->leases, key->lease, tenant, &record.token) == 0)
		record.tenant = tenant;
	record.kind = intent_id || !result->outcome ? VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT
						    : VMSIG__AUDIT_RECORD__KIND__WRITE_REFUSED;
	record.lease = key->lease;
	record.writer = key->writer;
	record.sequence = key->sequence;
	record.intent = intent_id;
	record.outcome = result->outcome;
	record.bytes = result->written;
	record.detail =
		(char *)(uintptr_t)(result->detail && result->detail[0] ? result->detail : why);
	desk_append(desk, &record);
	if (intent)
		vmsig__audit_record__free_unpacked(intent, NULL);
}

static void settle(struct desk *desk, const struct ledger_key *key, uint64_t intent,
	enum vmsig_error outcome, uint64_t written, char *detail)
{
	Vmsig__WriteResult result = VMSIG__WRITE_RESULT__INIT;
	uint8_t reply[REPLY_MAX];

	result.outcome = (uint32_t)outcome;
	result.written = written;
	result.detail = detail;
	append_result(desk, key, intent, &result, detail);
	desk_note(desk,
		ledger_settle(desk->ledger, key, reply, vmsig__write_result__pack(&result, reply)));
}

static void settle_ended(struct desk *desk, const struct mark_view *mark, uint64_t intent)
{
	char damaged[] = "its mark is damaged";
	Vmsig__WriteResult *result =
		vmsig__write_result__unpack(NULL, mark->reply_len, mark->reply);

	if (!result) {
		settle(desk, &mark->key, intent, VMSIG_ERR_UNKNOWN_OUTCOME, 0, damaged);
		return;
	}
	append_result(desk, &mark->key, intent, result,
		"the broker ended before it was recorded; its mark tells");
	desk_note(desk, ledger_settle(desk->ledger, &mark->key, mark->reply, mark->reply_len));
	vmsig__write_result__free_unpacked(result, NULL);
}

static void settle_paused(struct desk *desk, const struct mark_view *mark, uint64_t intent)
{
	char detail[DETAIL_MAX + 1];

	snprintf(detail, sizeof(detail), "after %" PRIu64 " bytes: the broker ended", mark->done);
	settle(desk, &mark->key, intent, VMSIG_ERR_PARTIAL, mark->done, detail);
}

static void settle_begun(struct desk *desk, const struct mark_view *mark, uint64_t intent)
{
	char detail[] = "the broker ended while it was being applied; read the bytes";

	settle(desk, &mark->key, intent, VMSIG_ERR_UNKNOWN_OUTCOME, 0, detail);
}

/* Recorded, so that each intent has an end; to the ledger the number is new. */
static void settle_taken(struct desk *desk, const struct mark_view *mark, uint64_t intent)
{
	char detail[] = "the broker ended before anything of it was written";

	settle(desk, &mark->key, intent, VMSIG_ERR_SHUTTING_DOWN, 0, detail);
	desk_note(desk, ledger_forget(desk->ledger, &mark->key));
}

static void settle_intent(struct desk *desk, const struct mark_view *mark, uint64_t intent)
{
	switch (mark->state) {
	case MARK_ENDED:
		settle_ended(desk, mark, intent);
		break;
	case MARK_PAUSED:
		settle_paused(desk, mark, intent);
		break;
	case MARK_TAKEN:
		settle_taken(desk, mark, intent);
		break;
	case MARK_BEGUN:
		settle_begun(desk, mark, intent);
		break;
	case MARK_FREE:
		break;
	}
}

/* One that was refused has no intent; its number is used up all the same. */
static void settle_refused(struct desk *desk, const struct mark_view *mark)
{
	desk_note(desk, ledger_intend(desk->ledger, &mark->key, mark->digest, 0));
	settle_ended(desk, mark, 0);
}

static void settle_mark(struct desk *desk, const struct mark_view *mark)
{
	struct ledger_entry entry = {0};
	int r = mark->state == MARK_FREE ? VMSIG_ERR_INTERNAL
					 : ledger_find(desk->ledger, &mark->key, &entry);

	if (r == VMSIG_ERR_NO_LEASE && mark->state == MARK_ENDED)
		settle_refused(desk, mark);
	else if (!r && !entry.done && memcmp(entry.digest, mark->digest, LEDGER_DIGEST) == 0)
		settle_intent(desk, mark, entry.intent);
	free(entry.reply);
}

/* Those that have ended come last, in the order in which they did. */
static int by_order(const void *a, const void *b)
{
	const struct mark_view *left = a, *right = b;
	uint64_t x = left->state == MARK_ENDED ? left->order : 0;
	uint64_t y = right->state == MARK_ENDED ? right->order : 0;

	return x < y ? -1 : x > y;
}

/* The log has results in the order of the bytes. */
static int settle_marks(struct desk *desk)
{
	struct mark_view *views = calloc(MARKS, sizeof(*views));
	uint32_t cursor = 0;
	size_t n = 0;

	if (!views)
		return -ENOMEM;
	while (desk->marks && marks_next(desk->marks, &cursor, &views[n]))
		n++;
	qsort(views, n, sizeof(*views), by_order);
	for (size_t i = 0; i < n; i++)
		settle_mark(desk, &views[i]);
	free(views);
	return 0;
}

void recover_writes(struct desk *desk)
{
	char detail[] = "the broker ended, and there is no mark of how far it came; read the bytes";
	struct ledger_key key = {0};
	struct ledger_entry entry;
	int r = store_begin(desk->env.store);

	if (!r)
		r = settle_marks(desk);
	desk_note(desk, r);
	while (!r && ledger_next_open(desk->ledger, &key, &entry))
		settle(desk, &key, entry.intent, VMSIG_ERR_UNKNOWN_OUTCOME, 0, detail);
}

void recover_done(struct desk *desk)
{
	struct mark_view mark;
	uint32_t cursor = 0;

	while (desk->marks && marks_next(desk->marks, &cursor, &mark))
		marks_release(desk->marks, mark.mark);
}

void recover_open_marks(struct desk *desk)
{
	char error[512] = "";
	int r;

	desk->marks_retry_ns = desk_now() + DESK_MARKS_RETRY_NS;
	r = marks_open(&desk->marks, desk->state_dir, error, sizeof(error));
	if (r)
		log_error("nothing is written meanwhile", LOG_STR("error", error));
}
