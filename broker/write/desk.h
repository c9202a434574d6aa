/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_DESK_H
#define BROKER_WRITE_DESK_H

/*
 * The write plane behind its messages: operators hold leases of the engine (lease/), and their
 * commands become intents in the log, bytes in the guest, results in the log, and answers.
 *
 * Pure, the read plane's twin: no clock, no loop, no store. Each event comes in with its time
 * (`now_ns`, nanoseconds of CLOCK_BOOTTIME or of a simulator; never a step back counts), and
 * what the plane needs of the world is in ops.h. desk_turn(), once before each sleep of the
 * loop, does all that has come together:
 *
 *   collect   what the lease engine wants, intents of new commands, results of answered ones,
 *             into one batch
 *   append    the batch is committed: once a turn, however many there are
 *   settle    grants are told, bytes change, ends are told; or nothing of it, when the batch
 *             could not be had. Where the answer is late, what waits for it is held.
 *
 * A round that leaves something to do says so by desk_delay() 0. The intent is durable before
 * bytes change; the answer leaves before the result is recorded, which goes with a later batch,
 * a millisecond at most. A crash in between loses no outcome: a mark that outlives the process
 * tells the next broker how far each command came.
 *
 *   ops.h        what the write plane needs of the world
 *   state.h      the desk's own members: who has what
 *   desk.c       life, and the turn
 *   batch.c      the turn's batch, and what became of it
 *   operator.c   who is there, and which rule is theirs
 *   request.c    requests for leases, and the policy for them
 *   lessor.c     what the lease engine wants
 *   notice.c     what holders are told of their leases
 *   ending.c     their ends on the way into the log, and who waits for them
 *   site.c       an endpoint's writable RAM
 *   command_object.h  what a command is, for all who have a part of it
 *   command.c    a CMD_MEMWRITE: the object, its states and the moves between them
 *   message.c    what it says
 *   permit.c     whether it may change bytes: its lease, its policy, its endpoint
 *   lane.c       the order of one lease's commands
 *   docket.c     a tenant's commands that may go on, a part at a time
 *   intake.c     it comes in
 *   hashes.c     hashes of its bytes, and of others'
 *   pipeline.c   its way: looked at, intended, applied
 *   release.c    one that gives its lease back
 *   replay.c     at most once: what became of an earlier transmission
 *   bulk_object.h  what bulk data is, for all who have a part of it
 *   bulk.c       data in a memfd: where it goes
 *   slices.c     it is stored, slice by slice
 *   digests.c    it is hashed, and what was there before
 *   standstill.c  vCPUs stand still around a write
 *   payer.c      a tenant with bulk data
 *   outcome.c    its answer, and the record of it
 *   recover.c    what a crash left between intents and results
 *   record.c     audit records
 *   refusal.c    refusals, recorded and counted
 *   budget.c     what each rule lets a tenant do in a second
 *   bill.c       what a tenant's doing costs the disk
 *
 * Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stdint.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "broker/config/config.h"
#include "broker/policy/account.h"
#include "broker/write/ops.h"
#include "lease/lease.h"
#include "proto/wire/vmsig.pb-c.h"

#define DESK_DETAIL_MAX 383 /* bytes of a sentence, as ACCOUNT_TEXT_MAX */

struct desk;
struct shares;

/* What a connection's writes without an outcome, and releases without an answer, take. */
enum desk_slot { DESK_WRITES, DESK_BYTES, DESK_RELEASES };

/* One operator's connection; embedded in the plane's own. */
/* The write rule of an operator for an endpoint, as long as the policy stays what it was. */
struct desk_ruling {
	uint64_t policy; /* 0: none was looked up */
	uint32_t endpoint;
	const struct grant_tenant *tenant;
	bool sees;                     /* the endpoint exists for the tenant */
	const struct grant_rule *rule; /* NULL: there is none */
};

struct desk_operator {
	const struct grant_tenant *tenant; /* re-pointed by the plane when the policy changes */
	uint32_t uid, pid;
	char serial[IDENTITY_SERIAL_MAX + 1];
	void *client;                     /* the plane's */
	uint64_t session;                 /* the desk's from here on */
	struct account account;           /* enum desk_slot */
	struct docket *docket;            /* its tenant's */
	struct desk_ruling ruling;        /* what the policy said last */
	uint32_t releases;                /* that wait for their turn */
	char detail[DESK_DETAIL_MAX + 1]; /* why the last call failed; "": as the error says */
	struct command *own;
	UT_hash_handle hh;
};

