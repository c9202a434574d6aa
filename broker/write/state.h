/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_STATE_H
#define BROKER_WRITE_STATE_H

/*
 * The desk's inside: shared by its files, and by nobody else.
 *
 * A command is in exactly one list of its desk at a time: `ready` (to be looked at in the
 * next turn), a lane's `waiting`, `intended` (until the transaction), `unsynced` (until that is
 * on the disk, if the policy wants that), `slicing`, a site's `waiting`, `finished` (to be
 * answered, then its result is made durable), or in none while a callback is due (quiesce, the
 * threads).
 *
 * The intent is durable before bytes change. The result is recorded after the answer has
 * left, in the transaction of the next turn's intents or DESK_RECORD_NS later, so that a write
 * costs one transaction and not two. A crash in between loses no outcome: a mark in shared
 * memory (broker/store/marks.h) tells the next broker how far each command came, see recover.c.
 */

#include <utlist.h>

#include "broker/adapters/memwrite_reg.h"
#include "broker/write/desk.h"
#include "broker/memwrite/memwrite.h"
#include "broker/policy/rate.h"
#include "broker/policy/share.h"
#include "broker/store/audit.h"
#include "broker/store/lease_store.h"
#include "broker/store/ledger.h"
#include "broker/store/marks.h"

#define NS_PER_MS 1000000u
#define DETAIL_MAX 255
#define DESK_RECORD_NS (1ull * NS_PER_MS)  /* results wait so long for a transaction to share */
#define DESK_RETRY_NS (250ull * NS_PER_MS) /* after something could not be made durable */
#define DESK_COMPLAIN_NS (60000ull * NS_PER_MS)   /* between two words about that */
#define DESK_MARKS_RETRY_NS (5000ull * NS_PER_MS) /* after the marks could not be opened */

/* An endpoint as the write plane knows it. */
struct site {
	uint32_t id;
	uint32_t epoch; /* of the target */
	char name[64];
	struct memwrite_target *target; /* NULL: nothing can be written now */
	struct command *quiescing;      /* has the vCPUs stopped, or wants to */
	struct command *waiting;        /* want to after it */
	bool gone; /* is not configured any more; forgotten when it is unused */
	bool used; /* of sites_forget() */
	UT_hash_handle hh;
};

/* The highest number that each writer has used under one lease. */
struct writer {
	uint64_t id, highest;
	struct writer *next;
};

struct tally {
	uint64_t lease;
	struct writer *writers;
	uint32_t n;
	UT_hash_handle hh;
};

/* The commands of one lease that are not finished. */
struct lane {
	uint64_t lease;
	uint32_t commands;
	struct command *owner;   /* takes several turns: the ones behind it keep their order */
	struct command *waiting; /* those */
	bool releasing;          /* a release is among them */
	UT_hash_handle hh;
};

/* What a tenant may still do at the moment under one of its rules: a lax one says nothing about
 * a strict one. */
struct budget_key {
	char tenant[LEASE_NAME_MAX + 1];
	uint32_t rule; /* place in the tenant's list */
};

struct budget {
	struct budget_key key;
	struct rate writes, bytes;
	UT_hash_handle hh;
};

/* What a tenant's doing has cost and may cost. */
struct account {
	char tenant[LEASE_NAME_MAX + 1];
	uint64_t rate; /* bytes of records a second */
	struct rate audit, requests;
	uint64_t behind;   /* bytes since checkpoints fell behind; 0 while they are not */
	unsigned refusals; /* of desk->refusals */
	UT_hash_handle hh;
};

/* Refusals that are alike. */
struct refusal_key {
	char tenant[LEASE_NAME_MAX + 1];
	char endpoint[64]; /* "": any */
	uint32_t kind, outcome;
};

struct refusal {
	struct refusal_key key;
	uint64_t until_ns; /* then the repeats are recorded, or it is forgotten */
	uint32_t shown;    /* recorded one by one */
	uint64_t repeats;  /* since the last record */
	uint32_t uid, pid; /* of the last of them */
	char serial[IDENTITY_SERIAL_MAX + 1];
	char detail[DETAIL_MAX + 1];
	UT_hash_handle hh;
};

struct bulk;
struct bulk_payer;

struct command {
	struct desk *desk;
	struct command *prev, *next;
	struct command *all_prev, *all_next; /* desk->all */
	struct command *own_prev, *own_next; /* desk_operator.own, while somebody waits for it */
	struct lane *lane;                   /* of its lease, until it is finished */

	struct share *share; /* its tenant's time */
	uint64_t session;    /* 0: nobody waits for the answer */
	uint64_t charge;     /* bytes that its connection pays for */
	uint64_t request_id;
	Vmsig__WriteRequest *request;
	const Vmsig__CmdMemwrite *body;
	int bulk_fd;

