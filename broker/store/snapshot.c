/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "vmsig/vmsig_error.h"

#define BUSY_TIMEOUT_MS 5000 /* somebody's sqlite3 shell; no loop waits meanwhile */
/* A database up to this size is looked at before it is used: some ten milliseconds. */
#define INSPECT_AT_ONCE (64u << 20)

enum statement {
	STMT_ENDPOINT,
	STMT_EPOCH,
	STMT_SESSION,
	STMT_GRANT,
	STMT_TOKEN,
	STMT_RENEW,
	STMT_END,
	STMT_ANSWER,
	STMT_SETTLE,
	STMT_FORGET,
	STMT_DROP,
	STMT_DROP_ANSWERS,
	STMT_META,
	STMT_IDS,
	STMT_BOOT,
	STMT_SKIP,
	STMTS,
};

static const char *const statements[STMTS] = {
	[STMT_ENDPOINT] = "INSERT OR IGNORE INTO endpoint (id, epoch, name) VALUES (?1, ?2, ?3)",
	[STMT_EPOCH] = "UPDATE endpoint SET epoch = max(epoch, ?2), session = '' WHERE id = ?1",
	[STMT_SESSION] = "UPDATE endpoint SET session = ?3 WHERE id = ?1 AND epoch = ?2",
	[STMT_GRANT] = ("INSERT OR REPLACE INTO lease (id, endpoint, epoch, token, tenant, uid, "
			"priority, ranges, ttl, granted, deadline, hold) "
			"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"),
	[STMT_TOKEN] = "UPDATE endpoint SET token = max(token, ?2) WHERE id = ?1",
	[STMT_RENEW] = "UPDATE lease SET deadline = ?2 WHERE id = ?1",
	[STMT_END] = "UPDATE lease SET ended = ?2, ranges = x'' WHERE id = ?1 AND ended = 0",
	[STMT_ANSWER] = "INSERT OR REPLACE INTO ledger (lease, writer, slot, sequence, digest, "
			"intent, reply) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
	[STMT_SETTLE] = "UPDATE ledger SET reply = ?5 "
			"WHERE lease = ?1 AND writer = ?2 AND slot = ?3 AND sequence = ?4",
	[STMT_FORGET] = "DELETE FROM ledger WHERE lease = ?1 AND writer = ?2 AND slot = ?3 "
			"AND (sequence = ?4 OR ?5)",
	[STMT_DROP] = "DELETE FROM lease WHERE id = ?1",
	[STMT_DROP_ANSWERS] = "DELETE FROM ledger WHERE lease = ?1",
	[STMT_META] = "UPDATE meta SET value = ?2 WHERE key = ?1",
	[STMT_IDS] = "UPDATE meta SET value = CAST(max(CAST(value AS INTEGER), ?2) AS TEXT) "
		     "WHERE key = 'next_lease'",
	[STMT_BOOT] = "UPDATE lease SET ended = max(?1, 1), ranges = x'' WHERE ended = 0",
	[STMT_SKIP] = "UPDATE endpoint SET epoch = min(max(epoch + ?1, ?2), 4294967294), "
		      "session = ''",
};

struct snapshot {
	sqlite3 *db;
	sqlite3_stmt *stmts[STMTS];
	bool old, inspected;
	struct answers delta; /* of the open transaction: the newest of each slot */
};

static int error_of(int rc)
{
	return rc == SQLITE_NOMEM ? -ENOMEM : VMSIG_ERR_IO;
}

struct sqlite3 *snapshot_db(struct snapshot *snapshot)
{
	return snapshot->db;
}

const char *snapshot_error(struct snapshot *snapshot)
{
	return sqlite3_errmsg(snapshot->db);
}

bool snapshot_is_old(const struct snapshot *snapshot)
{
	return snapshot->old;
}

bool snapshot_is_inspected(const struct snapshot *snapshot)
{
	return snapshot->inspected;
}

/* ---- opening ---- */