/* What the plane is told. The views and results are borrowed for the call. */
struct desk_events {
	void (*granted)(void *client, const struct lease_view *lease);
	/* A request failed, or an unanswered one ended: lease->reason. */
	void (*refused)(void *client, const struct lease_view *lease);
	void (*notice)(void *client, const struct lease_view *lease);
	void (*ended)(void *client, const struct lease_view *lease);
	/* The release that was asked for with this request is done, or has failed. */
	void (*released)(void *client, uint64_t request_id, int error, const char *detail);
	void (*written)(void *client, uint64_t request_id, const Vmsig__WriteResult *result);
	/* Nothing of the command was applied, and its number is not used up. */
	void (*rejected)(void *client, uint64_t request_id, int error, const char *detail);
};

struct desk_env {
	struct desk_ops ops;         /* copied; what it points to outlives the desk */
	struct shares *shares;       /* of the loop's time */
	const struct config *config; /* until desk_reload() */
	const struct desk_events *events;
	unsigned lease_actions; /* of the lease engine in one round; 0: LESSOR_ACTIONS */
	/* Leases may come from another host and go there, with what was written under them. */
	bool roams;
};

/* Restores the leases that survived, and settles what a crash left. `error` gets a sentence. */
__attribute__((warn_unused_result)) int desk_new(struct desk **ret_desk, const struct desk_env *env,
	uint64_t now_ns, char *error, size_t error_size);
/* No more work is begun; what is under way ends. Calls `closed` from the loop, or at once. */
void desk_close(struct desk *desk, uint64_t now_ns, void (*closed)(void *arg), void *arg);
/* After `closed`. Accepts NULL, returns NULL. */
struct desk *desk_free(struct desk *desk);
/* Leases that the new policy does not allow any more are revoked. */
void desk_reload(struct desk *desk, uint64_t now_ns, const struct config *config);

/* Before the loop sleeps: one round. */
void desk_turn(struct desk *desk, uint64_t now_ns);
/* Once the answers have left, if the loop is about to sleep: records the results that were told,
 * which would otherwise share the batch of the next write, and which that one would wait for.
 * Whether there were any: what has waited for them is desk_turn()'s, now. */
__attribute__((warn_unused_result)) bool desk_rest(struct desk *desk, uint64_t now_ns);
/* Makes the result of every write that was answered durable now; what fails is logged. */
void desk_settle(struct desk *desk, uint64_t now_ns);
/* Ends the open batch, which between turns has records of refusals only: somebody else wants to
 * store something. Not from inside of a call of the desk. */
void desk_flush(struct desk *desk, uint64_t now_ns);
/* Nanoseconds until the next turn is needed; UINT64_MAX: none. */
uint64_t desk_delay(const struct desk *desk, uint64_t now_ns);
/* Forgets endpoints that are gone and that nobody needs; now and then. */
void desk_forget(struct desk *desk);

/* ---- late answers ---- */

/* All batches up to this ticket are durable (0), or (an error) it is not known that they are. */
void desk_committed(struct desk *desk, uint64_t now_ns, uint64_t ticket, int result);
/* To a grant that was not answered at once. */
void desk_lease_stored(struct desk *desk, uint64_t now_ns, uint64_t lease, uint64_t token);
void desk_lease_failed(struct desk *desk, uint64_t now_ns, uint64_t lease, enum vmsig_error error);
/* One that another host has granted came with its guest, and is durable here: it waits for its
 * holder. One that cannot be had here ends. -ENOMEM: neither, and it is to be tried again. */
__attribute__((warn_unused_result)) int desk_lease_adopt(
	struct desk *desk, uint64_t now_ns, const struct lease_view *lease);
/* Such a lease lasts no longer than the policy lets one last here: hold_max counts from its grant,
 * wherever that was. */
void desk_lease_limit(struct desk *desk, uint64_t now_ns, struct lease_view *lease);
/* It is not this broker's any more. */
void desk_lease_lost(struct desk *desk, uint64_t now_ns, uint64_t lease, enum vmsig_error error);

/* ---- endpoints ---- */

/* It is configured; its name and its labels, which are copied, are known from here on. -ENOMEM. */
__attribute__((warn_unused_result)) int desk_endpoint_add(
	struct desk *desk, uint32_t endpoint, const struct selector_subject *subject);
/* It is not configured any more: nothing of the caller's is used from here on. Its name is known
 * until no lease and no command needs it. */
void desk_endpoint_remove(struct desk *desk, uint32_t endpoint);
/* A context can be had: opens the write path, if there is one. `page` is there until
 * desk_endpoint_remove(). */
void desk_endpoint_ready(struct desk *desk, uint64_t now_ns, uint32_t endpoint, uint32_t epoch,
	vmsig_coherence *page);
/* The epoch is over: leases end, nothing is written any more. */
void desk_endpoint_over(struct desk *desk, uint64_t now_ns, uint32_t endpoint);
/* The guest is on its way to another host: nothing is written any more, and leases stay as they are
 * until one of the three others is called: none is renewed, given back or over. */