	/* Who; the connection may be gone before the outcome is recorded. */
	char tenant[LEASE_NAME_MAX + 1];
	char serial[IDENTITY_SERIAL_MAX + 1];
	uint32_t uid, pid;
	bool keep_bytes;
	uint64_t quiesce_ms, bulk_max;
	uint64_t policy; /* the desk's when these were looked up */

	struct ledger_key key;
	uint64_t release; /* token: gives the lease back, and has no body */
	uint8_t digest[LEDGER_DIGEST];
	struct site *site;
	struct memwrite_op *ops;
	size_t nops;
	struct memwrite_plan plan; /* where they go: as the intent says, and nowhere else */
	uint64_t bytes;            /* sum of the operations */
	uint8_t *before;           /* as the intent saw them */
	uint8_t *old;              /* as they were when the bytes changed */
	uint8_t data_hash[AUDIT_HASH], old_hash[AUDIT_HASH], new_hash[AUDIT_HASH];
	uint64_t sync; /* held until that one */
	uint64_t intent;
	uint32_t mark; /* 0: none */
	bool taken;    /* its number is in use: another transmission waits for its outcome */
	bool intended; /* there is, or will be with the transaction, an intent */
	bool begun;    /* the engine was told that bytes are on their way */
	bool told;     /* the answer has left; the result is recorded in a later transaction */
	bool recorded; /* its result is in the open transaction */
	struct bulk *bulk;

	struct memwrite_result result;
	char detail[DETAIL_MAX + 1];
	UT_hash_handle hh; /* desk->taken, by key */
};

/* Told after the transaction; the engine's views do not live that long. */
struct notice {
	enum lease_action_kind kind;
	uint64_t lease, session;
	enum vmsig_error reason;
	uint64_t sync; /* held until that one */
};

struct desk {
	struct desk_env env;
	struct lease_engine *engine;
	struct lease_store *leases;
	struct audit *audit;
	struct ledger *ledger;
	struct desk_operator *operators; /* by session */
	uint64_t last_session;
	struct site *sites;
	struct tally *tallies;
	struct lane *lanes;
	struct budget *budgets;
	struct account *accounts; /* by tenant */
	struct refusal *refusals; /* by key */
	uint64_t refusals_ns;     /* when they are looked at; 0: there are none */
	struct bulk_payer *payers;
	uint64_t policy; /* counts reloads */

	struct command *all;
	struct command *taken; /* by key */
	struct command *ready, *intended, *unsynced, *slicing, *finished;
	bool crowded;        /* what is ready waits for marks, that is for results to be recorded */
	struct marks *marks; /* NULL: they cannot be opened, and nothing is written */
	uint64_t marks_retry_ns; /* when that is tried again */
	char *state_dir;
	uint64_t
		record_ns; /* when results that were told are recorded at the latest; 0: none are */

	uint64_t retained;   /* bytes of the log when its size was last looked at */
	bool over;           /* it is too large */
	uint64_t reclaim_ns; /* when room is looked for again */
	int failed;          /* the open transaction cannot be committed */
	uint64_t retry_ns;   /* when the store is tried again, which has failed; 0: it has not */
	bool failing;
	uint64_t complained_ns;
	uint64_t *owed; /* leases whose end is not durable yet */
	size_t nowed;
	size_t paying; /* so many of the first ones are in the open transaction */
	struct notice *notices;
	size_t nnotices, notices_size;
	struct notice *held; /* of what is not on the disk yet, in order */
	size_t nheld;

	uint8_t *scratch;
	size_t scratch_size;
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
};

/* ---- durable.c ---- */
void durable_init(struct desk *desk);
/* Nobody waits any more; the broker ends. */
void durable_drop(struct desk *desk);
/* 0; VMSIG_ERR_IO: nothing that waits for the disk may be committed any more. */
__attribute__((warn_unused_result)) int durable_failed(const struct desk *desk);
/* After a commit: which sync what it was about has to wait for; 0: for none. */
uint64_t durable_ask(struct desk *desk);
void durable_hold(struct command *command, uint64_t sync);
/* Copies them. */
void durable_hold_notices(struct desk *desk, struct notice *notices, size_t n, uint64_t sync);

/* ---- desk.c ---- */
struct desk_operator *desk_operator_find(struct desk *desk, uint64_t session);
/* At least `size` bytes, valid until the next call; NULL without memory. */
uint8_t *desk_scratch(struct desk *desk, size_t size);
/* Appends to the turn's transaction, which it opens. What fails dooms the transaction. */
void desk_append(struct desk *desk, Vmsig__AuditRecord *record);
/* Notes the result of a change in the turn's transaction. */
void desk_note(struct desk *desk, int r);
/* Ends the transaction. 0 or why nothing of it happened. */
__attribute__((warn_unused_result)) int desk_commit(struct desk *desk);
/* The store has failed a moment ago: what can wait is not tried again yet. */
bool desk_is_stuck(const struct desk *desk);
/* The last part of shutdown that it waits for may have ended. */
void desk_check_closed(struct desk *desk);

