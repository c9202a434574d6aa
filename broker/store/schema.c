/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot's tables, and how a database of an older version gets them.
 */
#include <errno.h>
#include <stdio.h>

#include <sqlite3.h>

#include "broker/store/snapshot.h"
#include "vmsig/vmsig_error.h"

/* What brings a database from version i to i + 1. AUTOINCREMENT: the id of a name that was
 * removed is not used again. The ledger is a ring of LEDGER_WINDOW slots for each writer. */
static const char *const migrations[] = {
	"CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE endpoint ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 4294967295),"
	" name TEXT NOT NULL UNIQUE,"
	" epoch INTEGER NOT NULL DEFAULT 0 CHECK (epoch BETWEEN 0 AND 4294967295),"
	" session TEXT NOT NULL DEFAULT '') STRICT;"
	"INSERT INTO meta VALUES ('boot_id', '');",

	"ALTER TABLE endpoint ADD COLUMN token INTEGER NOT NULL DEFAULT 0;"
	"CREATE TABLE lease ("
	" id INTEGER PRIMARY KEY, endpoint INTEGER NOT NULL, epoch INTEGER NOT NULL,"
	" token INTEGER NOT NULL, tenant TEXT NOT NULL, uid INTEGER NOT NULL,"
	" priority INTEGER NOT NULL, ranges BLOB NOT NULL, ttl INTEGER NOT NULL,"
	" granted INTEGER NOT NULL, deadline INTEGER NOT NULL, hold INTEGER NOT NULL,"
	" ended INTEGER NOT NULL DEFAULT 0) STRICT;"
	"CREATE INDEX lease_by_end ON lease (ended);"
	"CREATE TABLE ledger ("
	" lease INTEGER NOT NULL, writer INTEGER NOT NULL, slot INTEGER NOT NULL,"
	" sequence INTEGER NOT NULL, digest BLOB NOT NULL, intent INTEGER NOT NULL,"
	" reply BLOB, PRIMARY KEY (lease, writer, slot)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE audit (id INTEGER PRIMARY KEY, body BLOB NOT NULL, hash BLOB NOT NULL) "
	"STRICT;"
	"INSERT INTO meta VALUES ('next_lease', '1'), ('audit_anchor', '');",

	"INSERT INTO meta VALUES ('epoch_floor', '0');",

	/* The audit log goes to the journal, and the entry of it that the tables are of comes. */
	"DROP TABLE IF EXISTS audit;"
	"DELETE FROM meta WHERE key = 'audit_anchor';"
	"INSERT INTO meta VALUES ('journal', '0');",
};
#define VERSION ((int)(sizeof(migrations) / sizeof(migrations[0])))
#define VERSION_WITH_LOG (VERSION - 1)

int schema_exec(struct sqlite3 *db, const char *sql)
{
	int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : rc == SQLITE_NOMEM ? -ENOMEM : VMSIG_ERR_IO;
}

int schema_number(struct sqlite3 *db, const char *sql, uint64_t *ret_value)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*ret_value = (uint64_t)sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW ? 0 : rc == SQLITE_NOMEM ? -ENOMEM : VMSIG_ERR_IO;
}

static int migrate(struct sqlite3 *db, int from, int to)
{
	char set_version[64];
	int r = schema_exec(db, "BEGIN IMMEDIATE");

	snprintf(set_version, sizeof(set_version), "PRAGMA user_version = %d", to);
	for (; !r && from < to; from++)
		r = schema_exec(db, migrations[from]);
	if (!r)
		r = schema_exec(db, set_version);
	if (!r)
		r = schema_exec(db, "COMMIT");
	if (r && !sqlite3_get_autocommit(db))
		(void)!schema_exec(db, "ROLLBACK");
	return r;
}

int schema_apply(struct sqlite3 *db, bool keep_log, bool *ret_old, char *error, size_t error_size)
{
	uint64_t version;
	int r = schema_number(db, "PRAGMA user_version", &version), to;

	if (r)
		return r;
	if (version > INT32_MAX)
		return VMSIG_ERR_INTERNAL;
	if (version > VERSION) {
		snprintf(error, error_size,
			"the state was written by a newer vmsigd (schema %d, this one knows %d); "
			"install that version or choose an empty state_dir",
			(int)version, VERSION);
		return VMSIG_ERR_UNSUPPORTED;
	}
	*ret_old = keep_log && version && version < VERSION;
	to = *ret_old ? VERSION_WITH_LOG : VERSION;
	return (int)version < to ? migrate(db, (int)version, to) : 0;
}
