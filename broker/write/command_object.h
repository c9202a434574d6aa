/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_COMMAND_OBJECT_H
#define BROKER_WRITE_COMMAND_OBJECT_H

/* What a command is, for all who have a part of it; command.h has what is done with one. */

#include "broker/memwrite/memwrite.h"
#include "broker/policy/share.h"
#include "broker/write/state.h"

#define COMMAND_REPLY_MAX 64u /* a result that says no more than that all was written */

struct command {
	struct desk *desk;
	enum command_state state;
	struct command *prev, *next;         /* in the list of its state */
	struct command *all_prev, *all_next; /* desk->all */
	struct command *own_prev, *own_next; /* desk_operator.own, while somebody waits for it */
	struct lane *lane;                   /* of its lease, until it is finished */

	struct command *joined; /* later transmissions of it */
	struct command *first;  /* JOINED: that one */

	struct docket *docket;      /* its tenant's */
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
	uint64_t release;      /* token of the lease that is given back */
	struct desk_wait wait; /* PARTING: for the end of its lease */
	uint8_t digest[LEDGER_DIGEST];
	/* Of bulk data, which is hashed late; command.h. */
	uint8_t shape[LEDGER_DIGEST]; /* digest of all but the data */
	bool data_known;              /* data_hash is there; of bulk data it is in `digest` then */
	uint64_t sum_at;              /* of so many first bytes of the data */
	uint32_t sum;                 /* this is the sum; 0: it was not made */
	struct site *site;
	void *memory; /* of the operations and the bytes before */
	struct memwrite_op *ops;
	size_t nops;
	struct memwrite_plan plan; /* where they go: as the intent says, and nowhere else */
	uint64_t bytes;            /* sum of the operations, or of the bulk data */
	uint8_t *before;           /* as the intent saw them, if it looked */
	uint8_t *old;              /* as they were when the bytes changed */
	bool looked;               /* `before` is there */
	bool seen, hashed;         /* `old` is, and its hash */
	bool unhashed;             /* that is made with those of others, before it is told */
	uint8_t data_hash[DESK_HASH], old_hash[DESK_HASH], new_hash[DESK_HASH];
	uint64_t intent;                  /* id of its record; 0: there is none */
	uint8_t reply[COMMAND_REPLY_MAX]; /* its outcome, packed */
	size_t reply_len;                 /* 0: not yet, or it is too long to be kept */
	uint64_t ticket;                  /* HELD until that has its answer; 0: it waits for none */
	uint32_t mark;                    /* its number is in use, desk->taken; 0: it is not */
	bool writing;                     /* the engine holds the end of its lease for it */
	bool passed; /* in its lane, and nobody waits behind it but a release */
	struct bulk *bulk;
	/* The guest stands still for it, or does not: standstill.h. */
	void (*still)(struct command *command, int error);
	bool is_still;

	struct memwrite_result result;
	char detail[DETAIL_MAX + 1];
	UT_hash_handle hh; /* desk->taken, by key */
};

/* The commands of one lease, in order; lane.h. */
struct lane {
	uint64_t lease;
	uint32_t commands;
	uint32_t passed;         /* have told their outcome, which is not recorded yet */
	struct command *owner;   /* takes several turns: the ones behind it keep their order */
	struct command *waiting; /* those */
	UT_hash_handle hh;
};

#endif
