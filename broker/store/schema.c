/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The database's tables, and what has to be made up for when it is opened: commits that were
 * lost, a backup that was restored, a boot that is over.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broker/store/state.h"
#include "vmsig/vmsig_error.h"

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

/* Seconds since this moment (2024-01-01) are an epoch that no count of resets has reached, as
 * long as there were less than one a second. */
#define EPOCH_ORIGIN 1704067200
/* A clock that is far off must not use up the numbers. */
#define EPOCH_FROM_CLOCK_MAX (UINT32_MAX / 2)

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
};
#define SCHEMA_VERSION ((int)(sizeof(migrations) / sizeof(migrations[0])))

int schema_apply(struct store *store, char *error, size_t error_size)
{
	char set_version[64];
	uint64_t version;
	int r = store_number(store, "PRAGMA user_version", &version);

	if (r)
		return r;
	if (version > INT32_MAX)
		return VMSIG_ERR_INTERNAL;
	if (version > SCHEMA_VERSION) {
		snprintf(error, error_size,
			"the state was written by a newer vmsigd (schema %d, this one knows %d); "
			"install that version or choose an empty state_dir",
			(int)version, SCHEMA_VERSION);
		return VMSIG_ERR_UNSUPPORTED;
	}
	if (version == SCHEMA_VERSION)
		return 0;
	snprintf(set_version, sizeof(set_version), "PRAGMA user_version = %d", SCHEMA_VERSION);
	r = store_exec(store, "BEGIN IMMEDIATE");
	for (; !r && version < SCHEMA_VERSION; version++)
		r = store_exec(store, migrations[version]);
	if (!r)
		r = store_exec(store, set_version);
	if (!r)
		r = store_exec(store, "COMMIT");
	return r;
}

/* ---- what was lost ---- */

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

static uint32_t epoch_from_clock(void)
{
	time_t now = time(NULL);
	uint64_t seconds = now > EPOCH_ORIGIN ? (uint64_t)(now - EPOCH_ORIGIN) : 0;

	return seconds < EPOCH_FROM_CLOCK_MAX ? (uint32_t)seconds : EPOCH_FROM_CLOCK_MAX;
}

/* Past all that was handed out, whatever the database says; also for names that it does not
 * know (any more). */
static int epochs_skip(struct store *store, bool names)
{
	uint32_t floor = epoch_from_clock();
	char sql[512];

	if (store->mark.epoch > floor)
		floor = store->mark.epoch;
	snprintf(sql, sizeof(sql),
		"UPDATE endpoint SET epoch = min(max(epoch + %u, %u), 4294967294), session = ''; "
		"UPDATE meta SET value = CASE WHEN %d THEN '%u' ELSE value END "
		"WHERE key = 'epoch_floor'",
		STORE_SKIP, floor, names, floor);
	return store_exec(store, sql);
}

/* Leases do not outlive the boot whose clock their deadlines are on. */
static int boot_begin(struct store *store, const char *boot_id)
{
	char sql[512];

	/* A boot id is hexadecimal digits and dashes. */
	snprintf(sql, sizeof(sql),
		"UPDATE lease SET ended = CAST(strftime('%%s', 'now') AS INTEGER) "
		"WHERE ended = 0; UPDATE meta SET value = '%s' WHERE key = 'boot_id'",
		boot_id);
	return store_exec(store, sql);
}

/* A new database has no boot yet. */
static int boot_compare(struct store *store, const char *boot_id, bool *ret_other, bool *ret_fresh)
{
	char sql[256];
	uint64_t fresh, other;
	int r;

	snprintf(sql, sizeof(sql), "SELECT value <> '%s' FROM meta WHERE key = 'boot_id'", boot_id);
	r = store_number(store, sql, &other);
	if (!r)
		r = store_number(
			store, "SELECT value = '' FROM meta WHERE key = 'boot_id'", &fresh);
	if (r)
		return r;
	*ret_other = other;
	*ret_fresh = fresh;
	return 0;
}

int schema_account_for_losses(struct store *store)
{
	bool other_boot = false, fresh = false, behind;
	char boot_id[STORE_BOOT_ID_MAX];
	uint64_t total;
	int r = store_boot_id(boot_id);

	if (!r)
		r = boot_compare(store, boot_id, &other_boot, &fresh);
	if (!r)
		r = store_number(store, "SELECT coalesce(sum(epoch), 0) FROM endpoint", &total);
	if (r)
		return r;
	behind = store->mark.behind || store->mark.total > total;
	if (!behind && !other_boot)
		return 0;
	r = store_exec(store, "BEGIN IMMEDIATE");
	if (!r && (behind || !fresh))
		r = epochs_skip(store, behind);
	if (!r && other_boot)
		r = boot_begin(store, boot_id);
	if (!r)
		r = store_exec(store, "COMMIT");
	return r;
}
