/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_REPLAY_H
#define BROKER_WRITE_REPLAY_H

/*
 * At most once: whether a command is new, or an earlier transmission of it is under way, has an
 * outcome, or was another command. What a crash left is in the ledger before the first command
 * comes (recover.h), so this is answered from the ledger and the commands at hand, and from
 * nothing that the guest can change. It answers, and changes nothing.
 */

#include "broker/write/state.h"

struct command;

enum replay_answer {
	REPLAY_NEW,    /* there was none, or it is certain that it was not applied */
	REPLAY_WAIT,   /* `first` is under way, and will have the answer */
	REPLAY_LATER,  /* likewise; whether it is the same can be told when it is recorded */
	REPLAY_READ,   /* whether it is the same can be told when its bulk data has been read */
	REPLAY_ANSWER, /* `entry` has it */
	REPLAY_REFUSE, /* with `error` */
};

struct replay_verdict {
	enum replay_answer answer;
	struct command *first;
	struct ledger_entry entry; /* its reply is to be freed */
	uint64_t sum_at;           /* READ: of so many bytes the sum is needed, too */
	int error;
};

/* Whether (tenant, token) were right for the lease while it was held. NO_LEASE. */
__attribute__((warn_unused_result)) int replay_authorise(const struct command *command);
/* Of one that was authorised, and whose hashes are made. */
struct replay_verdict replay_look(const struct command *command);
/* It is new, and taken: its number and those below are none of a new one any more. VMSIG_ERR_QUOTA:
 * too many writers under one lease, as `detail` says; -ENOMEM. */
__attribute__((warn_unused_result)) int replay_note(struct command *command);
/* After its lease ended no number of a writer is new any more. */
void replay_forget(struct desk *desk, uint64_t lease);
void replays_free(struct desk *desk);

#endif
