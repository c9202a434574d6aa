/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_STATE_H
#define BROKER_FLEET_STATE_H

/* The fleet's inside. Nobody outside of broker/fleet/ includes this. */

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

#include "broker/fleet/deed.h"
#include "broker/fleet/fleet.h"

#define FLEET_KEY_MAX (2 * FLEET_NAME_MAX + 64)

/* What a request is for. Those from BID_CLAIM to BID_VOID change a deed. */
enum bid_kind {
	BID_LOOK,   /* reads who has the guest */
	BID_RENEW,  /* proves that the owner key is still this tenure's */
	BID_CLAIM,  /* of a guest that nobody alive has */
	BID_ADOPT,  /* of what an earlier process of this boot had */
	BID_ACCEPT, /* of what is offered to this host */
	BID_REKEY,  /* puts the owner key there again: the deed is ours, and stays as it is */
	BID_RECORD, /* leases, and more epochs */
	BID_OFFER,
	BID_RETAKE,
	BID_RELEASE,
	BID_VOID,       /* nothing but that a claim that may still come does nothing */
	BID_GENERATION, /* reads what the fleet trusts */
	BID_FOUND,      /* writes the first generation */
	BID_BUMP,
	BID_GRANT, /* of the host's lease */
	BID_KEEPALIVE,
	BID_WATCH,
	BID_KINDS
};

struct fleet_request {
	struct txn_request wire;
	enum bid_kind bid;
	struct tenure *tenure; /* NULL: none, or it has gone meanwhile */
	uint64_t sent_ns;      /* not after it was sent */
	int64_t revision;      /* the store's, as far as was known then */
	bool stale; /* made for what the store was before: whatever the answer, it is none */
	struct fleet_request *prev, *next; /* in fleet->outbox */
	UT_hash_handle hh;                 /* in fleet->requests, by wire.number */
};

struct quorum {
	struct fleet_memory memory;
	struct deed_generation generation;
	int64_t generation_revision; /* of the key's last change */
	uint64_t generation_seen;    /* the highest, believed or not */
	uint64_t cluster_seen;       /* that answered last */
	const char *frozen;          /* why; NULL: it is not */
	bool met;                    /* the generation was read, and fits to what is remembered */
	uint64_t contact_ns;         /* 0: never */
	uint64_t quiet_until_ns; /* what the store says of who has given up counts from here on */
	uint64_t look_ns;
	struct fleet_request *look;
};

enum fleet_want {
	WANT_UNSAID, /* nobody has said what becomes of it */
	WANT_IT,
	WANT_AWAY, /* a migration takes it away */
	WANT_NONE,
};

/* A lease that shall be recorded. */
struct registry_lease {
	uint64_t id, token;
	uint32_t ttl_ms;
	bool sent; /* under its token */
	bool done; /* `error` is the answer, which has not been taken */
	bool unwanted;
	int error;
	uint8_t *record;
	size_t record_len;
	struct registry_lease *prev, *next;
};

/* A record that is to be deleted. */
struct registry_end {
	uint64_t token;
	bool sent;
	struct registry_end *prev, *next;
};

struct tenure {
	struct fleet *fleet;
	char uuid[FLEET_UUID_MAX + 1];
	char name[FLEET_NAME_MAX + 1]; /* on this host */
	void *user;
	bool removed; /* its user is not told any more */
	enum fleet_want want;
	bool incoming;
	enum tenure_state state;

	/* As was read or written last. */
	bool seen;    /* what follows is true as far as is known */
	bool damaged; /* the deed makes no sense */
	struct deed deed;
	int64_t revision; /* mod revision of the deed's key; 0: it is not there */
	bool owner_there;
	bool owner_mine;
	bool owner_ours; /* it hangs on this host's lease, be it of a tenure that is over */
	uint8_t *baggage;
	size_t baggage_len;
	bool baggage_oversize; /* there is more than there may be, of which nothing is here */

	/* Of this tenure. */
	char nonce[DEED_NONCE_MAX + 1];
	char owner[DEED_TEXT_MAX];
	size_t owner_len;
	bool held;    /* the deed was seen to be ours, and not yet not to be */
	bool gave;    /* an offer or a release went out, and may still come into force */
	bool adopted; /* it goes on from an earlier process of this host */
	bool told;    /* FLEET_ACT_OWNED was given */
	char session[FLEET_NAME_MAX + 1]; /* of the guest here; "": not known */
	bool pauses;                      /* what is given up is for a later process of this boot */
	bool over; /* its guest is gone, whatever has come after it: to be given up */
	uint64_t right_from_ns, right_until_ns;
	uint64_t renew_ns, retry_ns, look_ns;
	uint32_t epoch;      /* the guest's here */
	uint32_t epoch_seen; /* no deed that was read has reserved more, whatever became of it */
	uint32_t epoch_floor, epoch_kept;
	bool brought;  /* the baggage is the user's, and not settled */
	bool settled;  /* it is, and can be deleted */
	bool settling; /* what is under way deletes it */

	/* A claim that went out, and is not known to have had no effect. */
	bool claim_open;
	enum bid_kind claim_bid;
	bool claim_brings; /* baggage */
	int64_t claim_revision;
	uint64_t claim_wait_ns;
	uint32_t claim_floor, claim_kept;

