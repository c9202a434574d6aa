/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_OUTCOME_H
#define BROKER_WRITE_OUTCOME_H

/*
 * How a command ends. An outcome is marked, so that a crash does not lose it; told; then
 * recorded, with the next intents or soon after. One that cannot be recorded is tried again with
 * the rest of what is owed, and keeps its mark until it is durable.
 */

#include "broker/write/state.h"

struct command;

/* What a mark's reply begins with: the hash of the bytes that were there, or zeros; then comes a
 * packed WriteResult. */
#define OUTCOME_MARK_HASH DESK_HASH

/* What the record of bulk data says whose digests were not made in time. */
#define OUTCOME_UNDIGESTED "the digests of its data and of the bytes before are not recorded"

/* Marks the result as it stands: what the next broker will answer and record, should this one be
 * killed before it does. */
void outcome_mark(struct command *command);
/* The result is there: marked, to be told, then recorded. Of bulk data (bulk.h) it is recorded
 * after outcome_digested(); the end of its lease, and releases, wait for that record. */
void outcome_finish(struct command *command);
/* Its digests are there, or there will be none. */
void outcome_digested(struct command *command);
/* Nothing was applied, and its number is not used up. NULL: the error's own sentence. */
void outcome_reject(struct command *command, int error, const char *detail);
/* The ledger has its answer. */
void outcome_answer(struct command *command, const struct ledger_entry *entry);
/* `first` answers whom the second transmission came from, too: now, or when it has an answer. */
void outcome_join(struct command *first, struct command *second);

/* Whether results are to be recorded now. */
bool outcomes_due(const struct desk *desk);
/* Appends the results of answered commands to the open batch. */
void outcomes_collect(struct desk *desk);
/* The batch was committed, or not. */
void outcomes_settle(struct desk *desk, int result);
/* Answers for what is finished. */
void outcomes_tell(struct desk *desk);

#endif
