/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_FLEET_H
#define BROKER_FLEET_FLEET_H

/*
 * Which host may write to a guest: the decision of one host's broker, beside others of its kind and
 * a store that they share (etcd's model, txn.h). Pure and deterministic: no I/O, no clock, no loop.
 * Events come in with their time, actions go out with fleet_next_action(), as of the lease engine.
 *
 * What is in the store, below /vmsig/FLEET/ (deed.h has the values):
 *
 *   generation         which cluster the fleet trusts, and above what epochs and tokens begin; a
 *                      restored store shows by it
 *   vm/UUID/mark       the guest's *deed*: who has it, whether it was given up or is offered, the
 *                      highest epoch and token. It outlives holders
 *   vm/UUID/owner      its holder, on the lease of the holder's host: as long as it is there nobody
 *                      else takes the guest
 *   vm/UUID/lease/TOKEN  leases (MEMWRITE) that were granted and have not ended
 *   vm/UUID/baggage    what a migration takes along: leases and what is left of the ledger, which
 *                      mean nothing here
 *
 * Why no two hosts write to one guest:
 *
 * - Each change of a deed compares it with the one that was read, and no two are alike, so deeds
 * are changed by one host after the other, and what was delayed or came twice does nothing.
 * - A holder may apply until t(it sent the last renewal that succeeded) + TTL x (1 - rho) - margin
 *   on its own CLOCK_BOOTTIME: in real time no longer than TTL. A renewal proves that the owner key
 *   is still its own. Who claims a guest that was not given up waits for TTL x (1 + rho) + margin,
 *   TTL being the previous holder's, from when it knew that its claim had succeeded: in real time
 * no shorter than TTL. So the store may drop a key whenever it likes; keys and their TTL only say
 *   who is alive. rho bounds how wrong rates of clocks are, the margin how long a store to guest
 *   memory takes after the clock was read for it.
 * - A guest that was given up (its deed says so) or is offered needs no waiting: its holder stopped
 *   applying before it said so, and begins again only with a change of the deed that nobody came
 *   before. Both may be untrue in a store that was turned back, so neither counts before this host
 *   has been in contact with the store for as long without a gap (a store is turned back while it
 *   does not answer).
 *
 * A store that is not what it was (another cluster, a revision or generation that has gone back)
 * freezes the host: it asks for nothing and grants nothing until an operator's bump, which writes
 * the next generation. What it may still do ends with the last renewal's time. A store that was
 * restored under its old cluster id, while this host was away until the revision had caught up,
 * cannot be told from one that was not: it has to be restored as another cluster.
 *
 * Epochs are reserved in the deed FLEET_EPOCHS at a time, and the next holder begins above what was
 * reserved; only a migration goes on in its epoch. Tokens are written before they are told.
 *
 * Returns: 0, a positive enum vmsig_error, or -ENOMEM.
 *
 *   fleet     the host's part: requests, the lease of the host, actions
 *   quorum    what is known of the store: cluster, revision, generation, contact
 *   tenure    one guest's: states, and what to do next
 *   bid       the transactions
 *   registry  leases to be recorded
 *   guests    what the host says of its guests
 *   outbox    requests, keys, notes
 *   atlas     the guests of all hosts, for who wants to see them
 *   deed      what the values in the store say
 *   state     its inside
 *   txn       what is asked of the store, as data
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/fleet/txn.h"
#include "vmsig/vmsig_error.h"

#define FLEET_NAME_MAX 63u                      /* bytes of a fleet's, a host's and a boot's name */
#define FLEET_UUID_MAX 36u                      /* bytes of a guest's identity */
#define FLEET_EPOCHS 4096u                      /* that are reserved at a time */
#define FLEET_BUMP_EPOCHS (256u * FLEET_EPOCHS) /* as 256 hosts in a row reserve */
#define FLEET_BUMP_TOKENS (1ull << 32)          /* as wall clocks of hosts may differ: 71 minutes */
#define FLEET_BUMPS_MISSED 8u                   /* that a bump leaves room for as well */
#define FLEET_BAGGAGE_MAX (384u << 10)          /* bytes */

struct fleet;
struct tenure;

