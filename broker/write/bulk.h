/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_BULK_H
#define BROKER_WRITE_BULK_H

/*
 * Data in a memfd: so much that no step of it may hold up others. A bulk command goes through
 *
 *   PLANNING   on the loop, in parts: where in the guest it goes, and that it may go there
 *   INTENDED   like any command
 *   SLICING    slices.h: some slices on the loop, one at a time, while a thread reads the data of
 *              the next ones
 *   FINISHED   it is answered
 *   DIGESTING  digests.h: a thread hashes the data, which is sealed and cannot change, and the
 *              bytes that were there before, which were kept
 *   TOLD       the result is recorded, with both digests
 *
 * The end of its lease, and releases, wait until that record is durable. A crash before it is
 * recorded as such: the outcome is known from the mark, and that there are no digests is said.
 *
 * What is done on the loop is a task of the tenant's share of its time; what is done on threads
 * stands in a line of the tenant, so more commands do not make it more. Of one tenant one
 * command is stored at a time. Nobody maps the memfd: that would allocate the pages of its holes
 * at our cost, and its owner decides how many there are.
 *
 * A slice is checked like a command: lease, token, epoch, policy, endpoint; and each of its
 * pieces is admitted again. A command whose lease has ended is over in the same turn, whatever
 * its tenant owes: others wait for that end.
 *
 * A repeated one is hashed when its number has an outcome, to compare it (HASHING); until the
 * outcome is recorded it waits (COMPARING).
 */

#include "broker/write/state.h"

struct command;

/* Whether its descriptor has what it says; before anything is charged. On failure `detail` says
 * why. */
__attribute__((warn_unused_result)) int bulk_check(struct command *command);
/* Has the addresses looked up; then the command is READY again. */
__attribute__((warn_unused_result)) int bulk_open(struct command *command);
/* Has the data hashed, and the sum of the first `sum_at` bytes made; then the command is READY
 * again. What was looked up before is not lost. */
__attribute__((warn_unused_result)) int bulk_hash(struct command *command, uint64_t sum_at);
/* Whether its addresses were looked up. */
bool bulk_is_planned(const struct command *command);
/* What came of looking its addresses up; `detail` says what is wrong. With *ret_again that has
 * to be done once more, and is under way. */
__attribute__((warn_unused_result)) int bulk_planned(struct command *command, bool *ret_again);
/* Accepts a command without bulk data. */
void bulk_free(struct command *command);

#endif
