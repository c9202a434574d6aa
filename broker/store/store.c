/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/store/state.h"
#include "vmsig/vmsig_error.h"

/* A log of this many bytes is moved into the database. */
#define WAL_CHECKPOINT (8u << 20)
/* Beyond this nothing is written: the disk does not keep up, or somebody holds the log. */
#define WAL_MAX (64u << 20)
#define WAL_FRAME (4096u + 24u) /* a page and its header */
/* What PRAGMA synchronous answers. */
#define LEVEL_NORMAL 1u

int store_sql_error(struct store *store, int rc)
{
	/* What was kept for this goes back to the disk: ends of leases can be stored. */
	if (rc == SQLITE_FULL && store->reserve >= 0 && !store->low)
		store->low = ftruncate(store->reserve, 0) == 0;
	return rc == SQLITE_NOMEM ? -ENOMEM : VMSIG_ERR_IO;
}

int store_run(sqlite3_stmt *stmt)
{
	int rc = sqlite3_step(stmt);

	sqlite3_reset(stmt);
	return rc == SQLITE_DONE ? 0 : rc == SQLITE_NOMEM ? -ENOMEM : VMSIG_ERR_IO;
}

int store_exec(struct store *store, const char *sql)
{
	int rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : store_sql_error(store, rc);
}

int store_number(struct store *store, const char *sql, uint64_t *ret_value)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*ret_value = (uint64_t)sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW ? 0 : store_sql_error(store, rc);
}

