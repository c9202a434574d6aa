/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "vmsig/vmsig_error.h"

#define DB_FILE "vmsig.db"
#define LOCK_FILE "lock"
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"
#define BUSY_TIMEOUT_MS 100 /* somebody's sqlite3 shell; the loop stands still meanwhile */
#define NOTE_SIZE 11        /* decimal digits of 32 bits, newline */

enum statement {
	STMT_ENDPOINT_GET,
	STMT_ENDPOINT_ADD,
	STMT_EPOCH_SET,
	STMT_SESSION_SET,
	STMT_BEGIN,
	STMT_COMMIT,
	STMTS,
};

static const char *const statements[STMTS] = {
	[STMT_ENDPOINT_GET] = "SELECT id, epoch, session FROM endpoint WHERE name = ?1",
	[STMT_ENDPOINT_ADD] = "INSERT INTO endpoint (name) VALUES (?1)",
	[STMT_EPOCH_SET] = "UPDATE endpoint SET epoch = max(epoch, ?2), session = '' WHERE id = ?1",
	[STMT_BEGIN] = "BEGIN IMMEDIATE",
	[STMT_COMMIT] = "COMMIT",
	[STMT_SESSION_SET] = "UPDATE endpoint SET session = ?3 WHERE id = ?1 AND epoch = ?2",
};

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
};
#define SCHEMA_VERSION ((int)(sizeof(migrations) / sizeof(migrations[0])))

struct store {
	sqlite3 *db;
	sqlite3_stmt *stmts[STMTS];
	int lock;          /* also holds the note */
	uint32_t lost;     /* what the note says: the highest epoch not stored; 0: none */
	uint32_t unsynced; /* commits since the last that was synced */
	bool power;        /* commits wait for the disk */
};

static int sql_error(int rc)
{
	return rc == SQLITE_NOMEM ? -ENOMEM : VMSIG_ERR_IO;
}

int store_run(sqlite3_stmt *stmt)
{
	int rc = sqlite3_step(stmt);

	sqlite3_reset(stmt);
	return rc == SQLITE_DONE ? 0 : sql_error(rc);
}

static int exec(sqlite3 *db, const char *sql)
{
	int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : sql_error(rc);
}

/* ---- the lock and the note in it ---- */

static int lock_open(struct store *store, const char *dir, char *error, size_t error_size)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char path[PATH_MAX];
	struct stat st;
	int r;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		r = -errno;
		snprintf(error, error_size, "cannot make the state directory %s: %s", dir,
			strerror(-r));
		return r;
	}
	if (stat(dir, &st) == 0 && st.st_mode & (S_IWGRP | S_IWOTH)) {
		snprintf(error, error_size,
			"the state directory %s can be written by others (mode %04o), who could "
			"turn epochs back; chmod it to 0700",
			dir, st.st_mode & 07777u);
		return -EPERM;
	}
	snprintf(path, sizeof(path), "%s/%s", dir, LOCK_FILE);
	store->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (store->lock < 0) {
		r = -errno;
		snprintf(error, error_size, "cannot open %s: %s", path, strerror(-r));
		return r;
	}
	if (fcntl(store->lock, F_OFD_SETLK, &lock) < 0) {
		snprintf(error, error_size,
			"the state directory %s is in use by another vmsigd; stop that one or "
			"give this one another state_dir",
			dir);
		return VMSIG_ERR_BUSY;
	}
	return 0;
}

/* A damaged one says as little as that something was lost. */
static void note_read(struct store *store)
{
	char note[NOTE_SIZE + 1] = "";
	ssize_t n = pread(store->lock, note, NOTE_SIZE, 0);
	unsigned long lost = strtoul(note, NULL, 10);

	if (n == 0)
		store->lost = 0; /* a new file */
	else if (strspn(note, "0123456789") == NOTE_SIZE - 1 && lost < UINT32_MAX)
		store->lost = (uint32_t)lost;
	else
		store->lost = 1;
}

/* The bytes exist since the store was opened first, so this needs no room on the disk. */
static int note_write(struct store *store, uint32_t lost)
{
	char note[NOTE_SIZE + 1];

	snprintf(note, sizeof(note), "%010u\n", lost);
	if (pwrite(store->lock, note, NOTE_SIZE, 0) != NOTE_SIZE)
		return -EIO;
	store->lost = lost;
	return 0;
}

/* ---- opening ---- */

static int schema_version(sqlite3 *db, int *ret_version)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*ret_version = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW ? 0 : sql_error(rc);
}

