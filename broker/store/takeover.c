/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A state directory of the version before the journal: its audit log is a table of the database.
 * Once, all of its records go into the journal, with their ids and hashes, so that they are read,
 * verified and dropped like any other; then the table goes. A start that is interrupted begins
 * anew, which a file tells.
 *
 * Each hash is verified on the way: what does not fit its neighbours is not chained anew as if it
 * did. The journal begins behind the last such record then, which nothing proves to who verifies
 * it, and the table stays, by the name of audit_before.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

#include "broker/store/audit.h"
#include "broker/store/state.h"
#include "proto/chain/auditchain.h"
#include "vmsig/vmsig_error.h"

#define MARKER "takeover"
#define BATCH 256u         /* records */
#define PAUSE_NS 1000000   /* while the ring is full */
#define PATIENCE_MS 60000u /* of a disk that takes nothing */

#define SELECT_LOG "SELECT id, body, hash FROM audit WHERE id > ?1 ORDER BY id"

/* Files of the version before that nobody reads any more. */
static const char *const leftovers[] = {MARKER, "marks", "reserve"};

struct log {
	struct store *store;
	struct auditchain_md *md;
	uint64_t base_id; /* the journal begins behind it */
	uint8_t base_hash[STORE_HASH];
	uint64_t id; /* the last that was looked at */
	uint8_t hash[STORE_HASH];
	bool damaged;
};

/* ---- where it begins ---- */

static uint8_t hex_value(char c)
{
	return (uint8_t)(c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0);
}

/* As far as it is one; a damaged anchor does not fit to what follows. */
static void anchor_parse(const char *text, uint8_t anchor[static STORE_HASH])
{
	for (size_t i = 0; i < STORE_HASH && text[2 * i] && text[2 * i + 1]; i++)
		anchor[i] = (uint8_t)(hex_value(text[2 * i]) << 4 | hex_value(text[2 * i + 1]));
}

static int anchor_load(struct log *log)
{
	sqlite3 *db = snapshot_db(log->store->snapshot);
	sqlite3_stmt *stmt = NULL;
	const char *text = NULL;
	int rc = sqlite3_prepare_v2(db,
		"SELECT value, (SELECT coalesce(min(id), 1) FROM audit) FROM meta "
		"WHERE key = 'audit_anchor'",
		-1, &stmt, NULL);

	if (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
		text = (const char *)sqlite3_column_text(stmt, 0);
	if (text) {
		anchor_parse(text, log->base_hash);
		log->base_id = (uint64_t)sqlite3_column_int64(stmt, 1) - 1;
	}
	sqlite3_finalize(stmt);
	log->id = log->base_id;
	memcpy(log->hash, log->base_hash, STORE_HASH);
	return text ? 0 : VMSIG_ERR_INTERNAL;
}

/* Everything in front of it stays behind. */
static void begin_behind(struct log *log, uint64_t id, const uint8_t hash[static STORE_HASH])
{
	log->damaged = true;
	log->base_id = id;
	memcpy(log->base_hash, hash, STORE_HASH);
}

static int look_at(struct log *log, sqlite3_stmt *stmt)
{
	static const uint8_t none[STORE_HASH];
	uint64_t id = (uint64_t)sqlite3_column_int64(stmt, 0);
	bool whole = sqlite3_column_bytes(stmt, 2) == STORE_HASH;
	const uint8_t *stored = whole ? sqlite3_column_blob(stmt, 2) : none;
	uint8_t hash[STORE_HASH];
	int r = auditchain_hash(log->md, log->hash, sqlite3_column_blob(stmt, 1),
		(size_t)sqlite3_column_bytes(stmt, 1), hash);

	if (r)
		return r;
	if (id != log->id + 1 || memcmp(hash, stored, STORE_HASH) != 0)
		begin_behind(log, id, stored);
	log->id = id;
	memcpy(log->hash, stored, STORE_HASH);
	return 0;
}

/* Calls `each` for the records above `after`. */
static int log_each(
	struct log *log, uint64_t after, int (*each)(struct log *log, sqlite3_stmt *stmt))
{
	sqlite3 *db = snapshot_db(log->store->snapshot);
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, SELECT_LOG, -1, &stmt, NULL), r = 0;

	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)after);
	while (rc == SQLITE_OK && !r && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		r = each(log, stmt);
		rc = SQLITE_OK;
	}
	sqlite3_finalize(stmt);
	return r ? r : rc == SQLITE_DONE ? 0 : VMSIG_ERR_IO;
}

/* ---- copying ---- */

static void pause_for(uint64_t *waited_ms)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};

	nanosleep(&pause, NULL);
	*waited_ms += PAUSE_NS / 1000000;
}