/* For nobody else to read; SQLite gives its journal the same mode. */
static int file_make(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int db_open(struct snapshot *snapshot, const char *path)
{
	int rc = sqlite3_open_v2(path, &snapshot->db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);

	if (rc == SQLITE_OK)
		sqlite3_busy_timeout(snapshot->db, BUSY_TIMEOUT_MS);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(snapshot->db,
			"PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = FULL;"
			"PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY",
			NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : error_of(rc);
}

int snapshot_inspect(struct snapshot *snapshot, char *problem, size_t size)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(snapshot->db, "PRAGMA quick_check(1)", -1, &stmt, NULL);
	const char *text = NULL;

	problem[0] = '\0';
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		text = (const char *)sqlite3_column_text(stmt, 0);
	if (!text)
		snprintf(problem, size, "%s", sqlite3_errmsg(snapshot->db));
	else if (strcmp(text, "ok") != 0)
		snprintf(problem, size, "%s", text);
	sqlite3_finalize(stmt);
	snapshot->inspected = true;
	return text || rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB ? 0 : VMSIG_ERR_IO;
}

/* A large one is looked at when the broker runs. */
static int inspect_small(
	struct snapshot *snapshot, const char *path, char *error, size_t error_size)
{
	uint64_t bytes = 0;
	char problem[160];
	int r = schema_number(snapshot->db,
		"SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", &bytes);

	if (r || bytes > INSPECT_AT_ONCE)
		return r;
	r = snapshot_inspect(snapshot, problem, sizeof(problem));
	if (!r && !problem[0])
		return 0;
	snprintf(error, error_size,
		"%.150s is damaged (%.150s); restore it from a backup or move it away", path,
		problem);
	return VMSIG_ERR_INTERNAL;
}

static int prepare(struct snapshot *snapshot)
{
	for (size_t i = 0; i < STMTS; i++) {
		int rc = sqlite3_prepare_v3(snapshot->db, statements[i], -1,
			SQLITE_PREPARE_PERSISTENT, &snapshot->stmts[i], NULL);

		if (rc != SQLITE_OK)
			return error_of(rc);
	}
	return 0;
}

static int open_file(struct snapshot *snapshot, const char *path, char *error, size_t error_size)
{
	int r = file_make(path);

	if (!r)
		r = db_open(snapshot, path);
	if (!r)
		r = schema_apply(snapshot->db, true, &snapshot->old, error, error_size);
	if (!r)
		r = inspect_small(snapshot, path, error, error_size);
	if (!r)
		r = prepare(snapshot);
	if (r && !error[0])
		snprintf(error, error_size, "cannot use %.150s: %.90s", path,
			snapshot->db ? sqlite3_errmsg(snapshot->db) : strerror(r < 0 ? -r : EIO));
	return r;
}

int snapshot_open(struct snapshot **ret_snapshot, const char *dir, char *error, size_t error_size)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
	char path[PATH_MAX];
	int r;

	if (!snapshot)
		return -ENOMEM;
	snprintf(path, sizeof(path), "%s/" SNAPSHOT_FILE, dir);
	error[0] = '\0';
	r = open_file(snapshot, path, error, error_size);
	if (r) {
		snapshot_close(snapshot);
		return r;
	}
	*ret_snapshot = snapshot;
	return 0;
}

struct snapshot *snapshot_close(struct snapshot *snapshot)
{
	if (!snapshot)
		return NULL;
	for (size_t i = 0; i < STMTS; i++)
		sqlite3_finalize(snapshot->stmts[i]);
	answers_deinit(&snapshot->delta);
	sqlite3_close(snapshot->db);
	free(snapshot);
	return NULL;
}

/* The pages of the log go back to the file system. */
int snapshot_renew(struct snapshot *snapshot)
{
	bool old;
	char error[8];
	int r = schema_apply(snapshot->db, false, &old, error, sizeof(error));

	if (!r) {
		snapshot->old = false;
		(void)!schema_exec(snapshot->db, "VACUUM");
	}
	return r;
}

/* ---- saving ---- */

int snapshot_begin(struct snapshot *snapshot)
{
	answers_deinit(&snapshot->delta);
	return schema_exec(snapshot->db, "BEGIN IMMEDIATE");
}

void snapshot_rollback(struct snapshot *snapshot)
{
	answers_deinit(&snapshot->delta);
	/* SQLite rolls back by itself after some errors. */
	if (!sqlite3_get_autocommit(snapshot->db))
		(void)!schema_exec(snapshot->db, "ROLLBACK");
}

static int run(sqlite3_stmt *stmt)
{
	int rc = sqlite3_step(stmt);

	sqlite3_reset(stmt);
	return rc == SQLITE_DONE ? 0 : error_of(rc);
}

