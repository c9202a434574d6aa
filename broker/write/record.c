/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/record.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/write/batch.h"
#include "broker/write/bill.h"
#include "broker/write/command.h"
#include "broker/write/operator.h"
#include "broker/write/site.h"
#include "proto/mishap.h"

static char *text(const char *string)
{
	return (char *)(uintptr_t)string;
}

void record_append(struct desk *desk, Vmsig__AuditRecord *record)
{
	const struct desk_ops *ops = &desk->env.ops;
	uint64_t bytes = 0;

	batch_begin(desk);
	if (!desk->batch.failed)
		batch_note(desk, ops->records->append(ops->ctx, record, &bytes));
	/* That it is asked to go is not the holder's doing. */
	if (record->kind != VMSIG__AUDIT_RECORD__KIND__NOTICE)
		bill_charge(desk, record->tenant, bytes);
}

void record_lease(Vmsig__AuditRecord *record, struct desk *desk, Vmsig__AuditRecord__Kind kind,
	const struct lease_view *lease)
{
	const struct desk_operator *op = operator_find(desk, lease->session);
	const char *name = desk_endpoint_name(desk, lease->endpoint);

	vmsig__audit_record__init(record);
	record->kind = kind;
	record->tenant = text(lease->tenant);
	record->uid = lease->uid;
	record->endpoint = text(name ? name : "");
	record->epoch = lease->epoch;
	record->lease = lease->id;
	record->token = lease->token;
	record->priority = lease->priority;
	record->ttl_ms = (uint32_t)(lease->ttl_ns / NS_PER_MS);
	record->outcome = (uint32_t)lease->reason;
	if (op) {
		record->pid = op->pid;
		record->serial = text(op->serial);
	}
}

void record_append_lease(
	struct desk *desk, Vmsig__AuditRecord *record, const struct lease_view *lease)
{
	Vmsig__Range ranges[LEASE_RANGES_MAX], *pointers[LEASE_RANGES_MAX];

	for (size_t i = 0; i < lease->nranges; i++) {
		vmsig__range__init(&ranges[i]);
		ranges[i].start = lease->ranges[i].start;
		ranges[i].last = lease->ranges[i].last;
		pointers[i] = &ranges[i];
	}
	record->ranges = pointers;
	record->n_ranges = lease->nranges;
	record_append(desk, record);
}

void record_command(
	Vmsig__AuditRecord *record, const struct command *command, Vmsig__AuditRecord__Kind kind)
{
	const Vmsig__CmdMemwrite *body = command->body;

	vmsig__audit_record__init(record);
	record->kind = kind;
	record->tenant = text(command->tenant);
	record->uid = command->uid;
	record->pid = command->pid;
	record->serial = text(command->serial);
	record->endpoint = text(command->site ? command->site->name : "");
	record->epoch = body->epoch;
	record->lease = body->lease;
	record->token = body->token;
	record->writer = body->writer;
	record->sequence = body->sequence;
	record->operations = (uint32_t)command->nops;
	record->bytes = command->bytes;
	record->intent = command->intent;
	record->detail = text(command->detail);
}

static void *pieces_memory(struct desk *desk, size_t size)
{
	void *grown;

	if (size <= desk->pieces_size)
		return desk->pieces;
	grown = MISHAP("pieces-memory") ? NULL : realloc(desk->pieces, size);
	if (!grown)
		return NULL;
	desk->pieces = grown;
	desk->pieces_size = size;
	return grown;
}

void record_ranges(Vmsig__AuditRecord *record, const struct command *command, uint64_t bytes)
{
	size_t room = command->plan.n;
	Vmsig__Range *packed, **pointers;
	struct lease_range *ranges;

	if (!room || !bytes)
		return;
	pointers = pieces_memory(
		command->desk, room * (sizeof(*pointers) + sizeof(*packed) + sizeof(*ranges)));
	if (!pointers) {
		batch_note(command->desk, -ENOMEM);
		return;
	}
	packed = (Vmsig__Range *)(void *)(pointers + room);
	ranges = (struct lease_range *)(void *)(packed + room);
	record->n_ranges = memwrite_plan_ranges(&command->plan, bytes, ranges);
	record->ranges = pointers;
	for (size_t i = 0; i < record->n_ranges; i++) {
		vmsig__range__init(&packed[i]);
		packed[i].start = ranges[i].start;
		packed[i].last = ranges[i].last;
		pointers[i] = &packed[i];
	}
}

void record_hashes(Vmsig__AuditRecord *record, struct command *command)
{
	bool is_intent = record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT;

	/* Of bulk data they come with the result. */
	if (is_intent && command->body->bulk)
		return;
	record->old_hash.data = command->old_hash;
	record->old_hash.len = is_intent && !command->looked ? 0 : DESK_HASH;
	record->new_hash = (ProtobufCBinaryData){.data = command->new_hash, .len = DESK_HASH};
}

void record_bytes(Vmsig__AuditRecord *record, struct command *command, uint8_t *old)
{
	size_t len = (size_t)command->bytes;
	uint8_t *new = command_scratch(command->desk, len);

	if (!new) {
		batch_note(command->desk, -ENOMEM);
		return;
	}
	command_merge(command, old, new);
	record->old_bytes = (ProtobufCBinaryData){.data = old, .len = len};
	record->new_bytes = (ProtobufCBinaryData){.data = new, .len = len};
}
