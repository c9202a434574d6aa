/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_STORE_H
#define BROKER_STORE_STORE_H

/*
 * The broker's durable state: one SQLite database in the state directory, which one broker
 * owns at a time (an OFD lock held for life). WAL with synchronous=NORMAL: a commit survives
 * a crash of the broker.
 *
 *   store.c       transactions, endpoints and their epochs
 *   opening.c     opening, and the stand-in when the database cannot be used
 *   schema.c      tables; what has to be made up for when the database is opened
 *   watermark.c   how far the broker had come, noted outside of the database
 *   keeper.c      checkpoints and inspection, on a thread
 *   audit.c       the audit log
 *   ledger.c      at most once
 *   marks.c       how far commands in flight came
 *   state.h       its inside
 *   lease_store.c where leases are durable
 *
 * An epoch never comes back (R3). What could bring one back, and why it does not:
 *
 * - the host's power, which may take the tail of the WAL and changes the boot id. What is
 *   written while opening is synced; the row of a new endpoint, and of the others every
 *   STORE_SYNC_EVERY-th with all before it, asks for a sync (store_wants_sync), which the loop
 *   does not wait for; so hardly more than that many epochs are lost, and the skip is twice that.
 * - a full, failing or damaged disk, a WAL whose damaged tail SQLite drops in silence, a state
 *   directory that was emptied or restored from a backup: the database is behind the watermark,
 *   or has none of its own.
 *
 * After either one, all epochs skip ahead: by STORE_SKIP, past the watermark, and past the
 * seconds of the wall clock since 2024; and fingerprints are void. The clock decides nothing
 * else, and one that was turned back only makes the skip smaller.
 *
 * A database that cannot be opened, read or written does not take the read plane: a stand-in
 * in memory gives ids (those of the database, as far as it can be read) and epochs, until
 * store_retry() has the real one.
 *
 * Disk space is bounded: the database by the retention of the audit log, whose pages are used
 * again, and the WAL by checkpoints that begin at 8 MiB; at 64 MiB nothing is written until it
 * is smaller (store_pressure). A reserve of STORE_RESERVE bytes is given back to a full disk,
 * so that ends of leases and retention can still be stored; until it could be allocated again
 * nothing is granted or written (store_refusal).
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
#define STORE_RESERVE (2u << 20) /* bytes: some thousand ends of leases, in pages of the WAL */
#define STORE_HASH 32
#define STORE_BOOT_ID_MAX 64

struct sqlite3;
struct sqlite3_stmt;
struct store;

/* Makes the directory (0700) when it is missing. `run` is a file beside the broker's sockets
 * for the second watermark. `error` gets a sentence, also when the database cannot be used and
 * a stand-in is: that is no failure. VMSIG_ERR_BUSY: another broker has the directory or the
 * file; -EPERM: others can write to it; VMSIG_ERR_UNSUPPORTED: written by a newer version. */
__attribute__((warn_unused_result)) int store_open_beside(
	struct store **ret_store, const char *dir, const char *run, char *error, size_t error_size);
/* The same without the file, without a reserve and without a stand-in: VMSIG_ERR_IO,
 * VMSIG_ERR_INTERNAL when it is damaged. */
__attribute__((warn_unused_result)) int store_open(
	struct store **ret_store, const char *dir, char *error, size_t error_size);
/* Why a stand-in is used; NULL: it is not. */
const char *store_unusable(const struct store *store);
/* Instead of a stand-in, on which no statement of another module may be left. 0: the database
 * is used from now on, and ids may be others. */
__attribute__((warn_unused_result)) int store_retry(struct store *store);
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

/* Raises the mark and voids the fingerprint. VMSIG_ERR_IO: it was not stored, which the
 * watermark says to the next start; the broker may go on. */
__attribute__((warn_unused_result)) int store_persist_epoch(
	struct store *store, uint32_t id, uint32_t epoch);