static int64_t capped(uint64_t value)
{
	return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

/* Endpoint, epoch and text: the statement uses what it names. */
static int save_endpoint(
	struct snapshot *snapshot, const struct change *change, enum statement which)
{
	sqlite3_stmt *stmt = snapshot->stmts[which];

	sqlite3_bind_int64(stmt, 1, change->endpoint);
	sqlite3_bind_int64(stmt, 2, change->epoch);
	sqlite3_bind_text(
		stmt, 3, change->len ? change->bytes : "", (int)change->len, SQLITE_STATIC);
	return run(stmt);
}

static void put_word(uint8_t *to, uint64_t word)
{
	for (size_t i = 0; i < 8; i++)
		to[i] = (uint8_t)(word >> 8 * i);
}

static int save_token(struct snapshot *snapshot, const struct change *change)
{
	sqlite3_stmt *stmt = snapshot->stmts[STMT_TOKEN];

	sqlite3_bind_int64(stmt, 1, change->endpoint);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)change->number);
	return run(stmt);
}

static int save_grant(struct snapshot *snapshot, const struct change *change)
{
	sqlite3_stmt *stmt = snapshot->stmts[STMT_GRANT];
	uint8_t ranges[LEASE_RANGES_MAX * SNAPSHOT_RANGE_BYTES];
	int r;

	for (size_t i = 0; i < change->nranges; i++) {
		put_word(ranges + i * SNAPSHOT_RANGE_BYTES, change->ranges[i].start);
		put_word(ranges + i * SNAPSHOT_RANGE_BYTES + 8, change->ranges[i].last);
	}
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)change->key.lease);
	sqlite3_bind_int64(stmt, 2, change->endpoint);
	sqlite3_bind_int64(stmt, 3, change->epoch);
	sqlite3_bind_int64(stmt, 4, (sqlite3_int64)change->number);
	sqlite3_bind_text(
		stmt, 5, change->len ? change->bytes : "", (int)change->len, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 6, change->uid);
	sqlite3_bind_int64(stmt, 7, change->priority);
	sqlite3_bind_blob(
		stmt, 8, ranges, (int)(change->nranges * SNAPSHOT_RANGE_BYTES), SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 9, capped(change->ttl_ns));
	sqlite3_bind_int64(stmt, 10, capped(change->granted_ns));
	sqlite3_bind_int64(stmt, 11, capped(change->deadline_ns));
	sqlite3_bind_int64(stmt, 12, capped(change->hold_until_ns));
	r = run(stmt);
	return r ? r : save_token(snapshot, change);
}

/* Of a lease, a number, or both: the statement uses what it names. */
static int save_lease(struct snapshot *snapshot, const struct change *change, enum statement which)
{
	sqlite3_stmt *stmt = snapshot->stmts[which];

	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)change->key.lease);
	sqlite3_bind_int64(stmt, 2, capped(change->number));
	return run(stmt);
}

static int save_meta(struct snapshot *snapshot, const char *key, const char *value, size_t len)
{
	sqlite3_stmt *stmt = snapshot->stmts[STMT_META];

	sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 2, value, (int)len, SQLITE_STATIC);
	return run(stmt);
}

static int save_number(struct snapshot *snapshot, const char *key, uint64_t number)
{
	char text[24];

	return save_meta(snapshot, key, text,
		(size_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)number));
}

static void bind_slot(sqlite3_stmt *stmt, const struct ledger_key *key)
{
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)key->lease);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)key->writer);
	sqlite3_bind_int64(stmt, 3, (sqlite3_int64)(key->sequence % LEDGER_WINDOW));
	sqlite3_bind_int64(stmt, 4, (sqlite3_int64)key->sequence);
}

static int delta_put(
	struct snapshot *snapshot, const struct ledger_key *key, struct ledger_answer *answer)
{
	struct ledger_answer *old;

	if (!answer || answers_put(&snapshot->delta, key, answer, &old)) {
		free(answer);
		return -ENOMEM;
	}
	free(old);
	return 0;
}

static struct ledger_answer *delta_find(
	const struct snapshot *snapshot, const struct ledger_key *key)
{
	struct ledger_answer *answer = answers_slot(&snapshot->delta, key);

	return answer && answer->sequence == key->sequence ? answer : NULL;
}

