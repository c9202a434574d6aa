/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_CALLER_H
#define BROKER_NET_CALLER_H

/*
 * What one uid may do before it has proven to be a tenant: connections, connects a second,
 * handshakes at once, and records in the log. A uid that the policy names has as many
 * connections as its tenants together, any other a few, and all others together not many
 * more: they will be refused anyway.
 *
 * It outlives its connections until its rates have recovered, so that coming back
 * gains nothing.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "broker/config/config.h"
#include "broker/net/plane.h"
#include "broker/policy/account.h"
#include "broker/policy/rate.h"

struct visitor;

/* A uid of the policy, and what its tenants may have open together. */
struct named_uid {
	uint32_t uid;
	uint32_t connections;
	UT_hash_handle hh;
};

/* What a uid has. */
enum caller_slot {
	CALLER_CONNECTIONS, /* open, or in the lobby */
	CALLER_VISITORS,    /* those in the lobby */
	CALLER_HANDSHAKES,  /* in progress; one slot for each door */
	CALLER_SLOTS = CALLER_HANDSHAKES + NET_DOORS
};

struct caller {
	uid_t uid;
	char name[16];          /* the uid, of the account */
	struct account account; /* by enum caller_slot */
	struct rate connects, records;
	uint32_t left_out;                      /* records, since the last summary */
	struct visitor *visitors[NET_DOORS];    /* in the lobby, in order */
	struct caller *lobby_prev, *lobby_next; /* callers->waiting, while there are visitors */
	UT_hash_handle hh;
};

struct callers {
	struct caller *table;     /* by uid */
	struct caller *waiting;   /* those with visitors, whose turn is next first */
	struct named_uid *named;  /* by uid */
	struct rate strangers;    /* connects of all uids that the policy does not name */
	struct rate stranger_log; /* their records */
	uint32_t left_out;        /* records of uids that are not in the table */
	uint64_t summary_ns;      /* when it was last told what was left out */
};

/* -ENOMEM. */
__attribute__((warn_unused_result)) int callers_init(
	struct callers *callers, const struct config *config, uint64_t now_ns);

/* A new policy. -ENOMEM: the old one stays. */
__attribute__((warn_unused_result)) int callers_set_policy(
	struct callers *callers, const struct config *config);
/* Tells what was left out of the log, forgets who owes nothing. Whether it has to be called
 * again. */
bool callers_tick(struct callers *callers, const struct config *config, uint64_t now_ns);
/* No connection is left. */
void callers_deinit(struct callers *callers);

/* Charges the actor's uid for a connection. VMSIG_ERR_QUOTA: *ret_refusal says so. -ENOMEM.
 * *ret_caller is there as long as the charge is, and is set with VMSIG_ERR_QUOTA too (NULL: the
 * uid is none that is known). */
__attribute__((warn_unused_result)) int caller_enter(struct callers *callers,
	const struct config *config, const struct account_actor *actor, uint64_t now_ns,
	struct charge *charge, struct caller **ret_caller, struct account_refusal *ret_refusal);

/* Whether a uid of the policy may have one more handshake in this second; a stranger has paid
 * when it connected. */
bool caller_can_shake(struct callers *callers, const struct config *config, struct caller *caller,
	uint64_t now_ns);
/* It has one, at the same moment. */
void caller_shake(struct callers *callers, struct caller *caller);

bool caller_is_named(const struct callers *callers, uid_t uid);
/* Whether a record that the uid can provoke may be written now; else it is counted. NULL: of a
 * uid that is none. */
bool caller_may_log(struct callers *callers, struct caller *caller, uint64_t now_ns);

#endif
