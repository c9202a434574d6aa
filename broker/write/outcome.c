/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/outcome.h"

#include <assert.h>
#include <stdio.h>

#include "broker/write/batch.h"
#include "broker/write/bill.h"
#include "broker/write/command.h"
#include "broker/write/docket.h"
#include "broker/write/hashes.h"
#include "broker/write/lane.h"
#include "broker/write/operator.h"
#include "broker/write/record.h"
#include "broker/write/refusal.h"
#include "broker/write/site.h"

#define RECORD_NS (1ull * NS_PER_MS) /* results wait so long for a batch to share */
/* Bytes before that are kept for a repeated question; a writer has LEDGER_WINDOW of them. */
#define REPLY_OLD_MAX 4096u
#define RECORD_DETAIL_MAX (DETAIL_MAX + sizeof(OUTCOME_UNDIGESTED) + 2)
#define LEDGER_ROW 160u /* of a row beside its reply */

/* ---- what is answered ---- */

static size_t old_len(const struct command *command)
{
	size_t len = 0;

	if (!command->body->want_old)
		return 0;
	if (command->body->bulk)
		return (size_t)command->result.written;
	switch (command->result.error) {
	case VMSIG_ERR_OK:
	case VMSIG_ERR_PARTIAL:
		return (size_t)command->bytes;
	case VMSIG_ERR_COMPARE_FAILED:
		for (size_t i = 0; i <= command->result.failed_op; i++)
			len += command->ops[i].len;
		return len;
	default:
		return 0;
	}
}

static void result_fill(Vmsig__WriteResult *result, struct command *command, size_t old_max)
{
	size_t len = old_len(command);

	vmsig__write_result__init(result);
	result->outcome = (uint32_t)command->result.error;
	result->failed_op = command->result.failed_op;
	result->written = command->result.written;
	result->detail = command->detail;
	if (len <= old_max)
		result->old = (ProtobufCBinaryData){.data = command->old, .len = len};
}

/* The hash of the bytes that were there, once. */
static int hash_seen(struct command *command)
{
	int r = 0;

	if (command->seen && !command->hashed) {
		r = command_hash(command, command->old);
		command->hashed = !r;
	}
	return r;
}

static const uint8_t no_hash[DESK_HASH];

/* The ledger gets the same. */
static void keep_reply(struct command *command, const uint8_t *reply, size_t len)
{
	command->reply_len = 0;
	if (len > sizeof(command->reply) || old_len(command))
		return;
	memcpy(command->reply, reply, len);
	command->reply_len = len;
}

/* Of what was there before, for the mark. What fails here is tried again for the record. */
static const uint8_t *mark_hash(struct command *command, size_t reply_len)
{
	command->unhashed = OUTCOME_MARK_HASH + reply_len + MARKS_HASH <= MARKS_REPLY_MAX &&
			    hashes_wait(command);
	if (!command->unhashed)
		(void)!hash_seen(command);
	return command->hashed ? command->old_hash : no_hash;
}

void outcome_mark(struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;
	uint8_t text[MARKS_REPLY_MAX], *reply = text + OUTCOME_MARK_HASH;
	Vmsig__WriteResult result;
	size_t len;

	if (!command->mark)
		return;
	result_fill(&result, command, SIZE_MAX);
	if (vmsig__write_result__get_packed_size(&result) > sizeof(text) - OUTCOME_MARK_HASH)
		result.old = (ProtobufCBinaryData){0};
	len = vmsig__write_result__pack(&result, reply);
	memcpy(text, mark_hash(command, len), DESK_HASH);
	ops->marks->end(ops->ctx, command->mark, text, OUTCOME_MARK_HASH + len);
	keep_reply(command, reply, len);
}

void outcome_finish(struct command *command)
{
	outcome_mark(command);
	command_move(command, COMMAND_FINISHED);
	if (command->bulk)
		lane_pass(command);
	else
		lane_leave(command);
}

