/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEASE_LEASE_H
#define LEASE_LEASE_H

/*
 * The lease engine: who may write where, until when. Pure and deterministic: no I/O, no
 * clock, no loop. Events come in with their time; the shell then takes actions out with
 * lease_next_action() until there are none and performs them in order.
 *
 * A lease lives WAITING -> STORING -> ACTIVE -> DRAINING -> gone. STORING waits for the
 * store, which is where the fencing token comes from: a grant is asynchronous, so that a
 * store shared by several hosts fits behind it. Ranges are held from STORING on; an ended
 * lease holds them until the write that is being applied has its outcome.
 *
 * Order: revoke first, notify second. The action that ends a lease comes before the ones
 * that grant what it held.
 *
 * Times are nanoseconds of CLOCK_BOOTTIME (or the simulator's), read for this very event;
 * a wake-up is a hint and decides nothing. What was due before an event by which somebody leaves
 * happens before it: a lease that was told to be revoked or expired never comes back.
 *
 * Returns: 0, a positive enum vmsig_error, or -ENOMEM; nothing has changed on failure.
 *
 * What a tenant has of what its terms bound the engine counts itself, and not with the accounts of
 * broker/policy: a number of leases is part of the decision (it is looked at again when a waiter's
 * turn comes), and lease/ knows nothing of the broker, whose simulator, model and other tenants of
 * this decision go without it. It keeps their rules all the same: a lease is counted in one place
 * and given back in one (lease_finish()), the engine's end asserts that nothing is left, and
 * lease_shortage() says what was used up, which the caller makes a refusal with a name of.
 *
 *   lease      the calls, and what they are about:
 *   engine     all leases
 *   acquire    requests
 *   end        ends
 *   settle     who is next
 *   life       a lease and its actions
 *   queue      who waits for whom
 *   idtree     leases in the order of their ids
 *   rangeset   which bytes are held
 *   timerheap  moments
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lease/rangeset.h"
#include "vmsig/vmsig_error.h"

#define LEASE_NAME_MAX 63    /* bytes of a tenant's name, as in proto/wire/identity.h */
#define LEASE_RANGES_MAX 256 /* hard bound of ranges in one lease */
#define LEASE_NO_SESSION 0u  /* the holder is not connected */

struct lease_engine;

struct lease_limits {
	uint32_t leases;           /* all leases and waiters of the broker */
	uint32_t waiters;          /* per endpoint */
	uint32_t ranges;           /* per lease, <= LEASE_RANGES_MAX */
	uint64_t preempt_grace_ns; /* between the notice and the revocation */
	uint64_t resume_grace_ns;  /* how long a lease waits for a lost holder */
};

/* What the policy grants this holder on this endpoint; part of each request. */
struct lease_terms {
	uint64_t ttl_min_ns, ttl_max_ns;
	uint64_t hold_max_ns; /* from grant to end, whatever is renewed */
	uint64_t wait_max_ns;
	uint32_t priority_max;
	uint32_t leases; /* held by the tenant at once */
	uint32_t waits;  /* of the tenant, queued at once */
};

struct lease_request {
	uint32_t endpoint;
	const char *tenant; /* who a lease belongs to; also the key of its quota */
	uint32_t uid;
	uint64_t session;                 /* not LEASE_NO_SESSION */
	const struct lease_range *ranges; /* none: the whole endpoint. Must not overlap */
	size_t nranges;
	uint64_t ttl_ns;   /* 0: terms->ttl_max_ns; else clamped into the bounds */
	uint64_t wait_ns;  /* clamped; ignored with no_wait */
	uint32_t priority; /* higher preempts lower */
	bool no_wait;
	void *user; /* comes back in actions */
};

enum lease_state { LEASE_WAITING, LEASE_STORING, LEASE_ACTIVE, LEASE_DRAINING };

/* Read-only view of a lease; borrowed until the engine is called again. */
struct lease_view {
	uint64_t id, token;
	uint32_t endpoint, epoch, uid, priority;
	enum lease_state state;
	enum vmsig_error reason; /* DRAINING, and of the final actions */
	const char *tenant;
	uint64_t session;
	const struct lease_range *ranges;
	size_t nranges;
	uint64_t ttl_ns;
	uint64_t hold_max_ns; /* a span, of the terms; 0 of a restored lease */
	uint64_t granted_ns, deadline_ns, hold_until_ns; /* moments; 0 until it is ACTIVE */
	uint64_t revoke_at_ns;  /* of a preemption under way; UINT64_MAX otherwise */
	uint64_t wait_until_ns; /* WAITING: then its request fails */
	bool told;              /* somebody knows of the grant */
	void *user;
};

