/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening the store, and doing without: when the database cannot be used, a stand-in in memory
 * gives the read plane ids and epochs, above all that were handed out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/store/state.h"
#include "vmsig/vmsig_error.h"

#define LOCK_FILE "lock"
/* Somebody's sqlite3 shell, or the end of a checkpoint where a record cannot wait for it; the loop
 * stands still meanwhile, and what could not be recorded by then fails. */
#define BUSY_TIMEOUT_MS 500
/* A database up to this size is looked at before it is used: some ten milliseconds. */
#define INSPECT_AT_ONCE (64u << 20)
/* What is left of the log when it has begun anew. */
#define WAL_KEEP "16777216"

static const char *const statements[STMTS] = {
	[STMT_ENDPOINT_GET] = "SELECT id, epoch, session FROM endpoint WHERE name = ?1",
	[STMT_ENDPOINT_ADD] = ("INSERT INTO endpoint (name, epoch) SELECT ?1, "
			       "CAST(value AS INTEGER) FROM meta WHERE key = 'epoch_floor'"),
	[STMT_EPOCH_GET] = "SELECT epoch FROM endpoint WHERE id = ?1",
	[STMT_EPOCH_SET] = "UPDATE endpoint SET epoch = max(epoch, ?2), session = '' WHERE id = ?1",
	[STMT_BEGIN] = "BEGIN IMMEDIATE",
	[STMT_COMMIT] = "COMMIT",
	[STMT_SESSION_SET] = "UPDATE endpoint SET session = ?3 WHERE id = ?1 AND epoch = ?2",
};

/* ---- the locks, with the watermarks in them ---- */

static int busy(const char *what, const char *path, char *error, size_t error_size)
{
	snprintf(error, error_size,
		"the %s %s is in use by another vmsigd; stop that one or give this one another "
		"%s",
		what, path, what);
	return VMSIG_ERR_BUSY;
}

static int lock_state(struct store *store, char *error, size_t error_size)
{
	char path[PATH_MAX + sizeof(LOCK_FILE)];
	struct stat st;
	int r;

	if (mkdir(store->dir, 0700) < 0 && errno != EEXIST) {
		r = -errno;
		snprintf(error, error_size, "cannot make the state directory %s: %s", store->dir,
			strerror(-r));
		return r;
	}
	if (stat(store->dir, &st) == 0 && st.st_mode & (S_IWGRP | S_IWOTH)) {
		snprintf(error, error_size,
			"the state directory %s can be written by others (mode %04o), who could "
			"turn epochs back; chmod it to 0700",
			store->dir, st.st_mode & 07777u);
		return -EPERM;
	}
	snprintf(path, sizeof(path), "%s/" LOCK_FILE, store->dir);
	r = watermark_open(&store->lock, path);
	if (r == VMSIG_ERR_BUSY)
		return busy("state_dir", store->dir, error, error_size);
	if (r)
		snprintf(error, error_size, "cannot open %s: %s", path, strerror(-r));
	return r;
}

/* Without it only a restored state directory would go unnoticed. */
static int lock_run(struct store *store, const char *path, char *error, size_t error_size)
{
	int r = path ? watermark_open(&store->run, path) : 0;

	return r == VMSIG_ERR_BUSY ? busy("socket", path, error, error_size) : 0;
}

static void marks_read(struct store *store)
{
	struct watermark other;

	watermark_read(&store->lock, &store->mark);
	watermark_read(&store->run, &other);
	watermark_merge(&store->mark, &other);
	store->found = store->mark;
}

/* ---- the database ---- */

static int on_commit(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct store *store = arg;

	store->wal_pages = (uint64_t)pages;
	return SQLITE_OK;
}

/* For nobody else to read; SQLite gives the WAL the same mode. Only before the first
 * connection: closing a descriptor drops the process's POSIX locks on the file. */
