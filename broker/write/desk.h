/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_DESK_H
#define BROKER_WRITE_DESK_H

/*
 * The write plane behind its messages: operators hold leases of the engine (lease/), and their
 * commands become intents in the store, bytes in the guest, results in the store, and
 * answers, in this order. Everything happens in desk_turn(), once before each sleep of the
 * loop: one transaction for all intents of the turn and one for all its results.
 *
 *   desk.c      life, the turn, its transactions
 *   request.c   requests for leases, and the policy for them
 *   lessor.c    the engine's actions
 *   site.c      an endpoint's writable RAM
 *   submit.c    a CMD_MEMWRITE comes in
 *   command.c   its life: intent and bytes
 *   result.c    its answer, and the record of it
 *   lane.c      the order of one lease's commands
 *   replay.c    at most once: what became of an earlier transmission
 *   recover.c   what a crash left between intents and results
 *   bulk.c      data in a memfd, slice by slice
 *   record.c    audit records
 *   budget.c    tenants' rates
 *   durable.c   what waits for the disk
 *   account.c   what tenants have stored
 *   refusal.c   refusals, recorded and counted
 *
 * Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stdint.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <uv.h>

#include "broker/config/config.h"
#include "broker/read/core.h"
#include "broker/store/audit.h"
#include "broker/store/store.h"
#include "lease/lease.h"
#include "proto/wire/vmsig.pb-c.h"

struct desk;
struct jobs;
struct shares;
struct syncer;

/* One operator's connection; embedded in the plane's own. */
struct desk_operator {
	const struct config_tenant *tenant; /* re-pointed by the plane when the policy changes */
	uint32_t uid, pid;
	char serial[IDENTITY_SERIAL_MAX + 1];
	void *client;      /* the plane's */
	uint64_t session;  /* the desk's from here on */
	uint32_t commands; /* without an outcome */
	uint64_t queued;   /* their bytes */
	uint32_t releases; /* that wait for their turn */
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
	/* The release that was asked for with this request is done. */
	void (*released)(void *client, uint64_t request_id);
	void (*written)(void *client, uint64_t request_id, const Vmsig__WriteResult *result);
	/* Nothing of the command was applied, and its number is not used up. */
	void (*rejected)(void *client, uint64_t request_id, int error, const char *detail);
};

struct closer;

struct desk_env {
	uv_loop_t *loop;
	struct shares *shares; /* of the loop's time */
	struct jobs *jobs;     /* for what takes long; closed after the desk */
	struct closer *closer; /* of bulk data's memfds */
	struct core *core;
	struct store *store;
	struct syncer *syncer;       /* NULL: nothing waits for the disk */
	const struct config *config; /* until desk_reload() */
	const struct desk_events *events;
};

/* Restores the leases that survived. `error` gets a sentence. */
__attribute__((warn_unused_result)) int desk_new(
	struct desk **ret_desk, const struct desk_env *env, char *error, size_t error_size);
/* No more work is begun; what is under way ends. Calls `closed` from the loop, or at once. */
void desk_close(struct desk *desk, void (*closed)(void *arg), void *arg);
/* After `closed`. Accepts NULL, returns NULL. */
struct desk *desk_free(struct desk *desk);
/* Leases that the new policy does not allow any more are revoked. */
void desk_reload(struct desk *desk, const struct config *config);

/* CLOCK_BOOTTIME in nanoseconds, the clock of all deadlines here. */
uint64_t desk_now(void);
/* Before the loop sleeps. */
void desk_turn(struct desk *desk);
/* Makes the result of every write that was answered durable now; what fails is logged. */
void desk_settle(struct desk *desk);
/* Nanoseconds until the next turn is needed; UINT64_MAX: none. */
uint64_t desk_delay(const struct desk *desk);
/* Now and then: retention of the audit log and the ledger; endpoints that are gone. */
void desk_prune(struct desk *desk);

/* ---- endpoints ---- */

/* It is configured; its name is known from here on. -ENOMEM. */
__attribute__((warn_unused_result)) int desk_endpoint_add(
	struct desk *desk, uint32_t endpoint, const char *name);
/* It is not configured any more: nothing of the caller's is used from here on. Its name is known
 * until no lease and no command needs it. */
void desk_endpoint_remove(struct desk *desk, uint32_t endpoint);
/* A context can be had: opens the write path, if there is one. `page` is there until
 * desk_endpoint_remove(). */
void desk_endpoint_ready(
	struct desk *desk, uint32_t endpoint, uint32_t epoch, vmsig_coherence *page);
/* The epoch is over: leases end, nothing is written any more. */
void desk_endpoint_over(struct desk *desk, uint32_t endpoint);

/* ---- operators ---- */

/* VMSIG_ERR_SHUTTING_DOWN, -ENOMEM. */
__attribute__((warn_unused_result)) int desk_operator_open(
	struct desk *desk, struct desk_operator *op);
void desk_operator_close(struct desk *desk, struct desk_operator *op);

/* The answer comes as granted() or refused(); *ret_lease is the id meanwhile, and *ret_waits
 * says that somebody is in the way. `detail` gets a sentence on failure. */
__attribute__((warn_unused_result)) int desk_acquire(struct desk *desk, struct desk_operator *op,
	const Vmsig__LeaseAcquire *request, uint64_t *ret_lease, bool *ret_waits, char *detail,
	size_t detail_size);
__attribute__((warn_unused_result)) int desk_renew(struct desk *desk, struct desk_operator *op,
	uint64_t lease, uint64_t token, uint32_t *ret_remaining_ms);
/* *ret_later: it takes its turn behind commands of the lease that were sent before it, and
 * released() comes then. */
__attribute__((warn_unused_result)) int desk_release(struct desk *desk, struct desk_operator *op,
	uint64_t request_id, uint64_t lease, uint64_t token, bool *ret_later);
__attribute__((warn_unused_result)) int desk_resume(
	struct desk *desk, struct desk_operator *op, uint64_t lease, uint64_t token);

/* Takes the request, whose body is CmdMemwrite, and the descriptor of its bulk data (-1:
 * none) in any case. The answer comes as written() or rejected(). */
void desk_write(
	struct desk *desk, struct desk_operator *op, Vmsig__WriteRequest *request, int bulk_fd);

/* ---- administrators ---- */

struct desk_admin {
	const char *tenant, *serial;
	uint32_t uid, pid;
};
/* NO_LEASE. */
__attribute__((warn_unused_result)) int desk_revoke(
	struct desk *desk, const struct desk_admin *admin, uint64_t lease);
struct audit *desk_audit(struct desk *desk);

/* ---- looking ---- */

/* Leases in id order; `*cursor` starts at 0. */
bool desk_lease_next(struct desk *desk, uint64_t *cursor, struct lease_view *ret_view);
bool desk_lease_find(struct desk *desk, uint64_t lease, struct lease_view *ret_view);
/* NULL when it is not known any more; borrowed. */
const char *desk_endpoint_name(struct desk *desk, uint32_t endpoint);

#endif