static int append(struct journal *journal, const struct journal_keys *keys, sqlite3_stmt *stmt)
{
	size_t len = (size_t)sqlite3_column_bytes(stmt, 1);
	uint64_t waited_ms = 0;
	uint8_t *body;
	int r;

	while ((r = journal_append(journal, JOURNAL_AUDIT, keys, len, &body)) == VMSIG_ERR_IO &&
		waited_ms < PATIENCE_MS) {
		journal_commit(journal);
		journal_hurry(journal);
		pause_for(&waited_ms);
	}
	if (!r && len)
		memcpy(body, sqlite3_column_blob(stmt, 1), len);
	return r;
}

static int copy(struct log *log, sqlite3_stmt *stmt)
{
	struct journal *journal = log->store->journal;
	Vmsig__AuditRecord *record = vmsig__audit_record__unpack(
		NULL, (size_t)sqlite3_column_bytes(stmt, 1), sqlite3_column_blob(stmt, 1));
	struct journal_keys keys = {0};
	int r;

	/* One that cannot be read is a record all the same. */
	if (record)
		audit_keys(record, &keys);
	r = append(journal, &keys, stmt);
	if (record)
		vmsig__audit_record__free_unpacked(record, NULL);
	if (!r && ++log->store->taken_over % BATCH == 0)
		journal_commit(journal);
	return r;
}

static int await_disk(struct journal *journal)
{
	uint64_t number = journal_sync(journal), waited_ms = 0;

	while (journal_synced(journal) < number && !journal_sync_failed(journal) &&
		waited_ms < PATIENCE_MS) {
		journal_turn(journal);
		pause_for(&waited_ms);
	}
	return journal_synced(journal) >= number ? 0 : VMSIG_ERR_IO;
}

static int fill(struct log *log, uint64_t *ret_number)
{
	static const struct journal_ops ops;
	struct journal *journal = log->store->journal;
	int r = journal_start(journal, NULL, &ops, NULL);

	if (!r)
		r = log_each(log, log->base_id, copy);
	if (r)
		return r;
	journal_commit(journal);
	*ret_number = journal_committed(journal);
	return await_disk(journal);
}

static int copy_log(struct log *log, const struct journal_options *options, uint64_t *ret_number,
	char *error, size_t error_size)
{
	struct journal_options based = *options;
	int r, closed;

	based.base_id = log->base_id;
	memcpy(based.base_hash, log->base_hash, STORE_HASH);
	log->store->taken_over = 0;
	r = journal_open(&log->store->journal, &based, error, error_size);
	if (r)
		return r;
	r = fill(log, ret_number);
	if (r)
		snprintf(error, error_size, "cannot move the audit log into the journal: %.200s",
			journal_error(log->store->journal));
	closed = journal_close(log->store->journal, PATIENCE_MS);
	log->store->journal = journal_free(log->store->journal);
	return r ? r : closed ? VMSIG_ERR_IO : 0;
}

/* ---- once ---- */

static void path_of(const struct log *log, const char *name, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.3000s/%.200s", log->store->dir, name);
}

/* What a start that was interrupted has made. */
static void journal_clear(const struct log *log)
{
	char path[PATH_MAX], file[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	path_of(log, "journal", path);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		snprintf(file, sizeof(file), "%.3000s/%.255s", path, entry->d_name);
		if (entry->d_name[0] != '.')
			unlink(file);
	}
	if (dir)
		closedir(dir);
}

/* A database that was restored beside a newer journal must not take that one's place. */
static int mark(const struct log *log, char *error, size_t error_size)
{
	char marker[PATH_MAX], journal[PATH_MAX];
	int fd;

	path_of(log, MARKER, marker);
	path_of(log, "journal", journal);
	if (access(marker, F_OK) < 0 && access(journal, F_OK) == 0) {
		snprintf(error, error_size,
			"%.150s/" SNAPSHOT_FILE " is of a version before the journal, and there is "
			"a journal beside it; move one of them away",
			log->store->dir);
		return VMSIG_ERR_INTERNAL;
	}
	fd = open(marker, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	journal_clear(log);
	return 0;
}

static int renew(struct log *log, uint64_t number)
{
	struct snapshot *snapshot = log->store->snapshot;
	int r = 0;

	if (log->damaged)
		r = schema_exec(snapshot_db(snapshot), "ALTER TABLE audit RENAME TO audit_before");
	if (!r)
		r = snapshot_renew(snapshot);
	if (!r)
		r = snapshot_begin(snapshot);
	return r ? r : snapshot_commit(snapshot, number);
}

int takeover(
	struct store *store, const struct journal_options *options, char *error, size_t error_size)
{
	struct log log = {.store = store};
	uint64_t number = 0;
	char path[PATH_MAX];
	int r = auditchain_md_new(&log.md);

	if (!r)
		r = mark(&log, error, error_size);
	if (!r)
		r = anchor_load(&log);
	if (!r)
		r = log_each(&log, 0, look_at);
	if (!r)
		r = copy_log(&log, options, &number, error, error_size);
	if (!r)
		r = renew(&log, number);
	auditchain_md_free(log.md);
	for (size_t i = 0; !r && i < sizeof(leftovers) / sizeof(leftovers[0]); i++) {
		path_of(&log, leftovers[i], path);
		unlink(path);
	}
	return r;
}
