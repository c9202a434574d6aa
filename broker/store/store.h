/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_STORE_H
#define BROKER_STORE_STORE_H

/*
 * The broker's durable state. What it knows is in memory, and every question is answered from
 * there; every change is an entry of the journal (broker/journal), in the batch that is the
 * transaction, so a commit survives a crash of the broker and costs no system call. A snapshot,
 * one SQLite database in the state directory, has it as it was at some entry: a start loads the
 * snapshot and makes the changes behind it. One broker owns the directory at a time (an OFD lock
 * held for life). After the start the loop never enters the disk: what has to, is an errand.
 *
 *   store.c       transactions, endpoints and their epochs
 *   opening.c     opening and closing, and the stand-in when the directory cannot be used
 *   loading.c     snapshot and journal become what the store knows; what was lost is made up for
 *   takeover.c    a directory of the version before the journal
 *   errand.c      what a thread does for the store
 *   journalling.c the journal, and who hears of it
 *   tables.c      what it knows
 *   answers.c     of that: what became of writes
 *   change.c      a change, as it is in the journal
 *   feed.c        changes that the snapshot lacks
 *   snapshot.c    the snapshot
 *   snapshot_load.c   its rows
 *   schema.c      its tables
 *   watermark.c   how far the broker had come, noted outside of both
 *   audit.c       the audit log
 *   ledger.c      at most once
 *   marks.c       how far commands in flight came
 *   state.h       its inside
 *   lease_store.c where leases are durable
 *   baggage.c     leases and answers that go with their guest to another host
 *
 * An epoch never comes back (R3). What could bring one back, and why it does not:
 *
 * - the host's power, which may take the tail of the journal and changes the boot id. What is
 *   made up for while opening is in the snapshot, which is synced, before an epoch is given; a
 *   new endpoint, and every STORE_SYNC_EVERY-th epoch with all before it, asks for a sync, which
 *   the loop does not wait for; so hardly more than that many epochs are lost, and the skip is
 *   twice that.
 * - a full, failing or damaged disk, a damaged tail of the journal, a ring that is gone, a state
 *   directory that was emptied or restored from a backup: what is there is behind the watermark,
 *   or the journal does not fit to its ring, or there is no watermark of its own.
 *
 * After either one, all epochs skip ahead: by STORE_SKIP, past the watermark, and past the
 * seconds of the wall clock since 2024; and fingerprints are void. The clock decides nothing
 * else, and one that was turned back only makes the skip smaller.
 *
 * A directory that cannot be opened, read or written does not take the read plane: a stand-in
 * in memory gives ids (those of the snapshot, as far as it can be read) and epochs, until an
 * errand has the real one. A disk that fills up, fails or hangs later takes nothing from who
 * reads: what has begun is recorded in the journal's ring, and nothing new begins
 * (store_refusal) until the disk takes it.
 *
 * Disk space is bounded: the journal by the retention of the audit log, the snapshot by what is
 * known.
 *
 * What is on the disk is foreign input: what does not make sense is refused, never trusted.
 * Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_event.h"

#define STORE_SKIP 4096u
#define STORE_SYNC_EVERY (STORE_SKIP / 2)
#define STORE_HASH 32

struct journal;
struct marks;
struct store;
struct uv_loop_s;

struct store_options {
	const char *dir; /* made (0700) when it is missing */
	/* A file beside the broker's sockets for the second watermark; where it is, the journal
	 * has its ring, if that is a tmpfs. NULL: none. */
	const char *run;
	struct uv_loop_s *loop; /* NULL, for tests: store_turn() does all that it would */
	uint64_t audit_bytes;   /* what the audit log may take on the disk; 0: much */
	bool strict;            /* no stand-in */
	bool marks;             /* store_marks() are opened with it */
};

/* `error` gets a sentence, also when the directory cannot be used and a stand-in is: that is no
 * failure. VMSIG_ERR_BUSY: another broker has the directory or the file; -EPERM: others can
 * write to it; VMSIG_ERR_UNSUPPORTED: written by a newer version; strict: VMSIG_ERR_IO, and
 * VMSIG_ERR_INTERNAL when it is damaged. */
__attribute__((warn_unused_result)) int store_open_with(struct store **ret_store,
	const struct store_options *options, char *error, size_t error_size);
/* Strictly, with the directory alone. */
__attribute__((warn_unused_result)) int store_open(
	struct store **ret_store, const char *dir, char *error, size_t error_size);
/* Records that were taken over from a database of the version before; 0: none were. */
uint64_t store_taken_over(const struct store *store);
/* Why a stand-in is used; NULL: it is not. */
const char *store_unusable(const struct store *store);
/* Brings what there is to the disk, and waits for that, for some seconds. Nothing may be stored
 * any more. The loop must run once more before store_close(). */