/* `next_id` is above every id that the store has ever seen. */
__attribute__((warn_unused_result)) int lease_engine_new(
	struct lease_engine **ret_engine, const struct lease_limits *limits, uint64_t next_id);
/* What is granted from now on is numbered from here, but for numbers that are in use. */
void lease_number_from(struct lease_engine *engine, uint64_t next_id);
/* Other limits from now on: what is beyond them stays, and nothing more comes. Graces that have
 * begun end when they would have. */
void lease_set_limits(struct lease_engine *engine, const struct lease_limits *limits);
/* Forgets everything without actions. Accepts NULL, returns NULL. */
struct lease_engine *lease_engine_free(struct lease_engine *engine);

/* ---- the endpoints ---- */

/* The endpoint is writable in `epoch` from now on. Leases of other epochs end with
 * STALE_EPOCH. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int lease_endpoint_ready(
	struct lease_engine *engine, uint64_t now_ns, uint32_t endpoint, uint32_t epoch);
/* Nothing may be leased for the moment. Every lease and waiter ends with `reason`:
 * STALE_EPOCH, NO_WRITE_PATH, GONE... */
void lease_endpoint_down(
	struct lease_engine *engine, uint64_t now_ns, uint32_t endpoint, enum vmsig_error reason);
/* The guest is on its way to another host, and so are its leases: none that is granted ends here,
 * whatever time it is, until one of the two above is called, because nobody may be told of an end
 * of what goes on elsewhere. What its holder asks for then, and cannot have, is BUSY. */
void lease_endpoint_away(struct lease_engine *engine, uint32_t endpoint);

/* ---- the holders ---- */

/* Queues or starts a grant; the answer comes as an action. BAD_REQUEST (ranges), FORBIDDEN
 * (priority), NOT_READY (endpoint), LEASE_HELD (conflict with no_wait), QUOTA. A request that
 * waited is refused with QUOTA when its turn comes and the tenant holds its number by then. */
__attribute__((warn_unused_result)) int lease_acquire(struct lease_engine *engine, uint64_t now_ns,
	const struct lease_request *request, const struct lease_terms *terms, uint64_t *ret_id);

/* What lease_acquire() found used up. */
enum lease_slot {
	LEASE_SLOT_ALL,    /* leases and waiters there are: limits.leases */
	LEASE_SLOT_QUEUE,  /* waiters of the endpoint: limits.waiters */
	LEASE_SLOT_LEASES, /* leases of the tenant: terms.leases */
	LEASE_SLOT_WAITS,  /* waiters of the tenant: terms.waits */
};

struct lease_shortage {
	enum lease_slot slot;
	uint64_t used, limit;
};

/* Why the last lease_acquire() that gave QUOTA did. */
struct lease_shortage lease_shortage(const struct lease_engine *engine);

/* Moves the deadline to now + ttl, never beyond the hold time. Answers for a lease that is
 * past its deadline or ended with the reason; ids that another tenant holds do not exist. */
__attribute__((warn_unused_result)) int lease_renew(struct lease_engine *engine, uint64_t now_ns,
	const char *tenant, uint64_t id, uint64_t token, uint64_t *ret_deadline_ns);
/* Also withdraws a waiting request (token is ignored then). */
__attribute__((warn_unused_result)) int lease_release(struct lease_engine *engine, uint64_t now_ns,
	const char *tenant, uint64_t id, uint64_t token);
/* A new connection of the same tenant and uid takes the lease over. */
__attribute__((warn_unused_result)) int lease_resume(struct lease_engine *engine, uint64_t now_ns,
	const char *tenant, uint32_t uid, uint64_t id, uint64_t token, uint64_t session,
	void *user);
/* The administrator, a store that says "not mine any more", a policy that changed. BUSY: the guest
 * is away, unless the reason is IO: what is not durable has gone nowhere. */
__attribute__((warn_unused_result)) int lease_revoke(
	struct lease_engine *engine, uint64_t now_ns, uint64_t id, enum vmsig_error reason);
/* The session's waiters are dropped; its leases wait for it for the grace. */
void lease_disconnect(struct lease_engine *engine, uint64_t now_ns, uint64_t session);

