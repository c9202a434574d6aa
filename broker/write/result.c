/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command's outcome: marked, so that a crash does not lose it; told; then recorded, in the
 * transaction of the next intents or soon after. One that cannot be recorded is tried again with
 * the rest of what is owed, and keeps its mark until it is durable.
 */
#include "broker/write/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

/* Bytes before that are kept for a repeated question; a writer has LEDGER_WINDOW of them. */
#define REPLY_OLD_MAX 4096u
#define LEDGER_ROW 160u /* of a row beside its reply */

static size_t old_len(const struct command *command)
{
	size_t len = 0;

	if (!command->body->want_old || command->body->bulk)
		return 0;
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

void command_mark(struct command *command)
{
	uint8_t reply[MARKS_REPLY_MAX];
	Vmsig__WriteResult result;

	if (!command->mark)
		return;
	result_fill(&result, command, SIZE_MAX);
	if (vmsig__write_result__get_packed_size(&result) > sizeof(reply))
		result.old = (ProtobufCBinaryData){0};
	marks_end(command->desk->marks, command->mark, reply,
		vmsig__write_result__pack(&result, reply));
}

void command_finish(struct command *command)
{
	command_mark(command);
	DL_APPEND(command->desk->finished, command);
	lane_leave(command);
}

static void settle(struct command *command)
{
	struct desk *desk = command->desk;
	Vmsig__WriteResult result;
	uint8_t *reply;

	result_fill(&result, command, REPLY_OLD_MAX);
	reply = desk_scratch(desk, vmsig__write_result__get_packed_size(&result));
	if (!reply) {
		desk_note(desk, -ENOMEM);
		return;
	}
	if (!command->intended)
		desk_note(desk, ledger_intend(desk->ledger, &command->key, command->digest, 0));
	account_charge(
		desk, command->tenant, LEDGER_ROW + vmsig__write_result__get_packed_size(&result));
	desk_note(desk, ledger_settle(desk->ledger, &command->key, reply,
				vmsig__write_result__pack(&result, reply)));
}

/* The guest may have changed them between the intent and the bytes. */
static void record_changed(Vmsig__AuditRecord *record, struct command *command)
{
	if (command->result.error || !command->nops ||
		memcmp(command->before, command->old, (size_t)command->bytes) == 0)
		return;
	desk_note(command->desk, command_hash(command, command->old));
	record_hashes(record, command);
	if (command->keep_bytes)
		record_bytes(record, command, command->old);
}

static void record_result(struct command *command)
{
	Vmsig__AuditRecord record;
	void *ranges;

	record_command(&record, command,
		command->intended ? VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT
				  : VMSIG__AUDIT_RECORD__KIND__WRITE_REFUSED);
	record.outcome = (uint32_t)command->result.error;
	record.bytes = command->result.written;
	if (command->body->bulk && command->intended)
		record_hashes(&record, command);
	else
		record_changed(&record, command);
	/* What was not written is not named. */
	ranges = record_ranges(&record, command, command->result.written);
	desk_append(command->desk, &record);
	free(ranges);
	settle(command);
}

void command_tell(struct command *command)
{
	struct desk *desk = command->desk;
	struct desk_operator *op = desk_operator_find(desk, command->session);
	Vmsig__WriteResult result;
	bool again = command->told;

	command->told = true;
	if (!desk->record_ns)
		desk->record_ns = desk_now() + DESK_RECORD_NS;
	if (!op)
		return;
	result_fill(&result, command, SIZE_MAX);
	result.replayed = again;
	desk->env.events->written(op->client, command->request_id, &result);
	command_charge(command, 0);
}

void commands_record(struct desk *desk)
{
	struct command *command;

	DL_FOREACH (desk->finished, command) {
		if (!command->told || command->recorded)
			continue;
		record_result(command);
		command->recorded = true;
	}
	desk->record_ns = 0;
}

/* With its result in the ledger, or, when the broker ends, in its mark only. */
static void leave(struct command *command, bool recorded)
{
	struct desk *desk = command->desk;

	DL_DELETE(desk->finished, command);
	/* Only now the end of its lease is told to anybody. */
	if (command->begun)
		lease_write_end(desk->engine, desk_now(), command->key.lease);
	if (recorded)
		replay_done(command);
	command_free(command);
}

/* Results whose bytes are in the guest are not given up: they are tried again. */
void commands_recorded(struct desk *desk, int result)
{
	struct command *command, *next;

	DL_FOREACH_SAFE (desk->finished, command, next) {
		if (!command->recorded)
			continue;
		command->recorded = false;
		if (!result || desk->closing)
			leave(command, !result);
		else
			desk->record_ns = desk->retry_ns;
	}
}
