/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/recover.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/write/batch.h"
#include "broker/write/command.h"
#include "broker/write/outcome.h"
#include "broker/write/record.h"
#include "proto/mishap.h"

#define MARKS_RETRY_NS (5000ull * NS_PER_MS) /* after they could not be opened */
#define REPLY_MAX 512                        /* of a reply made here: numbers and a sentence */

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
	const Vmsig__WriteResult *result, const uint8_t *old_hash, const char *why)
{
	const struct desk_ops *ops = &desk->env.ops;
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT, *intent = NULL;
	char tenant[LEASE_NAME_MAX + 1] = "";

	/* One that cannot be read leaves the key, and whose lease it was. */
	if (intent_id && ops->records->get(ops->ctx, intent_id, &intent) == 0)
		take_over(&record, intent);
	else if (ops->leases->find(ops->ctx, key->lease, tenant, &record.token) == 0)
		record.tenant = tenant;
	record.kind = intent_id || !result->outcome ? VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT
						    : VMSIG__AUDIT_RECORD__KIND__WRITE_REFUSED;
	record.lease = key->lease;
	record.writer = key->writer;
	record.sequence = key->sequence;
	record.intent = intent_id;
	record.outcome = result->outcome;
	record.bytes = result->written;
	if (old_hash)
		record.old_hash = (ProtobufCBinaryData){
			.data = (uint8_t *)(uintptr_t)old_hash, .len = DESK_HASH};
	record.detail = (char *)(uintptr_t)why;
	record_append(desk, &record);
	if (intent)
		vmsig__audit_record__free_unpacked(intent, NULL);
}

static void settle(struct desk *desk, const struct ledger_key *key, uint64_t intent,
	enum vmsig_error outcome, uint64_t written, char *detail)
{
	const struct desk_ops *ops = &desk->env.ops;
	Vmsig__WriteResult result = VMSIG__WRITE_RESULT__INIT;
	uint8_t reply[REPLY_MAX];

	result.outcome = (uint32_t)outcome;
	result.written = written;
	result.detail = detail;
	append_result(desk, key, intent, &result, NULL, detail);
	batch_note(desk, ops->ledger->settle(
				 ops->ctx, key, reply, vmsig__write_result__pack(&result, reply)));
}

/* Of bulk data that was answered, or cut off between two slices, the digests were not recorded.
 * What tells it from another one is now the digest of a part, which a repeated one is compared
 * with; command.h. */
static void rename_bulk(
	struct desk *desk, const struct mark_view *mark, uint64_t intent, uint64_t bytes)
{
	const struct desk_ops *ops = &desk->env.ops;
	uint8_t digest[LEDGER_DIGEST];
	int r;

	if (!mark->sum)
		return;
	r = command_hash_part(desk, mark->digest, bytes, mark->sum, digest);
	batch_note(desk, r);
	if (!r)
		batch_note(desk, ops->ledger->intend(ops->ctx, &mark->key, digest, intent));
}

/* `text` of DETAIL_MAX + 1 bytes. */
static void say_undigested(const struct mark_view *mark, char *text)
{
	size_t len = strlen(text);

	if (mark->sum)
		snprintf(
			text + len, DETAIL_MAX + 1 - len, "%s" OUTCOME_UNDIGESTED, len ? "; " : "");
}

static bool is_zero(const uint8_t hash[static DESK_HASH])
{
	static const uint8_t zero[DESK_HASH];

	return memcmp(hash, zero, DESK_HASH) == 0;
}

/* Of what was there before; NULL: the broker ended before it was made. */
static const uint8_t *old_hash(const struct mark_view *mark)
{
	return mark->hash ? mark->hash : is_zero(mark->reply) ? NULL : mark->reply;
}

static void settle_ended(struct desk *desk, const struct mark_view *mark, uint64_t intent)
{
	const struct desk_ops *ops = &desk->env.ops;
	char damaged[] = "its mark is damaged", why[DETAIL_MAX + 1];
	const uint8_t *reply = mark->reply + OUTCOME_MARK_HASH;
	size_t len = mark->reply_len < OUTCOME_MARK_HASH ? 0 : mark->reply_len - OUTCOME_MARK_HASH;
	Vmsig__WriteResult *result = mark->reply_len < OUTCOME_MARK_HASH
					     ? NULL
					     : vmsig__write_result__unpack(NULL, len, reply);

	if (!result) {
		settle(desk, &mark->key, intent, VMSIG_ERR_UNKNOWN_OUTCOME, 0, damaged);
		return;
	}
	snprintf(why, sizeof(why), "%s",
		result->detail[0] ? result->detail
				  : "the broker ended before it was recorded; its mark tells");
	say_undigested(mark, why);
	append_result(desk, &mark->key, intent, result, old_hash(mark), why);
	rename_bulk(desk, mark, intent, result->written);
	batch_note(desk, ops->ledger->settle(ops->ctx, &mark->key, reply, len));
	vmsig__write_result__free_unpacked(result, NULL);
}