/* For that of bulk data releases may wait, and ends of leases. */
static void record_soon(struct command *command)
{
	struct desk *desk = command->desk;
	uint64_t due = desk->now_ns + (command->passed ? 0 : RECORD_NS);

	command_move(command, COMMAND_TOLD);
	if (!desk->record_ns || due < desk->record_ns)
		desk->record_ns = due;
}

/* One that was not told yet is recorded after that. */
void outcome_digested(struct command *command)
{
	if (command->state == COMMAND_DIGESTING)
		record_soon(command);
}

/* Its outcome is the answer to `asked`: itself, or another transmission of it. */
static void tell(struct command *command, struct command *asked)
{
	struct desk *desk = command->desk;
	struct desk_operator *op = operator_find(desk, asked->session);
	Vmsig__WriteResult result;

	if (!op)
		return;
	result_fill(&result, command, SIZE_MAX);
	result.replayed = asked != command;
	desk->env.events->written(op->client, asked->request_id, &result);
	operator_pay(asked, 0);
}

/* ---- ends ---- */

static void leave(struct command *command)
{
	command_give_back(command);
	lane_leave(command);
	command_free(command);
}

void outcome_reject(struct command *command, int error, const char *detail)
{
	struct desk *desk = command->desk;
	struct desk_operator *op = operator_find(desk, command->session);
	Vmsig__AuditRecord record;
	int number = error > 0 ? error : VMSIG_ERR_NO_MEMORY;

	if (detail != command->detail)
		snprintf(command->detail, sizeof(command->detail), "%s", detail ? detail : "");
	metrics_errors_note(&desk->counts.outcomes, number);
	if (command->site)
		command->site->stats.refused++;
	record_command(&record, command, VMSIG__AUDIT_RECORD__KIND__WRITE_REFUSED);
	record.outcome = (uint32_t)number;
	refusal_record(desk, &record);
	command_give_back(command);
	/* They are of the same command, which nothing came of. */
	while (command->joined)
		outcome_reject(command->joined, error, detail);
	if (op)
		desk->env.events->rejected(op->client, command->request_id, number,
			command->detail[0] ? command->detail : NULL);
	leave(command);
}

/* They were too many to be kept, or a crash took them. */
static char old_missing[] = "applied before; the bytes that were there then are not kept";

void outcome_answer(struct command *command, const struct ledger_entry *entry)
{
	struct desk_operator *op = operator_find(command->desk, command->session);
	Vmsig__WriteResult *result =
		vmsig__write_result__unpack(NULL, entry->reply_len, entry->reply);
	Vmsig__WriteResult answer;

	if (!result) {
		outcome_reject(command, VMSIG_ERR_UNKNOWN_OUTCOME,
			"the stored outcome is damaged; the audit log has the record");
		return;
	}
	result->replayed = true;
	answer = *result;
	if (command->body->want_old && !result->outcome && !result->old.len)
		answer.detail = old_missing;
	if (op)
		command->desk->env.events->written(op->client, command->request_id, &answer);
	vmsig__write_result__free_unpacked(result, NULL);
	leave(command);
}

/* Who asked first may be there still, and has an answer as well. */
void outcome_join(struct command *first, struct command *second)
{
	if (first->state > COMMAND_FINISHED) {
		tell(first, second);
		leave(second);
		return;
	}
	lane_leave(second);
	second->first = first;
	command_move(second, COMMAND_JOINED);
}

static void count(struct command *command)
{
	struct desk_counts *counts = &command->desk->counts;

	/* A release is no write. */
	if (!command->body)
		return;
	metrics_errors_note(&counts->outcomes, (int)command->result.error);
	counts->bytes += command->result.written;
	if (!command->site)
		return;
	command->site->stats.writes += command->result.written > 0;
	command->site->stats.bytes += command->result.written;
}

void outcomes_tell(struct desk *desk)
{
	struct command *command;

	hashes_old(desk);
	while ((command = desk->lists[COMMAND_FINISHED])) {
		count(command);
		if (command->bulk)
			command_move(command, COMMAND_DIGESTING);
		else
			record_soon(command);
		tell(command, command);
		while (command->joined) {
			tell(command, command->joined);
			leave(command->joined);
		}
	}
}