void desk_endpoint_leave(struct desk *desk, uint64_t now_ns, uint32_t endpoint);
/* It is there: leases end here, with VMSIG_ERR_MOVED. */
void desk_endpoint_moved(struct desk *desk, uint64_t now_ns, uint32_t endpoint, const char *host);
/* That it has moved to; "": none. Borrowed. */
const char *desk_endpoint_host(struct desk *desk, uint32_t endpoint);

/* ---- operators ---- */

/* VMSIG_ERR_SHUTTING_DOWN, -ENOMEM. */
__attribute__((warn_unused_result)) int desk_operator_open(
	struct desk *desk, struct desk_operator *op);
void desk_operator_close(struct desk *desk, uint64_t now_ns, struct desk_operator *op);

/* The answer comes as granted() or refused(); *ret_lease is the id meanwhile, and *ret_waits
 * says that somebody is in the way. Like the three below it has op->detail say why it failed. */
__attribute__((warn_unused_result)) int desk_acquire(struct desk *desk, uint64_t now_ns,
	struct desk_operator *op, const Vmsig__LeaseAcquire *request, uint64_t *ret_lease,
	bool *ret_waits);
__attribute__((warn_unused_result)) int desk_renew(struct desk *desk, uint64_t now_ns,
	struct desk_operator *op, uint64_t lease, uint64_t token, uint32_t *ret_remaining_ms);
/* *ret_later: released() comes. It takes its turn behind commands of the lease that were sent
 * before it, and is done when the end is recorded. Only who withdraws a request that waits, or is
 * no holder, has the answer at once. */
__attribute__((warn_unused_result)) int desk_release(struct desk *desk, uint64_t now_ns,
	struct desk_operator *op, uint64_t request_id, uint64_t lease, uint64_t token,
	bool *ret_later);
__attribute__((warn_unused_result)) int desk_resume(struct desk *desk, uint64_t now_ns,
	struct desk_operator *op, uint64_t lease, uint64_t token);

/* Takes the request, which unpack_message() has made and whose body is CmdMemwrite, and the
 * descriptor of its bulk data (-1: none) in any case. The answer comes as written() or rejected().
 */
void desk_write(struct desk *desk, uint64_t now_ns, struct desk_operator *op,
	Vmsig__WriteRequest *request, int bulk_fd);

/* ---- administrators ---- */

struct desk_admin {
	const struct tenant *tenant;
	const char *serial;
	uint32_t uid, pid;
};

/* Who waits for the end of a lease to be recorded; embedded in what that is, and zeroed. */
struct desk_wait {
	/* Comes once, unless it was cancelled. VMSIG_ERR_IO: the lease is over, but that cannot be
	 * recorded. It may free what the wait is in. */
	void (*done)(struct desk_wait *wait, int error, const char *detail);
	/* The desk's: */
	int error;
	struct ending *ending;
	struct desk_wait *prev, *next;
};

/* *ret_later: the wait is answered when the end is recorded. NO_LEASE: there is none that the
 * administrator may see. */
__attribute__((warn_unused_result)) int desk_revoke(struct desk *desk, uint64_t now_ns,
	const struct desk_admin *admin, uint64_t lease, struct desk_wait *wait, bool *ret_later);
/* It is not answered any more; also when it was. */
void desk_wait_cancel(struct desk_wait *wait);

/* What an administrator did beside leases. Texts are borrowed for the call. */
struct desk_deed {
	Vmsig__AuditRecord__Kind kind;
	const char *endpoint; /* "": it is about none */
	uint32_t epoch;
	int outcome;
	const char *detail; /* what is in a terminal's way is in the log as it is */
};

/* Records it with the turn's batch. It was done, and is not undone when that fails: the broker's
 * log has it as well. */
void desk_note_deed(struct desk *desk, uint64_t now_ns, const struct desk_admin *admin,
	const struct desk_deed *deed);

/* ---- looking ---- */

/* Leases in id order; `*cursor` starts at 0. */
bool desk_lease_next(struct desk *desk, uint64_t *cursor, struct lease_view *ret_view);
bool desk_lease_find(struct desk *desk, uint64_t lease, struct lease_view *ret_view);
/* What commands did to an endpoint since the broker's start. */
struct desk_endpoint_stats {
	uint64_t writes, bytes; /* that changed something */
	uint64_t refused;
};
/* Zeroes for one that is not known. */
void desk_endpoint_stats(
	struct desk *desk, uint32_t endpoint, struct desk_endpoint_stats *ret_stats);
/* What it counts. */
struct metrics;
void desk_stats(struct desk *desk, struct metrics *metrics);
/* NULL when it is not known any more; borrowed. */
const char *desk_endpoint_name(struct desk *desk, uint32_t endpoint);
/* The same with its labels. */
const struct selector_subject *desk_endpoint_subject(struct desk *desk, uint32_t endpoint);

#endif