static int save_settle(struct snapshot *snapshot, const struct change *change)
{
	const struct ledger_answer *old = delta_find(snapshot, &change->key);
	sqlite3_stmt *stmt = snapshot->stmts[STMT_SETTLE];

	if (old)
		return delta_put(snapshot, &change->key,
			answer_new(old->sequence, old->digest, old->intent, true, change->bytes,
				change->len));
	bind_slot(stmt, &change->key);
	sqlite3_bind_blob(
		stmt, 5, change->len ? change->bytes : "", (int)change->len, SQLITE_STATIC);
	return run(stmt);
}

/* What the intent had driven out of its slot does not come back. */
static int save_forget(struct snapshot *snapshot, const struct change *change)
{
	struct ledger_answer *gone = delta_find(snapshot, &change->key)
					     ? answers_take(&snapshot->delta, &change->key)
					     : NULL;
	sqlite3_stmt *stmt = snapshot->stmts[STMT_FORGET];

	bind_slot(stmt, &change->key);
	sqlite3_bind_int64(stmt, 5, gone != NULL);
	free(gone);
	return run(stmt);
}

static int save_drop(struct snapshot *snapshot, const struct change *change)
{
	int r = save_lease(snapshot, change, STMT_DROP);

	answers_free(answers_detach(&snapshot->delta, change->key.lease));
	return r ? r : save_lease(snapshot, change, STMT_DROP_ANSWERS);
}

static int save_boot(struct snapshot *snapshot, const struct change *change)
{
	sqlite3_stmt *stmt = snapshot->stmts[STMT_BOOT];
	int r;

	sqlite3_bind_int64(stmt, 1, capped(change->number));
	r = run(stmt);
	return r ? r : save_meta(snapshot, "boot_id", change->bytes, change->len);
}

static int save_skip(struct snapshot *snapshot, const struct change *change)
{
	int r = save_endpoint(snapshot, change, STMT_SKIP);

	if (!r && change->number)
		r = save_number(snapshot, "epoch_floor", change->epoch);
	return r;
}

int snapshot_apply(struct snapshot *snapshot, const struct change *change)
{
	switch (change->kind) {
	case CHANGE_ENDPOINT:
		return save_endpoint(snapshot, change, STMT_ENDPOINT);
	case CHANGE_EPOCH:
		return save_endpoint(snapshot, change, STMT_EPOCH);
	case CHANGE_SESSION:
		return save_endpoint(snapshot, change, STMT_SESSION);
	case CHANGE_GRANT:
		return save_grant(snapshot, change);
	case CHANGE_RENEW:
		return save_lease(snapshot, change, STMT_RENEW);
	case CHANGE_END:
		return save_lease(snapshot, change, STMT_END);
	case CHANGE_IDS:
		return save_lease(snapshot, change, STMT_IDS);
	case CHANGE_INTEND:
		return delta_put(snapshot, &change->key,
			answer_new(change->key.sequence, change->digest, change->number, false,
				NULL, 0));
	case CHANGE_SETTLE:
		return save_settle(snapshot, change);
	case CHANGE_FORGET:
		return save_forget(snapshot, change);
	case CHANGE_DROP:
		return save_drop(snapshot, change);
	case CHANGE_BOOT:
		return save_boot(snapshot, change);
	case CHANGE_SKIP:
		return save_skip(snapshot, change);
	case CHANGES:
		break;
	}
	return VMSIG_ERR_INTERNAL;
}

static int save_answer(void *arg, const struct ledger_key *key, const struct ledger_answer *answer)
{
	struct snapshot *snapshot = arg;
	sqlite3_stmt *stmt = snapshot->stmts[STMT_ANSWER];

	bind_slot(stmt, key);
	sqlite3_bind_blob(stmt, 5, answer->digest, LEDGER_DIGEST, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 6, (sqlite3_int64)answer->intent);
	if (answer->done)
		sqlite3_bind_blob(stmt, 7, answer->len ? (const void *)answer->reply : "",
			(int)answer->len, SQLITE_STATIC);
	else
		sqlite3_bind_null(stmt, 7);
	return run(stmt);
}

int snapshot_commit(struct snapshot *snapshot, uint64_t number)
{
	int r = answers_each(&snapshot->delta, save_answer, snapshot);

	if (!r)
		r = save_number(snapshot, "journal", number);
	if (!r)
		r = schema_exec(snapshot->db, "COMMIT");
	if (r)
		snapshot_rollback(snapshot);
	answers_deinit(&snapshot->delta);
	return r;
}