/* ---- records ---- */

bool outcomes_due(const struct desk *desk)
{
	if (!desk->record_ns)
		return false;
	return desk->closing || desk->crowded ||
	       (desk->record_ns <= desk->now_ns && !batch_is_stuck(desk));
}

static void settle_reply(struct command *command, const uint8_t *reply, size_t len)
{
	struct desk *desk = command->desk;
	const struct desk_ops *ops = &desk->env.ops;

	if (command->body->bulk)
		batch_note(desk, command_identify(command));
	if (command->body->bulk || !command->intent)
		batch_note(desk, ops->ledger->intend(ops->ctx, &command->key, command->digest,
					 command->intent));
	bill_charge(desk, command->tenant, LEDGER_ROW + len);
	batch_note(desk, ops->ledger->settle(ops->ctx, &command->key, reply, len));
}

static void settle(struct command *command)
{
	uint8_t reply[REPLY_OLD_MAX + DETAIL_MAX + 128];
	Vmsig__WriteResult result;

	if (command->reply_len) {
		settle_reply(command, command->reply, command->reply_len);
		return;
	}
	result_fill(&result, command, REPLY_OLD_MAX);
	assert(vmsig__write_result__get_packed_size(&result) <= sizeof(reply));
	settle_reply(command, reply, vmsig__write_result__pack(&result, reply));
}

static void record_seen(Vmsig__AuditRecord *record, struct command *command)
{
	batch_note(command->desk, hash_seen(command));
	if (!command->hashed)
		return;
	record_hashes(record, command);
	/* The intent has them, unless the guest has changed them since. */
	if (command->keep_bytes &&
		memcmp(command->before, command->old, (size_t)command->bytes) != 0)
		record_bytes(record, command, command->old);
}

/* That there are no digests is said. */
static void record_bulk(Vmsig__AuditRecord *record, struct command *command, char *detail)
{
	if (command->data_known && command->intent)
		record_hashes(record, command);
	if (command->data_known)
		return;
	snprintf(detail, RECORD_DETAIL_MAX + 1, "%s%s" OUTCOME_UNDIGESTED, command->detail,
		command->detail[0] ? "; " : "");
	record->detail = detail;
}

static void collect(struct command *command, void *unused)
{
	char detail[RECORD_DETAIL_MAX + 1];
	Vmsig__AuditRecord record;

	record_command(&record, command,
		command->intent ? VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT
				: VMSIG__AUDIT_RECORD__KIND__WRITE_REFUSED);
	record.outcome = (uint32_t)command->result.error;
	record.bytes = command->result.written;
	if (command->body->bulk)
		record_bulk(&record, command, detail);
	else
		record_seen(&record, command);
	/* What was not written is not named. */
	record_ranges(&record, command, command->result.written);
	record_append(command->desk, &record);
	settle(command);
	command_move(command, COMMAND_RECORDED);
}

void outcomes_collect(struct desk *desk)
{
	docket_serve_all(desk, COMMAND_TOLD, collect, NULL);
	desk->record_ns = 0;
}

/* With its result in the ledger, or, when the broker ends, in its mark only. */
static void end(struct command *command, bool recorded)
{
	/* The end of its lease may be told from now on. */
	if (command->writing)
		lease_write_end(command->desk->engine, command->desk->now_ns, command->key.lease);
	command->writing = false;
	if (recorded) {
		leave(command);
		return;
	}
	lane_leave(command);
	command_free(command);
}

/* Results whose bytes are in the guest are not given up: they are tried again. */
void outcomes_settle(struct desk *desk, int result)
{
	struct command *command;

	while ((command = desk->lists[COMMAND_RECORDED])) {
		if (!result || desk->closing) {
			end(command, !result);
			continue;
		}
		command_move(command, COMMAND_TOLD);
		desk->record_ns = desk->batch.retry_ns;
	}
}