static void settle_paused(struct desk *desk, const struct mark_view *mark, uint64_t intent)
{
	char detail[DETAIL_MAX + 1];

	rename_bulk(desk, mark, intent, mark->done);
	snprintf(detail, sizeof(detail), "after %" PRIu64 " bytes: the broker ended", mark->done);
	say_undigested(mark, detail);
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
	const struct desk_ops *ops = &desk->env.ops;
	char detail[] = "the broker ended before anything of it was written";

	settle(desk, &mark->key, intent, VMSIG_ERR_SHUTTING_DOWN, 0, detail);
	batch_note(desk, ops->ledger->forget(ops->ctx, &mark->key));
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
	const struct desk_ops *ops = &desk->env.ops;
	batch_note(desk, ops->ledger->intend(ops->ctx, &mark->key, mark->digest, 0));
	settle_ended(desk, mark, 0);
}

static void settle_mark(struct desk *desk, const struct mark_view *mark)
{
	const struct desk_ops *ops = &desk->env.ops;
	struct ledger_entry entry = {0};
	int r = mark->state == MARK_FREE ? VMSIG_ERR_INTERNAL
					 : ops->ledger->find(ops->ctx, &mark->key, &entry);

	if (r == VMSIG_ERR_NO_LEASE && mark->state == MARK_ENDED)
		settle_refused(desk, mark);
	else if (r == VMSIG_ERR_IO || r < 0)
		batch_note(desk, r);
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
	const struct desk_ops *ops = &desk->env.ops;
	struct mark_view *views = MISHAP("recover-memory") ? NULL : calloc(MARKS, sizeof(*views));
	uint32_t cursor = 0;
	size_t n = 0;

	if (!views)
		return -ENOMEM;
	while (ops->marks->next(ops->ctx, &cursor, &views[n]))
		n++;
	qsort(views, n, sizeof(*views), by_order);
	for (size_t i = 0; i < n; i++)
		settle_mark(desk, &views[i]);
	free(views);
	return 0;
}

static void settle_all(struct desk *desk)
{
	const struct desk_ops *ops = &desk->env.ops;
	char detail[] = "the broker ended, and there is no mark of how far it came; read the bytes";
	struct ledger_key key = {0};
	struct ledger_entry entry;
	int r;

	batch_begin(desk);
	r = settle_marks(desk);
	batch_note(desk, r);
	while (!r && ops->ledger->next_open(ops->ctx, &key, &entry))
		settle(desk, &key, entry.intent, VMSIG_ERR_UNKNOWN_OUTCOME, 0, detail);
}

/* Nothing was under way. */
static bool is_clean(struct desk *desk)
{
	const struct desk_ops *ops = &desk->env.ops;
	struct ledger_key key = {0};
	struct ledger_entry entry;
	struct mark_view mark;
	uint32_t cursor = 0;

	return !ops->marks->next(ops->ctx, &cursor, &mark) &&
	       !ops->ledger->next_open(ops->ctx, &key, &entry);
}

static void open_marks(struct desk *desk)
{
	const struct desk_ops *ops = &desk->env.ops;
	char error[512] = "";
	int r = ops->marks->open(ops->ctx, error, sizeof(error));

	if (r == VMSIG_ERR_WOULD_BLOCK)
		return;
	desk->marks_retry_ns = desk->now_ns + MARKS_RETRY_NS;
	if (!r)
		desk->marks = DESK_MARKS_FOUND;
	else
		desk_log(desk, DESK_LOG_ERROR, "nothing is written meanwhile",
			FACT_TEXT("error", error), NO_FACT);
}

void recover_collect(struct desk *desk)
{
	if (desk->marks == DESK_MARKS_NONE && desk->now_ns >= desk->marks_retry_ns)
		open_marks(desk);
	if (desk->marks != DESK_MARKS_FOUND || batch_is_stuck(desk))
		return;
	desk->marks = is_clean(desk) ? DESK_MARKS_FREE : DESK_MARKS_SETTLED;
	if (desk->marks == DESK_MARKS_SETTLED)
		settle_all(desk);
}

void recover_settle(struct desk *desk, int result)
{
	const struct desk_ops *ops = &desk->env.ops;
	struct mark_view mark;
	uint32_t cursor = 0;

	if (desk->marks != DESK_MARKS_SETTLED)
		return;
	desk->marks = result ? DESK_MARKS_FOUND : DESK_MARKS_FREE;
	while (!result && ops->marks->next(ops->ctx, &cursor, &mark))
		ops->marks->release(ops->ctx, mark.mark);
}

/* What is gone cannot be proven any more, but that it is gone can. */
void recover_loss(struct desk *desk)
{
	const struct desk_ops *ops = &desk->env.ops;
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;
	struct desk_loss loss;

	if (!ops->records->lost(ops->ctx, &loss))
		return;
	desk_log(desk, DESK_LOG_ERROR,
		"the audit log has lost records: power was lost, or the state was damaged or "
		"restored from a backup",
		FACT_NUMBER("had", loss.had), FACT_NUMBER("has", loss.has));
	record.kind = VMSIG__AUDIT_RECORD__KIND__LOST;
	record.pruned = loss.had;
	record.anchor = (ProtobufCBinaryData){.data = loss.hash, .len = DESK_HASH};
	record_append(desk, &record);
}
