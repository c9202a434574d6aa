/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "broker/store/store.h"
#include "vmsig/vmsig_error.h"

#define PRUNE_BATCH "256" /* leases forgotten in one transaction */

enum statement {
	STMT_FIND,
	STMT_INTEND,
	STMT_SETTLE,
	STMT_FORGET,
	STMT_OPEN,
	STMT_HIGHEST,
	STMT_PRUNE_ENTRIES,
	STMT_PRUNE_LEASES,
	STMTS,
};

#define OLD_LEASES                                                                                 \
	"(SELECT id FROM lease WHERE ended > 0 AND ended < ?1 ORDER BY id LIMIT " PRUNE_BATCH ")"

static const char *const statements[STMTS] = {
	[STMT_FIND] = "SELECT sequence, digest, intent, reply FROM ledger "
		      "WHERE lease = ?1 AND writer = ?2 AND slot = ?3",
	[STMT_INTEND] = "INSERT OR REPLACE INTO ledger (lease, writer, slot, sequence, digest, "
			"intent) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
	[STMT_SETTLE] = "UPDATE ledger SET reply = ?5 "
			"WHERE lease = ?1 AND writer = ?2 AND slot = ?3 AND sequence = ?4",
	[STMT_FORGET] = "DELETE FROM ledger "
			"WHERE lease = ?1 AND writer = ?2 AND slot = ?3 AND sequence = ?4",
	[STMT_OPEN] = "SELECT lease, writer, sequence, intent FROM ledger WHERE reply IS NULL AND "
		      "(lease, writer, sequence) > (?1, ?2, ?3) "
		      "ORDER BY lease, writer, sequence LIMIT 1",
	[STMT_HIGHEST] = "SELECT max(sequence) FROM ledger WHERE lease = ?1 AND writer = ?2",
	[STMT_PRUNE_ENTRIES] = "DELETE FROM ledger WHERE lease IN " OLD_LEASES,
	[STMT_PRUNE_LEASES] = "DELETE FROM lease WHERE id IN " OLD_LEASES,
};

struct ledger {
	struct store *store;
	sqlite3_stmt *stmts[STMTS];
};

int ledger_new(struct ledger **ret_ledger, struct store *store)
{
	struct ledger *ledger = calloc(1, sizeof(*ledger));
	int r;

	if (!ledger)
		return -ENOMEM;
	ledger->store = store;
	r = store_prepare(store, statements, ledger->stmts, STMTS);
	if (r) {
		ledger_free(ledger);
		return r;
	}
	*ret_ledger = ledger;
	return 0;
}

struct ledger *ledger_free(struct ledger *ledger)
{
	if (!ledger)
		return NULL;
	store_finalize(ledger->stmts, STMTS);
	free(ledger);
	return NULL;
}

/* SQLite's integers are signed; as a key any 64 bits do. */
static void bind_slot(sqlite3_stmt *stmt, const struct ledger_key *key)
{
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)key->lease);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)key->writer);
	sqlite3_bind_int64(stmt, 3, (sqlite3_int64)(key->sequence % LEDGER_WINDOW));
}

static int entry_read(sqlite3_stmt *stmt, const struct ledger_key *key, struct ledger_entry *entry)
{
	uint64_t sequence = (uint64_t)sqlite3_column_int64(stmt, 0);
	const void *reply = sqlite3_column_blob(stmt, 3);
	size_t len = (size_t)sqlite3_column_bytes(stmt, 3);

	if (sequence < key->sequence)
		return VMSIG_ERR_NO_LEASE;
	if (sequence > key->sequence)
		return VMSIG_ERR_UNKNOWN_OUTCOME;
	if (sqlite3_column_bytes(stmt, 1) != LEDGER_DIGEST)
		return VMSIG_ERR_INTERNAL;
	*entry = (struct ledger_entry){.intent = (uint64_t)sqlite3_column_int64(stmt, 2),
		.done = sqlite3_column_type(stmt, 3) != SQLITE_NULL,
		.reply_len = len};
	memcpy(entry->digest, sqlite3_column_blob(stmt, 1), LEDGER_DIGEST);
	if (!entry->done)
		return 0;
	entry->reply = malloc(len ? len : 1);
	if (!entry->reply)
		return -ENOMEM;
	if (len)
		memcpy(entry->reply, reply, len);
	return 0;
}

