/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_BULK_H
#define BROKER_WRITE_BULK_H

/*
 * Data in a memfd: so much that no step of it may hold up others. A bulk command goes through
 *
 *   HASHING    on a thread: the memfd is read, a piece at a time, for the hash of its data
 *   PLANNING   on the loop, in parts: where in the guest it goes, and that it may go there
 *   INTENDED   like any command
 *   SLICING    some slices on the loop, one at a time, then on a thread: the hash of the bytes
 *              that were there, and the data of the next ones
 *
 * What is done on the loop is a task of the tenant's share of its time; what is done on threads
 * stands in a line of the tenant, so more commands do not make it more. Of one tenant one
 * command is stored at a time. Nobody maps the memfd: that would allocate the pages of its holes
 * at our cost, and its owner decides how many there are.
 *
 * A slice is checked like a command: lease, token, epoch, policy, endpoint; and each of its
 * pieces is admitted again. A command whose lease has ended is over in the same turn, whatever
 * its tenant owes: others wait for that end.
 */

#include "broker/write/state.h"

struct command;

/* Whether its descriptor has what it says; before anything is charged. On failure `detail` says
 * why. */
__attribute__((warn_unused_result)) int bulk_check(struct command *command);
/* Has the data hashed and the addresses looked up; then the command is READY again. */
__attribute__((warn_unused_result)) int bulk_open(struct command *command);
/* What came of looking its addresses up; `detail` says what is wrong. With *ret_again that has
 * to be done once more, and is under way. */
__attribute__((warn_unused_result)) int bulk_planned(struct command *command, bool *ret_again);
/* Its intent is durable: has it stored, slice by slice; the last one finishes it. */
void bulk_store(struct command *command);
/* Ends those whose lease, policy or endpoint is over. */
void bulks_look(struct desk *desk);
/* Accepts a command without bulk data. */
void bulk_free(struct command *command);

#endif