/* The fingerprint of the session of `epoch`; ignored when the mark is another. */
__attribute__((warn_unused_result)) int store_persist_session(
	struct store *store, uint32_t id, uint32_t epoch, const char *session);

/* ---- transactions, for the other modules of this folder ---- */

/* There is one transaction at a time. It may stay open across calls, and then has one owner: who
 * stores something by itself (an endpoint, an epoch, retention) has the owner end it first, so
 * that nothing hangs on what somebody else does with it. NULL: there is no owner any more. */
void store_set_owner(struct store *store, void (*flush)(void *arg), void *arg);
/* No transaction is open from here on. VMSIG_ERR_INTERNAL: one is, and nobody owns it. */
__attribute__((warn_unused_result)) int store_alone(struct store *store);
/* Opens a transaction when none is open. VMSIG_ERR_IO. */
__attribute__((warn_unused_result)) int store_begin(struct store *store);
/* Makes it durable; on failure nothing of it has happened. VMSIG_ERR_IO, -ENOMEM. */
__attribute__((warn_unused_result)) int store_commit(struct store *store);
void store_rollback(struct store *store);
/* Whether a transaction is open. */
bool store_is_open(struct store *store);
/* Whether what was committed should be brought to the disk, by store_sync() on a thread; once. */
bool store_wants_sync(struct store *store);
/* Brings what was committed before the call to the disk, and waits for that: from any thread but
 * the loop's. -errno: nobody knows what the disk has (syncer.h). */
__attribute__((warn_unused_result)) int store_sync(const char *dir);

__attribute__((warn_unused_result)) int store_prepare(
	struct store *store, const char *const *sql, struct sqlite3_stmt **stmts, size_t n);
void store_finalize(struct sqlite3_stmt **stmts, size_t n);
/* Runs a statement that gives no rows, and resets it. VMSIG_ERR_IO, -ENOMEM. */
__attribute__((warn_unused_result)) int store_run(struct sqlite3_stmt *stmt);

/* ---- room ---- */

/* The WAL is large enough for a checkpoint before its time. */
bool store_wants_checkpoint(const struct store *store);
/* On a pool thread, and one at a time with store_inspect(): moves the WAL into the database and
 * syncs. VMSIG_ERR_IO. Then, on the loop, store_checkpointed(). */
__attribute__((warn_unused_result)) int store_checkpoint(struct store *store, bool *ret_complete);
void store_checkpointed(struct store *store, bool complete);
/* At the end of each turn of the loop: a checkpoint that wants to hold writers may, and from the
 * first call on none does without that. */
void store_grant(struct store *store);
/* A checkpoint is about to end: who begins a transaction now waits for it. */
bool store_is_held(const struct store *store);

enum store_pressure {
	STORE_PRESSURE_NONE,
	STORE_PRESSURE_HIGH, /* who writes more than others has to wait */
	STORE_PRESSURE_FULL, /* everybody has */
};
/* How far checkpoints are behind. */
enum store_pressure store_pressure(const struct store *store);

/* Tries to have the reserve again. Whether it is there. */
bool store_reclaim(struct store *store);
/* Why nothing may be granted or written: the disk is full, or the database damaged. NULL: it
 * may. Borrowed. */
const char *store_refusal(const struct store *store);

/* ---- damage ---- */

/* A large database is not looked at when it is opened. */
bool store_wants_inspection(const struct store *store);
/* On a pool thread: `problem` gets what is damaged, or "". VMSIG_ERR_IO. Then, on the loop,
 * store_inspected(). */
__attribute__((warn_unused_result)) int store_inspect(
	struct store *store, char *problem, size_t size);
void store_inspected(struct store *store, const char *problem);

/* ---- the audit log's watermark ---- */

/* The newest record that is committed. */
void store_note_audit(struct store *store, uint64_t id, const uint8_t hash[static STORE_HASH]);
/* What had been noted when the store was opened; 0: nothing. */
uint64_t store_found_audit(const struct store *store, uint8_t ret_hash[static STORE_HASH]);

#endif