/* ---- lessor.c ---- */
/* Tells them, when what they say is durable; else what must not be used is taken back. */
void notices_settle(struct desk *desk, const struct notice *notices, size_t n, int result);
__attribute__((warn_unused_result)) int lessor_init(struct desk *desk);
/* Restores the leases that survived, in the open transaction. */
__attribute__((warn_unused_result)) int lessor_restore(struct desk *desk);
/* The transaction with ends that were owed was committed, or not. */
void ends_recorded(struct desk *desk, int result);
/* Performs what the engine wants; makes it durable; tells the planes. Whether anything
 * happened. */
bool lessor_turn(struct desk *desk);

/* ---- site.c ---- */
struct site *site_find(const struct desk *desk, uint32_t id);
const vmsig_memwrite_reg *site_reg(const struct site *site, const struct desk *desk);
struct site *site_free(struct desk *desk, struct site *site);
/* Frees those that are gone and that no command and no lease names any more. */
void sites_forget(struct desk *desk);

/* ---- result.c ---- */
/* Appends the results of answered commands to the open transaction; once the turn's answers
 * are on their way, and before anything that must not be recorded ahead of them. */
void commands_record(struct desk *desk);
/* The transaction was committed, or not. */
void commands_recorded(struct desk *desk, int result);
/* Answers whoever waits for the command, which is finished. */
void command_tell(struct command *command);
/* Marks the result as it stands: what the next broker will answer and record, should this one be
 * killed before it does. */
void command_mark(struct command *command);
/* The result is there: marked, to be told, then recorded. */
void command_finish(struct command *command);

/* ---- lane.c ---- */
struct lane *lane_find(const struct desk *desk, uint64_t lease);
/* -ENOMEM. */
__attribute__((warn_unused_result)) int lane_enter(struct command *command);
/* Whether it has to wait for the owner, and does from now on. */
bool lane_wait(struct command *command);
/* Those behind it wait from now on. */
void lane_own(struct command *command);
/* It is finished, or gone; those that waited for it are ready. */
void lane_leave(struct command *command);

/* ---- command.c ---- */
/* Its intent is durable: bytes may change; or (result) it never will be. */
void command_proceed(struct command *command, int result);
/* Whether the lease holds, the policy still allows it and the endpoint takes bytes. `detail`
 * may say why not. */
__attribute__((warn_unused_result)) int command_check(struct command *command);
/* Looks at what is ready: intents, their transaction, bytes, answers. Whether there may be
 * more to do in this turn. */
bool commands_turn(struct desk *desk);
struct command *command_free(struct command *command);
/* From now on this session waits for the answer, and pays. */
void command_charge(struct command *command, uint64_t session);
/* memwrite_admit_fn: whether these bytes may be changed now. */
int command_admit(void *ctx, const struct lease_range *range);
/* Nothing was applied, and its number is not used up. NULL: the error's own sentence. */
void command_reject(struct command *command, int error, const char *detail);
/* old_hash and new_hash, given the bytes that are there. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int command_hash(struct command *command, const uint8_t *old);
/* The bytes that are to be there, given those that are: `bytes` of each. */
void command_merge(const struct command *command, const uint8_t *old, uint8_t *new);

/* ---- replay.c ---- */
/* What became of an earlier transmission. 0 with *ret_new: there was none, or it is certain
 * that it was not applied; 0 without: the command is being taken care of, and may be gone
 * already. Any other: it was an error, the command is unchanged. */
__attribute__((warn_unused_result)) int replay_check(struct command *command, bool *ret_new);
/* Whether (tenant, token) were right for the lease while it was held. NO_LEASE. */
__attribute__((warn_unused_result)) int replay_authorise(const struct command *command);
/* After its lease ended no number of a writer is new any more. */
void replay_forget(struct desk *desk, uint64_t lease);
/* Uses the command's number up: it has a mark, and later transmissions find it.
 * VMSIG_ERR_BUSY: no mark is free; VMSIG_ERR_IO: there are none; -ENOMEM. */
__attribute__((warn_unused_result)) int replay_take(struct command *command);
/* The ledger has its result, or nothing came of it: the mark is free, and so is the number if
 * it is not in the ledger. */
void replay_done(struct command *command);
/* The command goes, and leaves what its mark tells. */
void replay_leave(struct command *command);

