/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_TABLES_H
#define BROKER_STORE_TABLES_H

/*
 * What the store knows, in memory: endpoints with their epochs and tokens, leases, what was
 * written under them. It is changed by changes alone (change.h), the same ones while the broker
 * runs and when it starts, and each can be undone until its transaction is over.
 *
 * Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "broker/store/answers.h"
#include "broker/store/change.h"
#include "vmsig/vmsig_event.h"

#define TABLES_BOOT_ID_MAX 64

struct table_endpoint {
	uint32_t id, epoch;
	uint64_t token; /* the last that was given */
	char session[VMSIG_SESSION_MAX];
	bool damaged; /* what the snapshot says of it makes no sense */
	UT_hash_handle hh, hh_name;
	char name[];
};

/* Those that have ended are kept for a while, as many as there were: a table of them would have to
 * be put in order anew now and then, all at once. */
struct table_lease {
	struct idtree_node node; /* by its id */
	uint64_t token;
	uint32_t endpoint, epoch, uid, priority;
	uint64_t ttl_ns, granted_ns, deadline_ns, hold_until_ns;
	uint64_t ended;             /* seconds of the wall clock; 0: it was not */
	struct lease_range *ranges; /* until it has ended */
	size_t nranges;
	struct table_lease *prev, *next; /* of tables.ended */
	char tenant[LEASE_NAME_MAX + 1];
};

struct store_tables {
	struct table_endpoint *endpoints, *endpoints_by_name;
	struct idtree leases;
	struct table_lease *ended; /* in the order in which they did */
	uint64_t lease_bytes;      /* of memory, about */
	struct answers answers;
	uint64_t next_lease;              /* above every id that was ever used */
	uint32_t last_endpoint;           /* the highest id that was ever used */
	uint32_t epoch_floor;             /* where epochs of new names begin */
	uint64_t total;                   /* sum of all epochs */
	char boot_id[TABLES_BOOT_ID_MAX]; /* "": none yet */
};

void tables_init(struct store_tables *tables);
void tables_deinit(struct store_tables *tables);

enum undo_kind {
	UNDO_NOTHING,
	UNDO_ENDPOINT,
	UNDO_EPOCH,
	UNDO_GRANT,
	UNDO_RENEW,
	UNDO_END,
	UNDO_IDS,
	UNDO_PUT,
	UNDO_TAKE,
	UNDO_DROP
};

/* How to take one change back. */
struct undo {
	enum undo_kind kind;
	struct table_endpoint *endpoint;
	struct table_lease *lease;
	uint64_t number; /* epoch, deadline, next id */
	char *session;
	struct ledger_key key;
	struct ledger_answer *old; /* NULL: the slot was empty */
	struct answer_lease *dropped;
	struct answers *answers; /* that it was dropped from */
};

/* `ret_undo` NULL: for good. A change of what is not there changes nothing. -ENOMEM;
 * VMSIG_ERR_INTERNAL: it makes no sense. */
__attribute__((warn_unused_result)) int tables_apply(
	struct store_tables *tables, const struct change *change, struct undo *ret_undo);
/* The newest ones first. */
void tables_undo(struct store_tables *tables, struct undo *undo);
/* The change stays. */
void tables_keep(struct undo *undo);

struct table_endpoint *tables_endpoint(const struct store_tables *tables, uint32_t id);
struct table_endpoint *tables_endpoint_named(const struct store_tables *tables, const char *name);
struct table_lease *tables_lease(const struct store_tables *tables, uint64_t id);
/* The one with the lowest id, and the next one; NULL: there is none. */
struct table_lease *tables_lease_first(const struct store_tables *tables);
struct table_lease *tables_lease_after(
	const struct store_tables *tables, const struct table_lease *lease);

#endif