	/* The offer. */
	char target[FLEET_NAME_MAX + 1];
	uint8_t *offer;
	size_t offer_len;
	unsigned offer_version, offer_sent, offer_stored; /* 0: none */

	struct fleet_request *lane; /* one request about the deed at a time */
	struct deed bidden;         /* that it writes */
	struct fleet_request *renewal;

	struct registry_lease *leases;
	struct registry_end *ends;
	uint64_t token; /* highest that was used for a lease */

	uint32_t pending; /* 1 << enum fleet_action_kind */
	bool listed;      /* in fleet->telling */
	struct tenure *prev, *next;
	UT_hash_handle hh; /* by uuid */
};

struct fleet {
	char name[FLEET_NAME_MAX + 1];
	struct deed_holder self; /* without a nonce */
	uint64_t nonce, nonces;
	uint64_t ttl_ns, timeout_ms;
	uint64_t now_ns;
	uint64_t changes; /* times that something may have changed */
	struct quorum quorum;

	int64_t lease, next_lease;
	bool lease_live;
	uint64_t keepalive_ns;
	struct fleet_request *leasing; /* grant or keepalive */
	uint64_t watch;                /* number; 0: none */
	char prefix[FLEET_KEY_MAX];    /* of all keys */

	struct tenure *guests;
	uint64_t numbers;
	struct fleet_request *requests; /* that wait for their answer */
	struct fleet_request *outbox;   /* of them, those that were not taken */
	struct fleet_request *lent;     /* without an answer, lent to the caller */
	struct registry_lease *lent_lease;
	struct tenure *telling;
	uint32_t pending; /* of the host */
	int bump_error;
	bool bumping;
};

/* ---- outbox.c ---- */

/* Makes a request; NULL without memory, to be tried later. fleet_send() puts it into the outbox,
 * false: it was not whole, and is freed. */
struct fleet_request *fleet_request(
	struct fleet *fleet, enum txn_request_kind kind, enum bid_kind bid, struct tenure *tenure);
__attribute__((warn_unused_result)) bool fleet_send(
	struct fleet *fleet, struct fleet_request *request);
void outbox_free(struct fleet *fleet, struct fleet_request *request);
/* What the watch tells is of another time. */
void fleet_unwatch(struct fleet *fleet);
/* The user shall be told. */
void fleet_tell(struct fleet *fleet, enum fleet_action_kind kind);
void fleet_tell_of(struct tenure *tenure, enum fleet_action_kind kind);
/* The tenure has leases whose answers were not taken. */
void fleet_tell_leases(struct tenure *tenure);
/* FLEET/LEAF. */
void fleet_key(const struct fleet *fleet, const char *leaf, char ret_key[static FLEET_KEY_MAX]);
/* FLEET/vm/UUID/LEAF. */
void fleet_guest_key(
	const struct tenure *tenure, const char *leaf, char ret_key[static FLEET_KEY_MAX]);

/* ---- quorum.c ---- */

void quorum_init(struct fleet *fleet, const struct fleet_memory *memory);
/* Whether the answer to a transaction counts. */
bool quorum_trusts(
	struct fleet *fleet, const struct fleet_request *request, const struct txn_answer *answer);
void quorum_answer(
	struct fleet *fleet, struct fleet_request *request, const struct txn_answer *answer);
void quorum_advance(struct fleet *fleet);
uint64_t quorum_deadline(const struct fleet *fleet);

/* ---- tenure.c ---- */

void tenure_answer(
	struct tenure *tenure, struct fleet_request *request, const struct txn_answer *answer);
/* Does what is due. It may free a tenure that was removed. */
void tenure_advance(struct tenure *tenure);
uint64_t tenure_deadline(const struct tenure *tenure);
/* The state becomes what follows from the rest. */
void tenure_settle(struct tenure *tenure);
/* What was read may be untrue by now. */
void tenure_doubt(struct tenure *tenure);
struct tenure *tenure_free(struct tenure *tenure);
bool tenure_is_mine(const struct tenure *tenure);

/* ---- bid.c ---- */

/* The deed was written since the store was restored, if it was: only then what it says of epochs
 * and baggage is the newest. */
bool bid_is_current(const struct tenure *tenure);
/* What the deed says is of the guest that runs here. */
bool bid_goes_on(const struct tenure *tenure);
/* Makes the transaction, with tenure->bidden, and sends it. */
void bid_send(struct tenure *tenure, enum bid_kind bid);

/* ---- registry.c ---- */

__attribute__((warn_unused_result)) int registry_add(
	struct tenure *tenure, const struct tenure_lease *lease);
void registry_end(struct tenure *tenure, uint64_t id, uint64_t token);
bool registry_has_work(const struct tenure *tenure);
/* Into the transaction, and what the deed says of them. */
void registry_write(struct tenure *tenure, struct txn *txn, struct deed *deed);
/* The deed is ours: what it says of leases that were sent; `stored`: the last transaction was. */
void registry_resolve(struct tenure *tenure, bool stored);
/* They will not be granted. */
void registry_fail(struct tenure *tenure, int error);
/* One that was answered; the caller frees it with registry_lease_free(). */
struct registry_lease *registry_take(struct tenure *tenure);
struct registry_lease *registry_lease_free(struct registry_lease *lease);
void registry_free(struct tenure *tenure);

#endif