/* What has to be known again after a restart; to be made durable by FLEET_ACT_REMEMBER. */
struct fleet_memory {
	uint64_t cluster_id; /* 0: none was met */
	int64_t revision;
	uint64_t generation;
	/* Of all generations so far. Who bumps the fleet after a restart has to go above them. */
	uint32_t epoch_floor;
	uint64_t token_floor;
	/* The last contact, on the clock of this boot. */
	uint64_t contact_ns;
	char boot[FLEET_NAME_MAX + 1];
};

/* Names are of [A-Za-z0-9._-], and copied. */
struct fleet_options {
	const char *fleet;
	const char *host;    /* no two hosts have one name */
	const char *boot;    /* the kernel's boot id */
	uint64_t nonce;      /* random: this process, and no other ever */
	uint32_t ttl_s;      /* how long the host may be silent: at least 2 */
	uint32_t rho_ppm;    /* clocks' rates are within 1 - rho and 1 + rho: at most 100000 */
	uint64_t margin_ns;  /* above what lies between reading the clock and the last byte */
	uint64_t timeout_ms; /* of each request */
	struct fleet_memory memory; /* zeroed: there is none */
};

/* VMSIG_ERR_BAD_REQUEST: the options make no sense (names, or nothing would be left of the TTL). */
__attribute__((warn_unused_result)) int fleet_new(
	struct fleet **ret_fleet, uint64_t now_ns, const struct fleet_options *options);
/* Forgets everything without actions: the owner keys go with the host's lease. Accepts NULL,
 * returns NULL. */
struct fleet *fleet_free(struct fleet *fleet);

/* ---- the guests ---- */

/* The guest of this identity is known from here on; `epoch` is the highest that this host remembers
 * of it, 0: none. `user` comes back in actions. VMSIG_ERR_BAD_REQUEST: no identity, or there is
 * another one of it. */
__attribute__((warn_unused_result)) int fleet_guest_add(struct fleet *fleet, const char *uuid,
	uint32_t epoch, void *user, struct tenure **ret_tenure);
/* What the host calls it, for those who look from other hosts; before it runs. A line of text. */
void tenure_name(struct tenure *tenure, const char *name);
/* It is not served any more: is given up as by tenure_gone(), and nothing more is heard of it. The
 * tenure is not the caller's any more. */
void fleet_guest_remove(struct tenure *tenure, uint64_t now_ns);

/* It runs here: this host shall have it. After tenure_incoming() an offer to this host is taken. */
void tenure_runs(struct tenure *tenure, uint64_t now_ns);
/* A migration brings it here, or has brought it, as its QEMU knows: said before tenure_runs(), also
 * by a broker that starts again. */
void tenure_incoming(struct tenure *tenure, uint64_t now_ns);
/* It does not run here any more: nothing is applied, and it is given up. */
void tenure_gone(struct tenure *tenure, uint64_t now_ns);
/* It runs on, and the broker ends: nothing is applied, and it is given up, so that nobody waits for
 * this host, but for what holders of leases count on. A later process of this boot takes it as
 * tenure_runs() takes what an earlier one had, in its epoch and with its leases, unless another
 * host has had it meanwhile. */
void tenure_pauses(struct tenure *tenure, uint64_t now_ns);

/* A migration away from here has begun: nothing is applied from here on. */
void tenure_leaves(struct tenure *tenure, uint64_t now_ns);
/* Nothing is under way any more: the guest is offered to the target host (NULL: to whichever a
 * migration brings it to), with the baggage, which is copied. Again: the baggage is another one
 * now. What came with the guest and is not settled goes on instead. VMSIG_ERR_BAD_REQUEST: it does
 * not leave, the target is no name, or the baggage is too large. */
__attribute__((warn_unused_result)) int tenure_offer(struct tenure *tenure, uint64_t now_ns,
	const char *target, const void *baggage, size_t len);
/* The migration has failed, or was cancelled: what was offered is taken back, if the target has not
 * taken it. */
void tenure_stays(struct tenure *tenure, uint64_t now_ns);
/* What FLEET_ACT_OWNED brought along, as long as it has to be settled; borrowed until the fleet is
 * called again. False: there is nothing. */
__attribute__((warn_unused_result)) bool tenure_baggage(
	const struct tenure *tenure, const uint8_t **ret_data, size_t *ret_len);
/* What FLEET_ACT_OWNED brought along is durable here. FLEET_ACT_SETTLED: and nowhere else any more,
 * so that who gets it again has not done anything yet. */
