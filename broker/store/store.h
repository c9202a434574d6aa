/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_STORE_H
#define BROKER_STORE_STORE_H

/*
 * The broker's durable state: one SQLite database in the state directory, which one broker
 * owns at a time (an OFD lock held for life). WAL with synchronous=NORMAL: a commit survives
 * a crash of the broker. Two things can lose one:
 *
 * - the host's power, which may take the tail of the WAL and changes the boot id. What is
 *   written while opening and the row of a new endpoint are synced, and of the others every
 *   STORE_SYNC_EVERY-th, with all before it; so no more than that many epochs are lost.
 * - a full or failing disk. The highest epoch that could not be stored is noted in place in
 *   the lock file, which needs no room on the disk. (Losing the power as well, before a sync
 *   worked again, is beyond this: nothing could be stored anywhere.)
 *
 * After either one, all epochs skip ahead by STORE_SKIP, and past the note, and fingerprints
 * are void, so that an epoch never comes back (R3).
 *
 * Rows are foreign input: what does not make sense is refused, never trusted.
 * Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_event.h"

#define STORE_SKIP 4096u
#define STORE_SYNC_EVERY (STORE_SKIP / 2)
#define STORE_CHECKPOINT_MS 60000u
#define STORE_BOOT_ID_MAX 64

struct sqlite3;
struct sqlite3_stmt;
struct store;

/* Makes the directory (0700) when it is missing. `error` gets a sentence. VMSIG_ERR_BUSY:
 * another broker has it; -EPERM: others can write to it; VMSIG_ERR_UNSUPPORTED:
 * written by a newer version; VMSIG_ERR_IO. */
__attribute__((warn_unused_result)) int store_open(
	struct store **ret_store, const char *dir, char *error, size_t error_size);
/* Accepts NULL, returns NULL. */
struct store *store_close(struct store *store);
/* For the tables of other modules; borrowed. */
struct sqlite3 *store_db(struct store *store);
/* The last failure as SQLite words it; borrowed until the next call. */
const char *store_error(struct store *store);

/* The running boot's id, as text. -errno. */
__attribute__((warn_unused_result)) int store_boot_id(char ret_boot_id[static STORE_BOOT_ID_MAX]);

struct store_endpoint {
	uint32_t id;    /* never used for another name */
	uint32_t epoch; /* high-water mark; 0 for a new endpoint */
	char session[VMSIG_SESSION_MAX];
};

/* Finds or makes the row of `name`. VMSIG_ERR_IO; VMSIG_ERR_INTERNAL: the row is damaged. */
__attribute__((warn_unused_result)) int store_endpoint(
	struct store *store, const char *name, struct store_endpoint *ret_endpoint);

/* Raises the mark and voids the fingerprint. VMSIG_ERR_IO: it was not stored, which is noted
 * for the next start; the broker may go on. */
__attribute__((warn_unused_result)) int store_persist_epoch(
	struct store *store, uint32_t id, uint32_t epoch);
/* The fingerprint of the session of `epoch`; ignored when the mark is another. */
__attribute__((warn_unused_result)) int store_persist_session(
	struct store *store, uint32_t id, uint32_t epoch, const char *session);

/* ---- transactions, for the other modules of this folder ---- */

/* Opens a transaction when none is open. VMSIG_ERR_IO. */
__attribute__((warn_unused_result)) int store_begin(struct store *store);
/* Makes it durable; on failure nothing of it has happened. VMSIG_ERR_IO, -ENOMEM. */
__attribute__((warn_unused_result)) int store_commit(struct store *store);
void store_rollback(struct store *store);
/* Whether a transaction is open. */
bool store_is_open(struct store *store);
/* Whether commits wait for the disk. */
void store_set_power(struct store *store, bool power);

__attribute__((warn_unused_result)) int store_prepare(
	struct store *store, const char *const *sql, struct sqlite3_stmt **stmts, size_t n);
void store_finalize(struct sqlite3_stmt **stmts, size_t n);
/* Runs a statement that gives no rows, and resets it. VMSIG_ERR_IO, -ENOMEM. */
__attribute__((warn_unused_result)) int store_run(struct sqlite3_stmt *stmt);

/* Moves the WAL into the database and syncs. Has a connection of its own, for a pool
 * thread. VMSIG_ERR_IO. */
__attribute__((warn_unused_result)) int store_checkpoint(const char *dir);

#endif
