/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_RECORD_H
#define BROKER_WRITE_RECORD_H

/* Audit records: what is in them, and into the open batch with them. */

#include "broker/write/state.h"

struct command;

/* Appends to the turn's batch, which it opens, and bills the record's tenant. What fails dooms
 * the batch. */
void record_append(struct desk *desk, Vmsig__AuditRecord *record);

void record_lease(Vmsig__AuditRecord *record, struct desk *desk, Vmsig__AuditRecord__Kind kind,
	const struct lease_view *lease);
/* Appends a lease's record, with its ranges. */
void record_append_lease(
	struct desk *desk, Vmsig__AuditRecord *record, const struct lease_view *lease);

void record_command(
	Vmsig__AuditRecord *record, const struct command *command, Vmsig__AuditRecord__Kind kind);
void record_hashes(Vmsig__AuditRecord *record, struct command *command);
/* Names the memory that the first `bytes` bytes of the command's plan go to; until the next call.
 */
void record_ranges(Vmsig__AuditRecord *record, const struct command *command, uint64_t bytes);
/* For policies that keep them. Uses the scratch memory. */
void record_bytes(Vmsig__AuditRecord *record, struct command *command, uint8_t *old);

#endif
