/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_TXN_H
#define BROKER_FLEET_TXN_H

/*
 * What the fleet asks of its common store, as data: guarded transactions, leases and watches of
 * etcd's model. Pure: a simulated store answers them as well as broker/etcd/, which says them in
 * etcd's JSON.
 *
 * A transaction that lacks one of its compares is unguarded, so a builder never drops one: what
 * could not be added dooms the transaction (txn_is_whole()), and a doomed one is not to be sent.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TXN_KEY_MAX 511u           /* bytes of a key */
#define TXN_VALUE_MAX (512u << 10) /* bytes of a value; etcd refuses requests above 1.5 MiB */
#define TXN_PARTS_MAX 128u         /* compares, or operations of a branch: etcd's max-txn-ops */

/* ---- a transaction ---- */

/* What is compared of a key. A key that is not there has 0 in each of them, and no VALUE. */
enum txn_what {
	TXN_CREATE_REVISION, /* of the store when the key came to be; what tokens are made of */
	TXN_MOD_REVISION,    /* of its last change */
	TXN_VERSION,         /* changes since it came to be; 0: it is not there */
	TXN_VALUE,
	TXN_LEASE, /* that it hangs on; 0: none */
};

enum txn_relation { TXN_EQUAL, TXN_NOT_EQUAL, TXN_GREATER, TXN_LESS };

struct txn_bytes {
	uint8_t *data;
	size_t len;
};

/* key.what RELATION number, or of TXN_VALUE: bytes. */
struct txn_compare {
	struct txn_bytes key;
	enum txn_what what;
	enum txn_relation relation;
	int64_t number;
	struct txn_bytes value;
};

enum txn_op_kind { TXN_PUT, TXN_DELETE, TXN_GET };

struct txn_op {
	enum txn_op_kind kind;
	struct txn_bytes key;
	/* TXN_DELETE, TXN_GET: all keys from `key` to before this one; empty: the key alone. */
	struct txn_bytes range_end;
	struct txn_bytes value; /* TXN_PUT */
	int64_t lease;          /* TXN_PUT; 0: the key stays until it is deleted */
};

enum txn_branch { TXN_THEN, TXN_ELSE, TXN_BRANCHES };

struct txn_ops {
	struct txn_op *ops;
	size_t n;
};

/* All compares hold: the operations of TXN_THEN are done, else those of TXN_ELSE; all of them at
 * one revision. Zeroed it is an empty one. */
struct txn {
	struct txn_compare *compares;
	size_t ncompares;
	struct txn_ops branches[TXN_BRANCHES];
	bool doomed; /* something could not be added */
};

void txn_deinit(struct txn *txn);

/* Keys are text, and copied; so are values. */
void txn_compare_number(struct txn *txn, const char *key, enum txn_what what,
	enum txn_relation relation, int64_t number);
void txn_compare_value(struct txn *txn, const char *key, enum txn_relation relation,
	const void *value, size_t len);
void txn_put(struct txn *txn, enum txn_branch branch, const char *key, const void *value,
	size_t len, int64_t lease);
void txn_delete(struct txn *txn, enum txn_branch branch, const char *key);
void txn_get(struct txn *txn, enum txn_branch branch, const char *key);
/* Of all keys that begin with `prefix`, which is not empty. */
void txn_delete_prefix(struct txn *txn, enum txn_branch branch, const char *prefix);
void txn_get_prefix(struct txn *txn, enum txn_branch branch, const char *prefix);

/* Whether all that was asked for is in it, within etcd's bounds. */
__attribute__((warn_unused_result)) bool txn_is_whole(const struct txn *txn);

/* ---- requests ---- */

enum txn_request_kind {
	TXN_COMMIT,
	TXN_LEASE_GRANT,
	TXN_LEASE_KEEPALIVE,
	TXN_LEASE_REVOKE, /* also deletes what hangs on it */
	TXN_WATCH,        /* goes on until it is cancelled */
	TXN_WATCH_CANCEL, /* has no answer */
	TXN_PAGE,         /* reads some keys of a prefix, in their order; their number says whether
			     there may be more */
};

struct txn_request {
	enum txn_request_kind kind;
	uint64_t number;     /* the asker's: the answer, or the watch's notices, bear it */
	struct txn txn;      /* TXN_COMMIT */
	int64_t lease;       /* TXN_LEASE_*; of a grant an id that the asker has chosen, not 0 */
	uint32_t ttl_s;      /* TXN_LEASE_GRANT; etcd may give more, and says so */
	const char *prefix;  /* TXN_WATCH, TXN_PAGE: of the keys; borrowed for the call */
	const char *after;   /* TXN_PAGE: only keys behind this one; likewise; NULL: all */
	uint32_t limit;      /* TXN_PAGE: entries, at most */
	int64_t revision;    /* TXN_WATCH: the first that is wanted; 0: what comes from now on */
	uint64_t timeout_ms; /* until the answer is UNKNOWN or UNAVAILABLE; a watch has none */
};

/* ---- answers ---- */

enum txn_outcome {
	TXN_OK,           /* done; of a transaction: TXN_THEN was */
	TXN_GUARD_FAILED, /* a compare did not hold, and TXN_ELSE was done; the lease is not there
			   */
	TXN_UNKNOWN,      /* it was sent, and no answer came: it may have happened, or happen yet */
	TXN_UNAVAILABLE,  /* it has not happened, and will not */
};

struct txn_entry {
	struct txn_bytes key, value;
	int64_t create_revision, mod_revision, version, lease;
};

/* What an operation of the branch gave. */
struct txn_result {
	enum txn_op_kind kind;
	struct txn_entry *entries; /* TXN_GET, in the order of the keys */
	size_t n;
	int64_t deleted; /* TXN_DELETE */
};

struct txn_answer {
	uint64_t number;
	enum txn_outcome outcome;
	/* Of TXN_OK and TXN_GUARD_FAILED: who answered, and the store's revision then. */
	uint64_t cluster_id, member_id;
	int64_t revision;
	struct txn_result *results; /* one for each operation of the branch that was done; of a
				       page one */
	size_t n;
	int64_t lease; /* TXN_LEASE_GRANT */
	uint32_t
		ttl_s; /* TXN_LEASE_GRANT, TXN_LEASE_KEEPALIVE: what is left, as the store has it */
	char why[160]; /* TXN_UNKNOWN, TXN_UNAVAILABLE: a sentence */
};

void txn_answer_deinit(struct txn_answer *answer);

/* ---- watches ---- */

enum txn_notice_kind {
	TXN_CHANGES,   /* events, in their order; none: it is known that there were none so far */
	TXN_COMPACTED, /* the revision asked for is gone, or too far away to be told of: read anew,
			  and watch from there; it is over */
};

struct txn_event {
	bool deleted;           /* the entry has its key and mod_revision only */
	struct txn_entry entry; /* as it is now */
};

/* Whoever cannot be reached is not heard of: a watch goes on from where it was as soon as it can,
 * with nothing lost in between and nothing told twice. */
struct txn_notice {
	uint64_t number; /* the request's */
	enum txn_notice_kind kind;
	uint64_t cluster_id;
	int64_t revision; /* of the store; TXN_COMPACTED: the first that can be had; 0: not known */
	struct txn_event *events;
	size_t n;
};

void txn_notice_deinit(struct txn_notice *notice);

#endif