/* ---- the store ---- */

/* A lease that survived a restart, with its stored deadline: it waits for its holder until
 * then. `view` needs id, token, endpoint, epoch, uid, priority, tenant, ranges, ttl_ns,
 * granted_ns, deadline_ns, hold_until_ns. BAD_REQUEST: it conflicts or is malformed. */
__attribute__((warn_unused_result)) int lease_restore(
	struct lease_engine *engine, uint64_t now_ns, const struct lease_view *view);
/* Likewise one that another host has granted, which numbers leases in a way of its own: what is
 * granted here later has no higher number for that. */
__attribute__((warn_unused_result)) int lease_adopt(
	struct lease_engine *engine, uint64_t now_ns, const struct lease_view *view);
/* The store has made the grant durable under `token`. */
void lease_stored(struct lease_engine *engine, uint64_t now_ns, uint64_t id, uint64_t token);
/* Its holder was told of the grant. One that was restored counts as told. */
void lease_told(struct lease_engine *engine, uint64_t id);
void lease_store_failed(
	struct lease_engine *engine, uint64_t now_ns, uint64_t id, enum vmsig_error reason);

/* ---- the writer ---- */

/* Whether [range] may be written right now under (id, token, epoch): the whole fencing
 * decision. NO_LEASE (unknown, another tenant's, wrong token), STALE_EPOCH, LEASE_EXPIRED,
 * LEASE_REVOKED, OUT_OF_RANGE. Changes nothing. */
__attribute__((warn_unused_result)) int lease_admit(const struct lease_engine *engine,
	uint64_t now_ns, const char *tenant, uint64_t id, uint64_t token, uint32_t epoch,
	const struct lease_range *range);
/* Brackets a write that takes more than one call: the lease's end is acknowledged, and its
 * ranges given away, only after write_end(). write_begin() needs an ACTIVE lease: NO_LEASE. */
__attribute__((warn_unused_result)) int lease_write_begin(struct lease_engine *engine, uint64_t id);
void lease_write_end(struct lease_engine *engine, uint64_t now_ns, uint64_t id);

/* It will not come back soon: what is kept for it is freed, unless a lease is left. */
void lease_endpoint_forget(struct lease_engine *engine, uint32_t endpoint_id);

/* ---- looking ---- */

bool lease_find(const struct lease_engine *engine, uint64_t id, struct lease_view *ret_view);
/* Whether it is granted, and its LEASE_ACT_GRANTED has still to be taken. */
bool lease_is_untold(const struct lease_engine *engine, uint64_t id);
/* Whether it is over, and its end has still to be taken as LEASE_ACT_STORE_END. */
bool lease_is_ending(const struct lease_engine *engine, uint64_t id, struct lease_view *ret_view);
/* Leases in id order; `*cursor` starts at 0. */
bool lease_next(const struct lease_engine *engine, uint64_t *cursor, struct lease_view *ret_view);

/* ---- time and actions ---- */

void lease_advance(struct lease_engine *engine, uint64_t now_ns);
/* When lease_advance() has something to do; 0 while there are actions; UINT64_MAX: never. */
uint64_t lease_deadline(const struct lease_engine *engine);
/* Whether lease_next_action() has one. The deadline is 0 as well while a long queue is looked
 * through, which goes on with lease_advance() only. */
bool lease_has_actions(const struct lease_engine *engine);

enum lease_action_kind {
	LEASE_ACT_STORE_GRANT = 1, /* make it durable, answer lease_stored()/_store_failed() */
	LEASE_ACT_GRANTED,         /* tell the session */
	LEASE_ACT_STORE_RENEW,     /* make the new deadline durable */
	LEASE_ACT_NOTICE,          /* tell the session it will be revoked at revoke_at_ns */
	LEASE_ACT_STORE_END,       /* forget it durably */
	LEASE_ACT_ENDED,           /* tell the session, if any: reason OK is a release */
	LEASE_ACT_REFUSED,         /* a waiter's request has failed with `reason` */
};

struct lease_action {
	enum lease_action_kind kind;
	struct lease_view lease;
};

/* Takes the next one. */
bool lease_next_action(struct lease_engine *engine, struct lease_action *ret_action);
/* Looks at it, and leaves it: whoever cannot perform it now takes none. */
bool lease_first_action(struct lease_engine *engine, struct lease_action *ret_action);

#endif
