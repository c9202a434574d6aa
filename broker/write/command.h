/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_COMMAND_H
#define BROKER_WRITE_COMMAND_H

/*
 * A CMD_MEMWRITE on its way, or a release, which takes its turn among the commands of its lease.
 * What becomes of one is its state, and nothing else: command_move() allows the moves of one
 * table, and keeps each command in the list of its state.
 */

#include "broker/memwrite/memwrite.h"
#include "broker/policy/share.h"
#include "broker/write/state.h"

struct command {
	struct desk *desk;
	enum command_state state;
	struct command *prev, *next;         /* in the list of its state */
	struct command *all_prev, *all_next; /* desk->all */
	struct command *own_prev, *own_next; /* desk_operator.own, while somebody waits for it */
	struct lane *lane;                   /* of its lease, until it is finished */

	struct share *share;        /* its tenant's time */
	uint64_t session;           /* 0: nobody waits for the answer */
	uint64_t size;              /* bytes of memory that it takes: `room` */
	struct charge number, room; /* its connection pays */
	uint64_t request_id;
	Vmsig__WriteRequest *request;
	const Vmsig__CmdMemwrite *body; /* NULL: a release */
	int bulk_fd;

	/* Who; the connection may be gone before the outcome is recorded. */
	char tenant[LEASE_NAME_MAX + 1];
	char serial[IDENTITY_SERIAL_MAX + 1];
	uint32_t uid, pid;

	/* The rule it falls under; permit.h. */
	bool keep_bytes;
	uint64_t quiesce_ms, bulk_max;
	uint64_t policy; /* the desk's when these were looked up */

	struct ledger_key key;
	uint64_t release; /* token of the lease that is given back */
	uint8_t digest[LEDGER_DIGEST];
	struct site *site;
	struct memwrite_op *ops;
	size_t nops;
	struct memwrite_plan plan; /* where they go: as the intent says, and nowhere else */
	uint64_t bytes;            /* sum of the operations */
	uint8_t *before;           /* as the intent saw them */
	uint8_t *old;              /* as they were when the bytes changed */
	uint8_t data_hash[DESK_HASH], old_hash[DESK_HASH], new_hash[DESK_HASH];
	uint64_t intent; /* id of its record; 0: there is none */
	uint64_t ticket; /* HELD until that has its answer; 0: it has */
	uint32_t mark;   /* its number is in use, desk->taken; 0: it is not */
	bool writing;    /* the engine holds the end of its lease for it */
	struct bulk *bulk;

	struct memwrite_result result;
	char detail[DETAIL_MAX + 1];
	UT_hash_handle hh; /* desk->taken, by key */
};

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
/* `digest`, what tells it from another command, given data_hash. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int command_hash_all(struct command *command);
/* old_hash and new_hash, given the bytes that are there. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int command_hash(struct command *command, const uint8_t *old);
/* The bytes that are to be there, given those that are: `bytes` of each. */
void command_merge(const struct command *command, const uint8_t *old, uint8_t *new);

#endif