void tenure_settled(struct tenure *tenure, uint64_t now_ns);

/* Which kernel runs in the guest, as far as can be told, or "" while it cannot: of [A-Za-z0-9._-].
 * What was offered, and what an earlier process had, is taken when it is known, and goes on if it
 * is the same. VMSIG_ERR_BAD_REQUEST. */
__attribute__((warn_unused_result)) int tenure_session(
	struct tenure *tenure, uint64_t now_ns, const char *session);
/* The guest's epoch is this one from here on. */
void tenure_epoch(struct tenure *tenure, uint64_t now_ns, uint32_t epoch);

/* Whether bytes of the guest may be changed at `now_ns`, read for this very question. Answered from
 * memory. */
__attribute__((warn_unused_result)) bool tenure_may_apply(
	const struct tenure *tenure, uint64_t now_ns);
/* Whether the time of a lease may begin anew at `now_ns`. Who takes the guest over waits for the
 * longest TTL from when nobody may apply any more, so none may begin after that; also while a
 * migration is under way, until the guest is offered. */
__attribute__((warn_unused_result)) bool tenure_may_prolong(
	const struct tenure *tenure, uint64_t now_ns);
/* From when to when bytes may be changed, if nothing comes in between; false: it is not so. */
bool tenure_right(const struct tenure *tenure, uint64_t *ret_from_ns, uint64_t *ret_until_ns);

/* ---- leases ---- */

struct tenure_lease {
	uint64_t id;        /* comes back in FLEET_ACT_GRANTED */
	uint64_t token;     /* at least this one */
	uint64_t ttl_ns;    /* the longest that its holder may count on after a renewal */
	const void *record; /* what is stored of it; copied */
	size_t record_len;
};

/* Records a lease; FLEET_ACT_GRANTED has its token, or FLEET_ACT_NOT_GRANTED comes.
 * VMSIG_ERR_NOT_READY: nothing may be granted now; VMSIG_ERR_BAD_REQUEST: the record is too large.
 */
__attribute__((warn_unused_result)) int tenure_grant(
	struct tenure *tenure, uint64_t now_ns, const struct tenure_lease *lease);
/* It has ended, or is not wanted any more. Renewals need no record: who takes over waits for the
 * TTL of whatever was granted. Without memory the record stays until the guest changes hosts. */
void tenure_end(struct tenure *tenure, uint64_t now_ns, uint64_t id, uint64_t token);

/* ---- looking ---- */

enum tenure_state {
	TENURE_NONE,      /* nothing is asked for */
	TENURE_LOOKING,   /* who has it is being read */
	TENURE_FOREIGN,   /* another host has it */
	TENURE_CLAIMING,  /* a claim is under way */
	TENURE_WAITING,   /* it is ours; who had it may still apply */
	TENURE_OWNED,     /* may apply, as long as renewals succeed */
	TENURE_CUT_OFF,   /* may not: no renewal came in time */
	TENURE_DRAINING,  /* may not: a migration has begun */
	TENURE_OFFERING,  /* may not: it is offered */
	TENURE_RETAKING,  /* may not yet: the offer is being taken back */
	TENURE_RELEASING, /* may not: it is being given up */
	TENURE_STATES
};

struct tenure_view {
	const char *uuid;
	enum tenure_state state;
	const char *holder; /* the host, as was read last; "": nobody, or not known */
	const char *target; /* it is offered to */
	uint32_t epoch;     /* reserved up to */
	uint64_t token;     /* highest that was given */
	bool adopted;       /* as of FLEET_ACT_OWNED */
	bool damaged;       /* what the store says of it makes no sense: nobody takes it */
	uint64_t right_from_ns, right_until_ns;
	void *user;
};

void tenure_look(const struct tenure *tenure, struct tenure_view *ret_view);
/* "OWNED"... */
const char *tenure_state_name(enum tenure_state state);
/* NULL at the end; begins with NULL. */
struct tenure *fleet_next_guest(const struct fleet *fleet, const struct tenure *tenure);
/* Why nothing is granted: a sentence, static; NULL: it is not frozen. */
const char *fleet_frozen(const struct fleet *fleet);
/* When the store was heard of last; 0: never. */
uint64_t fleet_contact_ns(const struct fleet *fleet);
/* The cluster that is trusted, and the one that answered last; 0: none. */
void fleet_clusters(const struct fleet *fleet, uint64_t *ret_trusted, uint64_t *ret_answers);
/* The lease of this host in the store, for what else shall go with it; 0: there is none now. */
int64_t fleet_lease(const struct fleet *fleet);

