/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_COMMAND_H
#define BROKER_WRITE_COMMAND_H

/*
 * A CMD_MEMWRITE on its way, or a release, which takes its turn among the commands of its lease.
 * What becomes of one is its state, and nothing else: command_move() allows the moves of one
 * table, and keeps each command in the list of its state.
 */

#include "broker/write/command_object.h"

/* Of the operator's tenant and connection. Takes request and descriptor, if it succeeds. -ENOMEM.
 */
__attribute__((warn_unused_result)) int command_new(struct command **ret_command, struct desk *desk,
	const struct desk_operator *op, Vmsig__WriteRequest *request, int bulk_fd);
/* It is in no list and no lane any more. What its mark tells stays. */
struct command *command_free(struct command *command);

/* To the end of that state's list. The move is one of those that are allowed. */
void command_move(struct command *command, enum command_state state);
/* READY, before those that are. */
void command_move_first(struct command *command);

/* ---- its number ---- */

/* The one that uses this number; NULL: none does. */
struct command *command_find(const struct desk *desk, const struct ledger_key *key);
/* Uses its number up: it has a mark, and later transmissions find it. VMSIG_ERR_BUSY: no mark is
 * free; VMSIG_ERR_IO: there are none; -ENOMEM. `detail` says so. */
__attribute__((warn_unused_result)) int command_take(struct command *command);
/* The ledger has its result, or nothing came of it: the mark is free, and so is the number if
 * it is not in the ledger. */
void command_give_back(struct command *command);

/* ---- hashes ---- */

/* At least `size` bytes, valid until the next call; NULL without memory. */
uint8_t *command_scratch(struct desk *desk, size_t size);
/* data_hash of its operations, as one run of bytes. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int command_hash_data(struct command *command);
/* What tells it from another command with its number. 0 or -ENOMEM, all of them.
 *
 * Of operations it is `digest`, which has data_hash in it. Of bulk data, which is hashed after the
 * answer, it is `shape` until then, which has all but the data; then `digest`, once data_hash is
 * there. When the broker ends before that it is the digest of a part: of the shape and of the sum
 * of the bytes that were stored, which its mark has. */
__attribute__((warn_unused_result)) int command_hash_all(struct command *command);
__attribute__((warn_unused_result)) int command_hash_part(const struct desk *desk,
	const uint8_t shape[LEDGER_DIGEST], uint64_t bytes, uint32_t sum,
	uint8_t ret_digest[LEDGER_DIGEST]);
/* What stands for it before bytes change. */
const uint8_t *command_name(const struct command *command);
/* Makes `digest` what stands for bulk data in the ledger from now on. */
__attribute__((warn_unused_result)) int command_identify(struct command *command);
/* Whether its intent needs the bytes that are there: to compare, to merge or to keep them. Those
 * of others come with the store itself. */
bool command_looks(const struct command *command);
/* old_hash and new_hash, given the bytes that are there. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int command_hash(struct command *command, const uint8_t *old);
/* The bytes that are to be there, given those that are: `bytes` of each. */
void command_merge(const struct command *command, const uint8_t *old, uint8_t *new);

#endif