/* ---- recover.c ---- */
/* Opens the marks; what fails is logged, and nothing is written without them. */
void recover_open_marks(struct desk *desk);
/* Settles in the open transaction what a crash left without a result. */
void recover_writes(struct desk *desk);
/* The transaction was committed: the marks are free. */
void recover_done(struct desk *desk);

/* ---- bulk.c ---- */
/* Whether its descriptor has what it says, within the policy, and a holder sent it; before
 * anything is charged. On failure `detail` says why. */
__attribute__((warn_unused_result)) int bulk_check(struct command *command);
/* Has the data hashed and the addresses looked up; then the command comes back to `ready`. */
__attribute__((warn_unused_result)) int bulk_open(struct command *command);
/* What came of looking its addresses up; `detail` says what is wrong. With *ret_again that has
 * to be done once more, and the command comes back later. */
__attribute__((warn_unused_result)) int bulk_planned(struct command *command, bool *ret_again);
/* Its intent is durable: has it stored, slice by slice; the last one finishes it. */
void bulk_store(struct command *command);
/* Ends those whose lease, policy or endpoint is over. */
void bulks_look(struct desk *desk);
struct bulk *bulk_free(struct bulk *bulk);

/* ---- record.c ---- */
void record_lease(Vmsig__AuditRecord *record, struct desk *desk, Vmsig__AuditRecord__Kind kind,
	const struct lease_view *lease);
void record_command(
	Vmsig__AuditRecord *record, const struct command *command, Vmsig__AuditRecord__Kind kind);
void record_hashes(Vmsig__AuditRecord *record, struct command *command);
/* Names the memory that the first `bytes` bytes of the command's plan go to. What it returns
 * is to be freed after the record was appended; NULL: there is none. */
void *record_ranges(Vmsig__AuditRecord *record, const struct command *command, uint64_t bytes);
/* For policies that keep them. Uses the scratch memory. */
void record_bytes(Vmsig__AuditRecord *record, struct command *command, uint8_t *old);
/* Appends a lease's record, with its ranges. */
void record_append_lease(
	struct desk *desk, Vmsig__AuditRecord *record, const struct lease_view *lease);

/* ---- submit.c ---- */
/* Finds the rule of the policy that it falls under, as it is now. VMSIG_ERR_FORBIDDEN,
 * VMSIG_ERR_QUOTA; `detail` says what to do. */
__attribute__((warn_unused_result)) int command_rule(
	struct command *command, const struct config_write_rule *rule);

/* ---- request.c ---- */
/* The tenant's rule for an operator of that name, whatever connection it has; NULL: none. */
const struct config_write_rule *desk_rule(const struct desk *desk, const char *tenant, uint32_t uid,
	const char *endpoint, const struct config_tenant **ret_tenant);

/* ---- account.c ---- */
/* Charges one request other than a write. VMSIG_ERR_QUOTA, -ENOMEM; `detail` says why. */
__attribute__((warn_unused_result)) int account_request(
	struct desk *desk, const struct config_tenant *tenant, char *detail, size_t size);
/* Whether more of the tenant's doing may be recorded. VMSIG_ERR_QUOTA: it owes; VMSIG_ERR_BUSY:
 * the disk does not keep up; VMSIG_ERR_IO: it is full or the state damaged; -ENOMEM. `detail`
 * says so. */
__attribute__((warn_unused_result)) int account_check(
	struct desk *desk, const struct config_tenant *tenant, char *detail, size_t size);
/* What was stored on its account. NULL: on nobody's. */
void account_charge(struct desk *desk, const char *tenant, uint64_t bytes);
/* How many kinds of refusals of the tenant are being counted, after the change. */
unsigned account_count_refusals(struct desk *desk, const char *tenant, int change);
void accounts_free(struct desk *desk);

/* ---- refusal.c ---- */
/* Records the refusal, or counts it if it is like one that was recorded. May shorten the
 * record's ranges. */
void refusal_record(struct desk *desk, Vmsig__AuditRecord *record);
/* Records what was counted, if it is time, or `all`. */
void refusals_turn(struct desk *desk, bool all);
void refusals_free(struct desk *desk);

/* ---- budget.c ---- */
/* Charges one command of so many bytes. VMSIG_ERR_QUOTA, *ret_wait_ms until it would do. */
__attribute__((warn_unused_result)) int budget_charge(struct desk *desk,
	const struct config_tenant *tenant, const struct config_write_rule *rule, uint64_t bytes,
	uint32_t *ret_wait_ms);
/* Of bytes that were charged and then not looked at. */
void budget_refund(struct desk *desk, const struct config_tenant *tenant,
	const struct config_write_rule *rule, uint64_t bytes);
void budgets_free(struct desk *desk);

#endif