void store_note(struct store *store)
{
	(void)!watermark_write(&store->lock, &store->mark);
	(void)!watermark_write(&store->run, &store->mark);
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

/* What is written while opening is synced, what comes later when store_sync() is called. Only
 * between transactions; SQLite refuses it inside of one. */
static int level_set(struct store *store)
{
	uint64_t level = 0;
	int r;

	if (!store->full)
		return 0;
	r = store_exec(store, "PRAGMA synchronous = NORMAL");
	if (!r)
		r = store_number(store, "PRAGMA synchronous", &level);
	if (!r && level != LEVEL_NORMAL)
		r = VMSIG_ERR_INTERNAL;
	if (!r)
		store->full = false;
	return r;
}

bool store_wants_sync(struct store *store)
{
	bool wants = store->wants_sync;

	store->wants_sync = false;
	return wants;
}

/* In WAL mode the log alone has to reach the disk; a checkpoint syncs for itself. */
int store_sync(const char *dir)
{
	char path[PATH_MAX];
	int fd, r;

	if (snprintf(path, sizeof(path), "%s/" STORE_DB_FILE "-wal", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fdatasync(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
}

void store_set_owner(struct store *store, void (*flush)(void *arg), void *arg)
{
	store->flush = flush;
	store->flush_arg = arg;
}

int store_alone(struct store *store)
{
	if (store_is_open(store) && store->flush)
		store->flush(store->flush_arg);
	return store_is_open(store) ? VMSIG_ERR_INTERNAL : 0;
}

int store_begin(struct store *store)
{
	int r = store_is_open(store) ? 0 : level_set(store);

	return r || store_is_open(store) ? r : store_run(store->stmts[STMT_BEGIN]);
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
	(void)!store_sql_error(store, sqlite3_errcode(store->db));
	/* SQLite rolls back by itself after some errors. */
	if (store_is_open(store))
		(void)!store_exec(store, "ROLLBACK");
}

int store_prepare(
	struct store *store, const char *const *sql, struct sqlite3_stmt **stmts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int rc = sqlite3_prepare_v3(
			store->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &stmts[i], NULL);

		if (rc != SQLITE_OK)
			return store_sql_error(store, rc);
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
		r = rc == SQLITE_DONE ? VMSIG_ERR_NO_SUCH_ENDPOINT : store_sql_error(store, rc);
	sqlite3_reset(stmt);
	return r;
}

/* In a transaction of its own; synced: with all commits before it, soon. */
static int run_alone(struct store *store, sqlite3_stmt *stmt, bool synced)
{
	int r = store_alone(store);

	if (!r)
		r = level_set(store);
	if (!r)
		r = store_run(stmt);
	if (!r && synced) {
		store->unsynced = 0;
		store->wants_sync = true;
	}
	return r;
}

int store_endpoint(struct store *store, const char *name, struct store_endpoint *ret_endpoint)
{
	sqlite3_stmt *add = store->stmts[STMT_ENDPOINT_ADD];
	int r = endpoint_get(store, name, ret_endpoint);

	if (r != VMSIG_ERR_NO_SUCH_ENDPOINT)
		return r;
	sqlite3_bind_text(add, 1, name, -1, SQLITE_STATIC);
	r = run_alone(store, add, true);
	return r ? r : endpoint_get(store, name, ret_endpoint);
}

/* How much the endpoint's epoch rises by; nothing that it is known for: one. */
static uint64_t epoch_rise(struct store *store, uint32_t id, uint32_t epoch)
{
	sqlite3_stmt *stmt = store->stmts[STMT_EPOCH_GET];
	uint64_t before = UINT64_MAX;

	sqlite3_bind_int64(stmt, 1, id);
	if (sqlite3_step(stmt) == SQLITE_ROW)
		before = (uint64_t)sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	if (before == UINT64_MAX)
		return 1;
	return epoch > before ? epoch - before : 0;
}

int store_persist_epoch(struct store *store, uint32_t id, uint32_t epoch)
{
	sqlite3_stmt *stmt = store->stmts[STMT_EPOCH_SET];
	uint64_t rise = epoch_rise(store, id, epoch);
	int r;

	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, epoch);
	r = run_alone(store, stmt, ++store->unsynced >= STORE_SYNC_EVERY);
	if (r)
		(void)!store_sql_error(store, sqlite3_errcode(store->db));
	store->mark.total += rise;
	store->mark.behind |= r != 0;
	if (epoch > store->mark.epoch)
		store->mark.epoch = epoch;
	store_note(store);
	return r;
}

int store_persist_session(struct store *store, uint32_t id, uint32_t epoch, const char *session)
{
	sqlite3_stmt *stmt = store->stmts[STMT_SESSION_SET];

	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, epoch);
	sqlite3_bind_text(stmt, 3, session, -1, SQLITE_TRANSIENT);
	return run_alone(store, stmt, false);
}

/* ---- how far it has come ---- */

void store_note_audit(struct store *store, uint64_t id, const uint8_t hash[STORE_HASH])
{
	store->mark.audit = id;
	memcpy(store->mark.audit_hash, hash, STORE_HASH);
	store_note(store);
}

uint64_t store_found_audit(const struct store *store, uint8_t ret_hash[STORE_HASH])
{
	memcpy(ret_hash, store->found.audit_hash, STORE_HASH);
	return store->found.audit;
}

/* ---- the log and the disk ---- */

bool store_wants_checkpoint(const struct store *store)
{
	return store->keeper && store->wal_pages * WAL_FRAME > WAL_CHECKPOINT;
}

int store_checkpoint(struct store *store, bool *ret_complete)
{
	*ret_complete = false;
	return store->keeper ? keeper_checkpoint(store->keeper, store->asks, ret_complete) : 0;
}

void store_grant(struct store *store)
{
	if (!store->asks)
		store->asks = true;
	if (store->keeper && !store_is_open(store))
		keeper_grant(store->keeper);
}

void store_checkpointed(struct store *store, bool complete)
{
	if (complete)
		store->wal_pages = 0;
}

bool store_is_held(const struct store *store)
{
	return keeper_holds(store->keeper);
}

enum store_pressure store_pressure(const struct store *store)
{
	uint64_t bytes = store->wal_pages * WAL_FRAME;

	return bytes > WAL_MAX       ? STORE_PRESSURE_FULL
	       : bytes > WAL_MAX / 2 ? STORE_PRESSURE_HIGH
				     : STORE_PRESSURE_NONE;
}

bool store_wants_inspection(const struct store *store)
{
	return store->keeper && !store->inspected;
}

int store_inspect(struct store *store, char *problem, size_t size)
{
	problem[0] = '\0';
	return store->keeper ? keeper_inspect(store->keeper, problem, size) : 0;
}

void store_inspected(struct store *store, const char *problem)
{
	store->inspected = true;
	if (problem[0])
		snprintf(store->damage, sizeof(store->damage),
			"the database in state_dir is damaged (%.200s): nothing is written until "
			"it is "
			"restored from a backup or moved away, and vmsigd started again",
			problem);
}

bool store_reclaim(struct store *store)
{
	if (store->low && posix_fallocate(store->reserve, 0, STORE_RESERVE) == 0)
		store->low = false;
	return !store->low;
}

const char *store_refusal(const struct store *store)
{
	if (store->damage[0])
		return store->damage;
	return store->low ? "the disk of the broker's state_dir is full; make room there" : NULL;
}

const char *store_unusable(const struct store *store)
{
	return store->unusable[0] ? store->unusable : NULL;
}