static int schema_apply(struct store *store, char *error, size_t error_size)
{
	char set_version[64];
	int version, r = schema_version(store->db, &version);

	if (r)
		return r;
	if (version > SCHEMA_VERSION) {
		snprintf(error, error_size,
			"the state was written by a newer vmsigd (schema %d, this one knows %d); "
			"install that version or choose an empty state_dir",
			version, SCHEMA_VERSION);
		return VMSIG_ERR_UNSUPPORTED;
	}
	if (version == SCHEMA_VERSION)
		return 0;
	if (version < 0)
		return VMSIG_ERR_INTERNAL;
	snprintf(set_version, sizeof(set_version), "PRAGMA user_version = %d", SCHEMA_VERSION);
	r = exec(store->db, "BEGIN IMMEDIATE");
	for (; !r && version < SCHEMA_VERSION; version++)
		r = exec(store->db, migrations[version]);
	if (!r)
		r = exec(store->db, set_version);
	if (!r)
		r = exec(store->db, "COMMIT");
	return r;
}

int store_boot_id(char boot_id[STORE_BOOT_ID_MAX])
{
	int fd = open(BOOT_ID_FILE, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, boot_id, STORE_BOOT_ID_MAX - 1);
	close(fd);
	if (n <= 0)
		return -EIO;
	boot_id[n] = '\0';
	boot_id[strcspn(boot_id, "\n")] = '\0';
	return 0;
}

/* Skips epochs ahead when commits may have been lost, see the header. */
static int account_for_losses(struct store *store)
{
	char boot_id[STORE_BOOT_ID_MAX], sql[256];
	int r = store_boot_id(boot_id);

	if (r)
		return r;
	note_read(store);
	/* A boot id is hexadecimal digits and dashes. */
	snprintf(sql, sizeof(sql),
		"UPDATE endpoint SET epoch = min(max(epoch + %u, %u), 4294967295), session = '' "
		"WHERE %d OR (SELECT value FROM meta WHERE key = 'boot_id') <> '%s'",
		STORE_SKIP, store->lost, store->lost > 0, boot_id);
	r = exec(store->db, "BEGIN IMMEDIATE");
	if (!r)
		r = exec(store->db, sql);
	/* Leases do not outlive the boot whose clock their deadlines are on. */
	snprintf(sql, sizeof(sql),
		"UPDATE lease SET ended = CAST(strftime('%%s', 'now') AS INTEGER) "
		"WHERE ended = 0 AND "
		"(SELECT value FROM meta WHERE key = 'boot_id') <> '%s'",
		boot_id);
	if (!r)
		r = exec(store->db, sql);
	snprintf(sql, sizeof(sql), "UPDATE meta SET value = '%s' WHERE key = 'boot_id'", boot_id);
	if (!r)
		r = exec(store->db, sql);
	if (!r)
		r = exec(store->db, "COMMIT");
	return r ? r : note_write(store, 0);
}

/* For nobody else to read; SQLite gives the WAL the same mode. Only before the first
 * connection: closing a descriptor drops the process's POSIX locks on the file. */
static int db_make(const char *dir)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, DB_FILE);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int db_open(sqlite3 **ret_db, const char *dir)
{
	char path[PATH_MAX];
	int rc;

	snprintf(path, sizeof(path), "%s/%s", dir, DB_FILE);
	rc = sqlite3_open_v2(path, ret_db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc != SQLITE_OK)
		return sql_error(rc);
	sqlite3_busy_timeout(*ret_db, BUSY_TIMEOUT_MS);
	/* No checkpoint on the loop thread: store_checkpoint() does them elsewhere. */
	return exec(*ret_db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
			     "PRAGMA wal_autocheckpoint = 0; PRAGMA foreign_keys = ON");
}

int store_open(struct store **ret_store, const char *dir, char *error, size_t error_size)
{
	struct store *store = calloc(1, sizeof(*store));
	int r = -ENOMEM;

	snprintf(error, error_size, "out of memory");
	if (!store)
		return r;
	store->lock = -1;
	r = lock_open(store, dir, error, error_size);
	if (r)
		goto fail;
	error[0] = '\0';
	r = db_make(dir);
	if (!r)
		r = db_open(&store->db, dir);
	if (!r)
		r = schema_apply(store, error, error_size);
	if (!r)
		r = account_for_losses(store);
	if (!r)
		r = exec(store->db, "PRAGMA synchronous = NORMAL");
	if (!r)
		r = store_prepare(store, statements, store->stmts, STMTS);
	if (r)
		goto fail;
	*ret_store = store;
	return 0;
fail:
	if (!error[0])
		snprintf(error, error_size, "cannot use %s/%s: %s", dir, DB_FILE,
			store->db ? sqlite3_errmsg(store->db) : strerror(r < 0 ? -r : ENOMEM));
	store_close(store);
	return r;
}

struct store *store_close(struct store *store)
{
	if (!store)
		return NULL;
	store_finalize(store->stmts, STMTS);
	sqlite3_close(store->db);
	if (store->lock >= 0)
		close(store->lock);
	free(store);
	return NULL;
}