/* An operator says that the store is to be trusted as it is now. All epochs and tokens begin above
 * these (of tokens that are taken from wall clocks: above what this one says), above where they
 * began after each bump before, and above what each host remembers; with room for what hosts have
 * used of which the store has forgotten and that are gone, as far as there are numbers:
 * FLEET_BUMP_EPOCHS, FLEET_BUMP_TOKENS, and as much again for each bump that the store has had
 * without this host. Of bumps that are in neither's memory nobody knows here: it is said on a host
 * that was there for the last one. FLEET_ACT_BUMPED answers. VMSIG_ERR_BAD_REQUEST: it is not
 * frozen; VMSIG_ERR_BUSY: another bump is under way; VMSIG_ERR_NOT_READY: the store has not
 * answered yet. */
__attribute__((warn_unused_result)) int fleet_bump(
	struct fleet *fleet, uint64_t now_ns, uint32_t epoch_floor, uint64_t token_floor);

/* ---- the store ---- */

/* Each request but a watch is answered once. */
void fleet_answer(struct fleet *fleet, uint64_t now_ns, const struct txn_answer *answer);
/* Something has changed; a hint, which decides nothing. */
void fleet_notice(struct fleet *fleet, uint64_t now_ns, const struct txn_notice *notice);

/* ---- time and actions ---- */

void fleet_advance(struct fleet *fleet, uint64_t now_ns);
/* Rises with everything that may bring actions about, or change the deadline. */
uint64_t fleet_changes(const struct fleet *fleet);
/* When fleet_advance() has something to do. */
uint64_t fleet_deadline(const struct fleet *fleet);

enum fleet_action_kind {
	/* of the host */
	FLEET_ACT_REQUEST,  /* ask the store; the time was counted from before */
	FLEET_ACT_REMEMBER, /* make `memory` durable, soon */
	FLEET_ACT_FROZEN,   /* fleet_frozen() says why */
	FLEET_ACT_THAWED,
	FLEET_ACT_BUMPED, /* `error`: 0, or VMSIG_ERR_IO: ask again */
	/* of a guest */
	FLEET_ACT_LOST,    /* it is not ours any more, and `host`'s, if that is known: leases end */
	FLEET_ACT_MOVED,   /* the target has taken it: holders and sensors go to `host` */
	FLEET_ACT_CUT_OFF, /* the right is over for now; leases stay */
	FLEET_ACT_OWNED,   /* ours: apply as soon as the epoch is above `epoch_floor` */
	FLEET_ACT_BACK,    /* the right is there again, after CUT_OFF or a migration that failed */
	FLEET_ACT_SETTLED, /* after tenure_settled(): apply */
	FLEET_ACT_OFFERED, /* the offer is in the store */
	FLEET_ACT_RELEASED,
	FLEET_ACT_GRANTED,     /* `lease`, `token` */
	FLEET_ACT_NOT_GRANTED, /* `lease` */
};

/* Borrowed until the fleet is called again. */
struct fleet_action {
	enum fleet_action_kind kind;
	const struct txn_request *request;
	struct fleet_memory memory;
	int error;
	struct tenure *tenure;
	void *user; /* the guest's */
	const char *host;
	uint64_t lease, token;
	/* OWNED */
	uint32_t epoch_floor; /* the guest's epoch has to be above, tenure_epoch() says it is */
	uint32_t epoch_kept;  /* of the migration that brought it, in which it goes on; 0: none */
	/* It goes on from an earlier process of this host: leases and ledger that are here are its
	 * own. Without it what is here is older than what the guest had meanwhile, and is void. */
	bool adopted;
	uint64_t token_floor;   /* local tokens have to be above */
	const uint8_t *baggage; /* NULL: none; nothing is applied before SETTLED */
	size_t baggage_len;
	/* Of `error`, VMSIG_ERR_QUOTA: what was offered with it is larger than it may be, was not
	 * read, and is deleted. */
};

bool fleet_next_action(struct fleet *fleet, struct fleet_action *ret_action);

#endif