void store_stop(struct store *store);
/* Accepts NULL, returns NULL. */
struct store *store_close(struct store *store);
/* What is wrong with the disk, or the last failure; borrowed until the next call. */
const char *store_error(struct store *store);

struct store_endpoint {
	uint32_t id;    /* never used for another name */
	uint32_t epoch; /* high-water mark; 0 for a new endpoint */
	char session[VMSIG_SESSION_MAX];
};

/* Whether there is a row of `name`, and how many rows there are. */
bool store_knows(const struct store *store, const char *name);
size_t store_names(const struct store *store);
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
/* Opens a transaction when none is open. */
__attribute__((warn_unused_result)) int store_begin(struct store *store);
/* From here on it survives the broker. VMSIG_ERR_IO: a part of it had failed, and nothing of it
 * has happened. */
__attribute__((warn_unused_result)) int store_commit(struct store *store);
void store_rollback(struct store *store);
/* Whether a transaction is open. */
bool store_is_open(struct store *store);
/* NULL: a stand-in is used. Borrowed, and another one once it is not. */
struct journal *store_journal(const struct store *store);
const char *store_dir(const struct store *store);
const char *store_run_dir(const struct store *store); /* NULL: there is none */

/* ---- the disk ---- */

struct store_events {
	/* What was asked for by store_sync() up to this number is on the disk, or (-errno) never
	 * will be known to be. */
	void (*synced)(void *arg, uint64_t number, int result);
	/* More of the audit log can be read. */
	void (*drained)(void *arg);
	/* The disk takes nothing at the moment, as the sentence says, or (NULL) takes it again. */
	void (*trouble)(void *arg, const char *sentence);
};

/* Who hears of the disk, from the loop, never inside of a call. Any of the events may be NULL.
 * Belongs to the caller, until store_unwatch(). */
struct store_watcher {
	const struct store_events *events;
	void *arg;
	struct store_watcher *prev, *next; /* private */
};
void store_watch(struct store *store, struct store_watcher *watcher);
/* One that does not watch is left alone. */
void store_unwatch(struct store *store, struct store_watcher *watcher);
/* Now and then: that the disk hangs wakes nobody. */
void store_turn(struct store *store);
/* Asks for all that is committed by now to be brought to the disk; its number. */
uint64_t store_sync(struct store *store);
/* 0, or why no sync counts any more: -errno. */
int store_sync_failed(const struct store *store);
/* The administrator has seen to the disk: after a failed sync another segment is begun. */
void store_reopen(struct store *store);

enum store_pressure {
	STORE_PRESSURE_NONE,
	STORE_PRESSURE_HIGH, /* who writes more than others has to wait */
	STORE_PRESSURE_FULL, /* everybody has */
};
/* How far the disk is behind, and how much is kept in memory. */
enum store_pressure store_pressure(const struct store *store);
/* Whether so much of that is kept in memory that ended leases are to be forgotten early. */
bool store_is_crowded(const struct store *store);
/* Looks whether there is room again. */
bool store_reclaim(struct store *store);
/* Why nothing may be granted or written: the disk is full or takes nothing, or the state is
 * damaged. NULL: it may. Borrowed. */
const char *store_refusal(const struct store *store);

/* ---- marks ---- */

/* Gives away what outlives the process of commands in flight (marks.h), for good. It was opened
 * with the state, or an errand does it. VMSIG_ERR_WOULD_BLOCK: one will, ask again; else that has
 * failed, which is said once, as `error` does: the next call has it tried again. */
__attribute__((warn_unused_result)) int store_marks(
	struct store *store, struct marks **ret_marks, char *error, size_t error_size);

/* ---- errands: what a thread does for the store, one at a time ---- */

/* One should begin at once, and not when its time comes. */
bool store_errand_hurries(const struct store *store);
/* On the loop, now and then: whether there is something to do, which then has to be done. */
bool store_errand_begin(struct store *store);
/* On any thread. */
void store_errand_run(struct store *store);
/* On the loop, when it has come back, or will not be begun. */
void store_errand_end(struct store *store);
/* What the last one has brought about: the directory is used from now on, and ids may be others;
 * or an inspection has found damage (store_refusal()). */
bool store_errand_opened(struct store *store);
/* An inspection has found that the snapshot is. */
bool store_is_damaged(const struct store *store);
/* The snapshot is brought up to date soon, and not when its time has come. */
void store_want_snapshot(struct store *store);

/* ---- the audit log's watermark ---- */

/* The newest audit record that had been noted and is gone; 0: none is. */
uint64_t store_lost_audit(const struct store *store, uint8_t ret_hash[static STORE_HASH]);
/* Entry of the journal that the snapshot is of. */
uint64_t store_saved(const struct store *store);

#endif