int ledger_find(struct ledger *ledger, const struct ledger_key *key, struct ledger_entry *ret_entry)
{
	sqlite3_stmt *stmt = ledger->stmts[STMT_FIND];
	int rc, r;

	bind_slot(stmt, key);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		r = entry_read(stmt, key, ret_entry);
	else
		r = rc == SQLITE_DONE ? VMSIG_ERR_NO_LEASE : VMSIG_ERR_IO;
	sqlite3_reset(stmt);
	return r;
}

int ledger_intend(struct ledger *ledger, const struct ledger_key *key,
	const uint8_t digest[LEDGER_DIGEST], uint64_t intent)
{
	sqlite3_stmt *stmt = ledger->stmts[STMT_INTEND];

	bind_slot(stmt, key);
	sqlite3_bind_int64(stmt, 4, (sqlite3_int64)key->sequence);
	sqlite3_bind_blob(stmt, 5, digest, LEDGER_DIGEST, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 6, (sqlite3_int64)intent);
	return store_run(stmt);
}

int ledger_settle(
	struct ledger *ledger, const struct ledger_key *key, const void *reply, size_t len)
{
	sqlite3_stmt *stmt = ledger->stmts[STMT_SETTLE];

	bind_slot(stmt, key);
	sqlite3_bind_int64(stmt, 4, (sqlite3_int64)key->sequence);
	sqlite3_bind_blob(stmt, 5, len ? reply : "", (int)len, SQLITE_STATIC);
	return store_run(stmt);
}

int ledger_forget(struct ledger *ledger, const struct ledger_key *key)
{
	sqlite3_stmt *stmt = ledger->stmts[STMT_FORGET];

	bind_slot(stmt, key);
	sqlite3_bind_int64(stmt, 4, (sqlite3_int64)key->sequence);
	return store_run(stmt);
}

bool ledger_next_open(
	struct ledger *ledger, struct ledger_key *cursor, struct ledger_entry *ret_entry)
{
	sqlite3_stmt *stmt = ledger->stmts[STMT_OPEN];
	bool found;

	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)cursor->lease);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)cursor->writer);
	sqlite3_bind_int64(stmt, 3, (sqlite3_int64)cursor->sequence);
	found = sqlite3_step(stmt) == SQLITE_ROW;
	if (found) {
		*cursor = (struct ledger_key){.lease = (uint64_t)sqlite3_column_int64(stmt, 0),
			.writer = (uint64_t)sqlite3_column_int64(stmt, 1),
			.sequence = (uint64_t)sqlite3_column_int64(stmt, 2)};
		*ret_entry =
			(struct ledger_entry){.intent = (uint64_t)sqlite3_column_int64(stmt, 3)};
	}
	sqlite3_reset(stmt);
	return found;
}

int ledger_highest(struct ledger *ledger, uint64_t lease, uint64_t writer, uint64_t *ret_sequence)
{
	sqlite3_stmt *stmt = ledger->stmts[STMT_HIGHEST];
	int rc;

	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)lease);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)writer);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*ret_sequence = (uint64_t)sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	return rc == SQLITE_ROW ? 0 : VMSIG_ERR_IO;
}

int ledger_prune(struct ledger *ledger, uint64_t ended_before, bool *ret_more)
{
	int r = store_alone(ledger->store);

	*ret_more = false;
	if (r)
		return r;
	r = store_begin(ledger->store);
	for (int i = STMT_PRUNE_ENTRIES; !r && i <= STMT_PRUNE_LEASES; i++) {
		sqlite3_bind_int64(ledger->stmts[i], 1, (sqlite3_int64)ended_before);
		r = store_run(ledger->stmts[i]);
		*ret_more = sqlite3_changes(store_db(ledger->store)) > 0;
	}
	if (!r)
		r = store_commit(ledger->store);
	if (r)
		store_rollback(ledger->store);
	return r;
}