static int db_make(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int db_open(struct store *store, const char *path, sqlite3 **ret_db)
{
	int rc = sqlite3_open_v2(path, ret_db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);

	if (rc == SQLITE_OK)
		sqlite3_busy_timeout(*ret_db, BUSY_TIMEOUT_MS);
	/* No checkpoint on the loop thread: the keeper does them. */
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(*ret_db,
			"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
			"PRAGMA wal_autocheckpoint = 0; PRAGMA foreign_keys = ON;"
			"PRAGMA journal_size_limit = " WAL_KEEP,
			NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : store_sql_error(store, rc);
}

static int keeper_start(struct store *store, const char *path)
{
	sqlite3 *db = NULL;
	int r = db_open(store, path, &db);

	if (r) {
		sqlite3_close(db);
		return r;
	}
	return keeper_new(&store->keeper, db);
}

/* A large one is looked at when the broker runs. */
static int db_inspect(struct store *store, char *error, size_t error_size)
{
	uint64_t bytes = 0;
	char problem[160];
	int r = store_number(store,
		"SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", &bytes);

	if (r || bytes > INSPECT_AT_ONCE)
		return r;
	store->inspected = true;
	r = keeper_inspect(store->keeper, problem, sizeof(problem));
	if (!r && !problem[0])
		return 0;
	snprintf(error, error_size,
		"%.150s/" STORE_DB_FILE " is damaged (%.150s); restore it from a backup or move it "
		"away",
		store->dir, problem);
	return VMSIG_ERR_INTERNAL;
}

static void db_close(struct store *store)
{
	store_finalize(store->stmts, STMTS);
	memset(store->stmts, 0, sizeof(store->stmts));
	store->keeper = keeper_free(store->keeper);
	sqlite3_close(store->db);
	store->db = NULL;
}

static int db_use(struct store *store, char *error, size_t error_size)
{
	char path[PATH_MAX + sizeof(STORE_DB_FILE)];
	int r;

	snprintf(path, sizeof(path), "%s/" STORE_DB_FILE, store->dir);
	r = db_make(path);
	if (!r)
		r = db_open(store, path, &store->db);
	store->full = true;
	if (!r)
		r = schema_apply(store, error, error_size);
	if (!r)
		r = keeper_start(store, path);
	if (!r)
		r = db_inspect(store, error, error_size);
	if (!r)
		r = schema_account_for_losses(store);
	if (!r)
		r = store_prepare(store, statements, store->stmts, STMTS);
	if (!r)
		r = store_number(
			store, "SELECT coalesce(sum(epoch), 0) FROM endpoint", &store->mark.total);
	if (r && !error[0])
		snprintf(error, error_size, "cannot use %.150s: %.90s", path,
			store->db ? sqlite3_errmsg(store->db) : strerror(r < 0 ? -r : EIO));
	if (r) {
		db_close(store);
		return r;
	}
	sqlite3_wal_hook(store->db, on_commit, store);
	store->mark.behind = false;
	store->unusable[0] = '\0';
	store_note(store);
	return 0;
}

/* ---- the stand-in ---- */

/* A path as SQLite's URIs want it. */
static void uri_of(const char *dir, char *uri, size_t size)
{
	size_t at = (size_t)snprintf(uri, size, "file:");

	for (; *dir && at + 4 < size; dir++)
		at += (size_t)snprintf(
			uri + at, size - at, strchr("%?#", *dir) ? "%%%02x" : "%c", *dir);
	snprintf(uri + at, size - at, "/" STORE_DB_FILE "?immutable=1");
}

/* As far as the database can be read without making a file: names keep their ids. */
static void standin_seed(struct store *store)
{
	char uri[3 * PATH_MAX];
	sqlite3_stmt *from = NULL, *to = NULL;
	sqlite3 *db = NULL;
	int rc;

	uri_of(store->dir, uri, sizeof(uri));
	rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(
			db, "SELECT id, name, epoch FROM endpoint", -1, &from, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(store->db,
			"INSERT OR IGNORE INTO endpoint (id, name, epoch) VALUES (?1, ?2, ?3)", -1,
			&to, NULL);
	while (rc == SQLITE_OK && sqlite3_step(from) == SQLITE_ROW) {
		for (int i = 0; i < 3; i++)
			sqlite3_bind_value(to, i + 1, sqlite3_column_value(from, i));
		(void)!store_run(to);
	}
	sqlite3_finalize(to);
	sqlite3_finalize(from);
	sqlite3_close(db);
}

static int standin_open(struct store *store, const char *why)
{
	char newer[8];
	int r;

	snprintf(store->unusable, sizeof(store->unusable), "%s", why);
	/* A database that comes back has to know that it was not followed. */
	store->mark.behind = true;
	store->mark.total = store->found.total;
	store_note(store);
	r = sqlite3_open(":memory:", &store->db) == SQLITE_OK ? 0 : -ENOMEM;
	store->full = true;
	if (!r)
		r = schema_apply(store, newer, sizeof(newer));
	if (!r)
		standin_seed(store);
	if (!r)
		r = schema_account_for_losses(store);
	if (!r)
		r = store_prepare(store, statements, store->stmts, STMTS);
	return r;
}

/* ---- room for a full disk ---- */

static void reserve_make(struct store *store)
{
	char path[PATH_MAX + sizeof(STORE_RESERVE_FILE)];

	snprintf(path, sizeof(path), "%s/" STORE_RESERVE_FILE, store->dir);
	store->reserve = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	/* On a disk that is full already it is made when there is room. */
	store->low = store->reserve >= 0;
	(void)!store_reclaim(store);
}

/* ---- life ---- */

static bool is_fatal(int r)
{
	return r == VMSIG_ERR_BUSY || r == -EPERM || r == VMSIG_ERR_UNSUPPORTED || r == -ENOMEM;
}

static int store_start(struct store *store, const char *run, char *error, size_t error_size)
{
	int r = lock_run(store, run, error, error_size), state = 0;

	if (!r)
		state = lock_state(store, error, error_size);
	if (r || is_fatal(state))
		return r ? r : state;
	marks_read(store);
	if (!state)
		state = db_use(store, error, error_size);
	/* Without a second lock another broker could be at work. */
	if (is_fatal(state) || (state && store->run.fd < 0))
		return state;
	if (state)
		return standin_open(store, error);
	if (run)
		reserve_make(store);
	return 0;
}

int store_open_beside(
	struct store **ret_store, const char *dir, const char *run, char *error, size_t error_size)
{
	struct store *store = calloc(1, sizeof(*store));
	int r;

	snprintf(error, error_size, "out of memory");
	if (!store)
		return -ENOMEM;
	store->lock.fd = store->run.fd = store->reserve = -1;
	snprintf(store->dir, sizeof(store->dir), "%s", dir);
	error[0] = '\0';
	r = store_start(store, run, error, error_size);
	if (r) {
		if (!error[0])
			snprintf(error, error_size, "out of memory");
		store_close(store);
		return r;
	}
	*ret_store = store;
	return 0;
}

int store_open(struct store **ret_store, const char *dir, char *error, size_t error_size)
{
	return store_open_beside(ret_store, dir, NULL, error, error_size);
}

int store_retry(struct store *store)
{
	struct store old = *store;
	char error[256] = "";
	int r;

	store->db = NULL;
	memset(store->stmts, 0, sizeof(store->stmts));
	r = store->lock.fd < 0 ? lock_state(store, error, sizeof(error)) : 0;
	if (!r)
		r = db_use(store, error, sizeof(error));
	if (r) {
		store->db = old.db;
		memcpy(store->stmts, old.stmts, sizeof(store->stmts));
		snprintf(store->unusable, sizeof(store->unusable), "%s", error);
		return r;
	}
	store_finalize(old.stmts, STMTS);
	sqlite3_close(old.db);
	reserve_make(store);
	return 0;
}

struct store *store_close(struct store *store)
{
	if (!store)
		return NULL;
	db_close(store);
	watermark_close(&store->run);
	watermark_close(&store->lock);
	if (store->reserve >= 0)
		close(store->reserve);
	free(store);
	return NULL;
}
