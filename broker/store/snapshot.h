/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_SNAPSHOT_H
#define BROKER_STORE_SNAPSHOT_H

/*
 * The snapshot of the tables as they were at an entry of the journal: a SQLite database, written
 * in one transaction that is synced. It is at the disk's mercy, so the loop never calls anything
 * of this; one thread at a time does.
 *
 * Rows are foreign input: what does not make sense is left out, or marked as damaged.
 * Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/store/change.h"
#include "broker/store/tables.h"

#define SNAPSHOT_FILE "vmsig.db"
#define SNAPSHOT_RANGE_BYTES 16u /* of a lease's range: two little-endian words */

struct snapshot;
struct sqlite3;

/* Opens the file in the directory, or makes it (0600); its tables are of the newest version, but
 * for a database of before the journal (snapshot_is_old()). `error` gets a sentence, of damage
 * too. VMSIG_ERR_UNSUPPORTED: written by a newer version. */
__attribute__((warn_unused_result)) int snapshot_open(
	struct snapshot **ret_snapshot, const char *dir, char *error, size_t error_size);
/* Accepts NULL, returns NULL. */
struct snapshot *snapshot_close(struct snapshot *snapshot);
/* For takeover.c; borrowed. */
struct sqlite3 *snapshot_db(struct snapshot *snapshot);
/* The last failure as SQLite words it; borrowed until the next call. */
const char *snapshot_error(struct snapshot *snapshot);

/* It has the audit log of a version without a journal; snapshot_renew() drops it. */
bool snapshot_is_old(const struct snapshot *snapshot);
__attribute__((warn_unused_result)) int snapshot_renew(struct snapshot *snapshot);

/* The tables, which are empty before, and the entry that they are of. */
__attribute__((warn_unused_result)) int snapshot_load(
	struct snapshot *snapshot, struct store_tables *tables, uint64_t *ret_number);
/* As far as there is a database that can be read, without making a file: endpoints alone. */
void snapshot_peek(const char *dir, struct store_tables *tables);

/* The changes behind the one it has, in order, and the entry that it is of then. */
__attribute__((warn_unused_result)) int snapshot_begin(struct snapshot *snapshot);
__attribute__((warn_unused_result)) int snapshot_apply(
	struct snapshot *snapshot, const struct change *change);
/* VMSIG_ERR_IO, -ENOMEM: nothing of it has happened. */
__attribute__((warn_unused_result)) int snapshot_commit(struct snapshot *snapshot, uint64_t number);
void snapshot_rollback(struct snapshot *snapshot);

/* A large one is not looked at when it is opened. */
bool snapshot_is_inspected(const struct snapshot *snapshot);
/* `problem` gets what is damaged, or "". VMSIG_ERR_IO. */
__attribute__((warn_unused_result)) int snapshot_inspect(
	struct snapshot *snapshot, char *problem, size_t size);

/* ---- schema.c ---- */

/* Brings the database to the newest version, or to the last one with the old log. `error` gets a
 * sentence when it is newer: VMSIG_ERR_UNSUPPORTED. */
__attribute__((warn_unused_result)) int schema_apply(
	struct sqlite3 *db, bool keep_log, bool *ret_old, char *error, size_t error_size);
/* SQL without rows; one number, of which there must be one. VMSIG_ERR_IO, -ENOMEM. */
__attribute__((warn_unused_result)) int schema_exec(struct sqlite3 *db, const char *sql);
__attribute__((warn_unused_result)) int schema_number(
	struct sqlite3 *db, const char *sql, uint64_t *ret_value);

#endif
