/* SPDX-License-Identifier: Apache-2.0 */
/* What has to be recorded, and when, against the reference. */
#include "tests/sim/write_world.h"

#include <string.h>

#include "vmsig/vmsig_error.h"

static bool is_about(const Vmsig__AuditRecord *record, const struct body *body)
{
	return record->lease == body->lease && record->writer == body->writer &&
	       record->sequence == body->sequence;
}

const Vmsig__AuditRecord *records_intent(const struct body *body)
{
	for (size_t i = disk_durable(disk); i > 0; i--) {
		const Vmsig__AuditRecord *record = disk_record(disk, i - 1);

		if (record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT &&
			is_about(record, body))
			return record;
	}
	return NULL;
}

static void check_intent(const Vmsig__AuditRecord *intent)
{
	unsigned results = 0;

	for (size_t i = intent->id; i < disk_committed(disk); i++) {
		const Vmsig__AuditRecord *record = disk_record(disk, i);

		results += record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT &&
			   record->intent == intent->id;
	}
	if (results != 1)
		broken("I5: intent %llu of lease %llu/%llu has %u results",
			(unsigned long long)intent->id, (unsigned long long)intent->lease,
			(unsigned long long)intent->sequence, results);
}

static bool is_result(const Vmsig__AuditRecord *record)
{
	return record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT ||
	       record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_REFUSED;
}

/* Both digests, and that of the data is that of the data; or that they are not there is said. Of
 * what a crash kept from beginning the intent says all. */
static void check_digests(const struct model_command *command, const Vmsig__AuditRecord *record)
{
	uint8_t hash[DESK_HASH];

	if (!record->intent || !record->bytes || record->outcome == VMSIG_ERR_UNKNOWN_OUTCOME)
		return;
	if (!record->new_hash.len) {
		if (!strstr(record->detail, "not recorded"))
			broken("digest: there is none in record %llu (%s), and it does not say so",
				(unsigned long long)record->id, record->detail);
		return;
	}
	data_hash(command, hash);
	if (record->old_hash.len != DESK_HASH ||
		memcmp(record->new_hash.data, hash, DESK_HASH) != 0)
		broken("digest: record %llu has that of other data",
			(unsigned long long)record->id);
}

void records_check_end(const struct model_lease *lease)
{
	for (unsigned i = 0; i < world.ncommands; i++) {
		const struct model_command *command = &world.commands[i];
		/* What a crash has left is recorded as soon as the marks can be opened. */
		bool found = !command->body.bulk || !command->applied || command->former ||
			     command->body.lease != lease->id ||
			     command->body.token != lease->token;

		for (size_t j = disk_committed(disk); !found && j > 0; j--)
			found = is_result(disk_record(disk, j - 1)) &&
				is_about(disk_record(disk, j - 1), &command->body);
		if (!found)
			broken("digest: the end of lease %llu is told, and %llu bytes of command "
			       "%u have no record",
				(unsigned long long)lease->id, (unsigned long long)command->applied,
				i);
	}
}

static void check_outcome(const struct model_command *command)
{
	for (size_t i = 0; i < disk_committed(disk); i++) {
		const Vmsig__AuditRecord *record = disk_record(disk, i);

		if (is_result(record) && is_about(record, &command->body) &&
			record->outcome == command->outcome &&
			record->bytes ==
				(command->outcome ? command->written : command->body.bytes)) {
			if (command->body.bulk)
				check_digests(command, record);
			return;
		}
	}
	broken("I5: %s of %llu bytes was told for lease %llu/%llu, and is not recorded",
		vmsig_error_name((int)command->outcome), (unsigned long long)command->written,
		(unsigned long long)command->body.lease,
		(unsigned long long)command->body.sequence);
}

void records_check(void)
{
	for (size_t i = 0; i < disk_committed(disk); i++) {
		const Vmsig__AuditRecord *record = disk_record(disk, i);

		if (record->id != i + 1)
			broken("I12: record %llu stands where %zu should",
				(unsigned long long)record->id, i + 1);
		if (record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT)
			check_intent(record);
	}
	for (unsigned i = 0; i < world.ncommands; i++) {
		const struct model_command *command = &world.commands[i];

		if (command->answered && !command->lost)
			check_outcome(command);
	}
}