struct sqlite3 *store_db(struct store *store)
{
	return store->db;
}

/* ---- transactions ---- */

bool store_is_open(struct store *store)
{
	return !sqlite3_get_autocommit(store->db);
}

int store_begin(struct store *store)
{
	return store_is_open(store) ? 0 : store_run(store->stmts[STMT_BEGIN]);
}

void store_set_power(struct store *store, bool power)
{
	store->power = power;
	/* A failure leaves what was, which the next commit would report. */
	(void)!exec(store->db, power ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
}

int store_commit(struct store *store)
{
	int r;

	if (!store_is_open(store))
		return 0;
	r = store_run(store->stmts[STMT_COMMIT]);
	if (r)
		store_rollback(store);
	return r;
}

void store_rollback(struct store *store)
{
	/* SQLite rolls back by itself after some errors. */
	if (store_is_open(store))
		(void)!exec(store->db, "ROLLBACK");
}

int store_prepare(
	struct store *store, const char *const *sql, struct sqlite3_stmt **stmts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int rc = sqlite3_prepare_v3(
			store->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &stmts[i], NULL);

		if (rc != SQLITE_OK)
			return sql_error(rc);
	}
	return 0;
}

void store_finalize(struct sqlite3_stmt **stmts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sqlite3_finalize(stmts[i]);
}

const char *store_error(struct store *store)
{
	return sqlite3_errmsg(store->db);
}

/* ---- rows ---- */

static int endpoint_row(sqlite3_stmt *stmt, struct store_endpoint *endpoint)
{
	sqlite3_int64 id = sqlite3_column_int64(stmt, 0);
	sqlite3_int64 epoch = sqlite3_column_int64(stmt, 1);
	const char *session = (const char *)sqlite3_column_text(stmt, 2);

	if (id < 1 || id > UINT32_MAX || epoch < 0 || epoch >= UINT32_MAX || !session ||
		strlen(session) >= VMSIG_SESSION_MAX)
		return VMSIG_ERR_INTERNAL;
	endpoint->id = (uint32_t)id;
	endpoint->epoch = (uint32_t)epoch;
	strcpy(endpoint->session, session);
	return 0;
}

static int endpoint_get(struct store *store, const char *name, struct store_endpoint *endpoint)
{
	sqlite3_stmt *stmt = store->stmts[STMT_ENDPOINT_GET];
	int rc, r;

	sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		r = endpoint_row(stmt, endpoint);
	else
		r = rc == SQLITE_DONE ? VMSIG_ERR_NO_SUCH_ENDPOINT : sql_error(rc);
	sqlite3_reset(stmt);
	return r;
}

/* With all commits before it. */
static int run_synced(struct store *store, sqlite3_stmt *stmt)
{
	int r = exec(store->db, "PRAGMA synchronous = FULL");

	if (!r)
		r = store_run(stmt);
	if (!r)
		store->unsynced = 0;
	/* A failure leaves it at FULL, which is slower and nothing else. */
	store_set_power(store, store->power);
	return r;
}

int store_endpoint(struct store *store, const char *name, struct store_endpoint *ret_endpoint)
{
	sqlite3_stmt *add = store->stmts[STMT_ENDPOINT_ADD];
	int r = endpoint_get(store, name, ret_endpoint);

	if (r != VMSIG_ERR_NO_SUCH_ENDPOINT)
		return r;
	sqlite3_bind_text(add, 1, name, -1, SQLITE_STATIC);
	r = run_synced(store, add);
	return r ? r : endpoint_get(store, name, ret_endpoint);
}

int store_persist_epoch(struct store *store, uint32_t id, uint32_t epoch)
{
	sqlite3_stmt *stmt = store->stmts[STMT_EPOCH_SET];
	int r;

	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, epoch);
	r = ++store->unsynced < STORE_SYNC_EVERY ? store_run(stmt) : run_synced(store, stmt);
	if (r && epoch > store->lost && note_write(store, epoch) < 0)
		return VMSIG_ERR_INTERNAL;
	return r;
}

int store_persist_session(struct store *store, uint32_t id, uint32_t epoch, const char *session)
{
	sqlite3_stmt *stmt = store->stmts[STMT_SESSION_SET];

	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, epoch);
	sqlite3_bind_text(stmt, 3, session, -1, SQLITE_TRANSIENT);
	return store_run(stmt);
}

int store_checkpoint(const char *dir)
{
	sqlite3 *db = NULL;
	int r = db_open(&db, dir);

	if (!r)
		r = exec(db, "PRAGMA wal_checkpoint(PASSIVE)");
	sqlite3_close(db);
	return r;
}
