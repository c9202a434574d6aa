/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_JOURNAL_H
#define BROKER_JOURNAL_JOURNAL_H

/*
 * An append-only, hash-chained journal: what the broker has to know again after its end, and
 * the audit log. It knows nothing of what it stores.
 *
 * The loop appends entries to a batch in a ring in memory and publishes the batch with one
 * store to memory; it never enters the disk. The ring is a file on a tmpfs, so that from then
 * on a crash of the broker loses nothing. A thread of its own chains the entries and moves them
 * to segments, files in the state directory whose blocks were allocated before; it syncs when
 * somebody asks for that. What a power cut takes is the tail that nobody had synced.
 *
 *   journal.c   opening, starting, closing; what the loop hears of the thread
 *   batch.c     appending, and the room for it
 *   ring.c      the ring
 *   shared.c    files in memory that outlive the broker, for the ring and for others
 *   entry.c     what an entry is in the ring and in a segment
 *   crc32c.c    its sum
 *   segment.c   a segment: header, allocation, writing, scanning
 *   blocks.c    the index of a segment
 *   catalog.c   which segments there are
 *   recovery.c  what a crash or a power cut has left
 *   drain.c     the thread
 *   disk.c      its segment on the disk
 *   drain_object.h  what the two have
 *   reader.c    replay, and pages of the audit log
 *   state.h     what the loop owns of it
 *   wake.c      how the thread calls the loop
 *
 * Entries have numbers, 1, 2, 3..., and those of type AUDIT beside it ids of their own, also
 * consecutive, and hash(id) = SHA-256(hash(id - 1) | body) (proto/chain).
 *
 * A disk that is full, fails or hangs stops nobody until the ring is full: what has begun is
 * appended, and journal_refusal() says why nothing new may begin. It goes on by itself when
 * there is room again. Only a failed sync is final for its segment: nobody knows what the
 * kernel has dropped (journal_reopen()).
 *
 * Everything is called on the loop's thread, but journal_read(), which any thread may call.
 * Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOURNAL_HASH 32u
#define JOURNAL_BODY_MAX (3u << 20) /* bytes of one entry: a frame's data before and after */
#define JOURNAL_SEGMENT_BYTES (16u << 20)
#define JOURNAL_RING_BYTES (16u << 20)
#define JOURNAL_RESERVE_BYTES (2u << 20) /* some thousand ends of leases */

struct uv_loop_s;
struct journal;

/* ---- opening ---- */

struct journal_options {
	const char *state_dir; /* exists, and the caller has its lock */
	const char *run_dir;   /* of the broker's sockets: the ring is there when it is a tmpfs,
				* else in /dev/shm; NULL: in /dev/shm */
	/* 0: the constants above. The ring is a power of two; of a segment and of the ring one
	 * entry takes a quarter at most. */
	uint64_t segment_bytes, ring_bytes, reserve_bytes;
	/* A journal that is made anew goes on behind audit record `base_id`, whose hash this is. */
	uint64_t base_id;
	uint8_t base_hash[JOURNAL_HASH];
};

/* What was found. */
struct journal_found {
	bool fresh;        /* there was no journal */
	bool closed;       /* it was closed in order; else the broker was killed, or: */
	bool power_cut;    /* the host has booted since */
	bool ring_missing; /* of the same boot, so entries may be lost that a crash never takes */
	/* Bytes at the end that did not verify and were cut off. */
	uint64_t dropped_bytes;
	/* Entries of a ring that does not go on where the segments end: it, or they, come from
	 * another moment. They were dropped. */
	uint64_t dropped_entries;
	uint64_t ring_entries; /* that only the ring had */
};

/* Opens the journal in state_dir/journal, or makes it. `error` gets a sentence. VMSIG_ERR_IO: it
 * cannot be read or made; VMSIG_ERR_INTERNAL: it is damaged before its end;
 * VMSIG_ERR_UNSUPPORTED: written by a newer version; VMSIG_ERR_BUSY: its ring is in use. */
__attribute__((warn_unused_result)) int journal_open(struct journal **ret_journal,
	const struct journal_options *options, char *error, size_t error_size);
const struct journal_found *journal_found(const struct journal *journal);

enum journal_type {
	JOURNAL_AUDIT = 1,
	JOURNAL_STATE = 2, /* what the owner has to know again */
};

/* By what AUDIT entries are looked up. Names are their journal_key(); 0: none. */
struct journal_keys {
	uint64_t time_ns;
	uint32_t endpoint, tenant;
	uint16_t kind; /* below 64 */
};
/* Never 0 for a name; 0 for NULL and "". Two names may have the same key, seldom. */
uint32_t journal_key(const char *name);

struct journal_entry {
	enum journal_type type;
	uint64_t number;
	uint64_t id; /* of an AUDIT entry; of a STATE entry the one before it, or 0 */
	struct journal_keys keys;
	const uint8_t *body;
	size_t len;
};

/* Calls `each` for the entries above `after`, in order, from the segments and then the ring;
 * before journal_start() only. Ends with what `each` returns when that is not 0.
 * VMSIG_ERR_IO, VMSIG_ERR_INTERNAL: an entry is damaged, or retention has dropped `after` + 1;
 * journal_error() says more. */
__attribute__((warn_unused_result)) int journal_replay(struct journal *journal, uint64_t after,
	int (*each)(void *arg, const struct journal_entry *entry), void *arg);

/* Called from the loop, never inside of another call. Any may be NULL. */
struct journal_ops {
	/* More entries are in the segments (journal_drained()). */
	void (*drained)(void *arg);
	/* Entries up to `number` are on the disk, or (-errno) never will be known to be. */
	void (*synced)(void *arg, uint64_t number, int result);
	/* The disk takes nothing at the moment, as the sentence says, or (NULL) takes it again. */
	void (*trouble)(void *arg, const char *sentence);
};

/* Starts the thread. With no loop, which is for tests, journal_turn() does what the loop would. */
__attribute__((warn_unused_result)) int journal_start(
	struct journal *journal, struct uv_loop_s *loop, const struct journal_ops *ops, void *arg);
void journal_turn(struct journal *journal);

/* Waits until the segments have everything and are synced, or, a disk that hangs, for
 * `patience_ms`; then the ring keeps the rest for the next start, and -ETIMEDOUT tells it. The
 * loop must run once more before journal_free(). May be called again then, to wait longer. */
int journal_close(struct journal *journal, uint64_t patience_ms);
/* What a thread that hangs still uses is not freed: the process is about to end. Accepts NULL,
 * returns NULL. */
struct journal *journal_free(struct journal *journal);

/* Why the last call failed, or what is wrong with the disk; "" when nothing is. Borrowed until
 * the next call. */
const char *journal_error(const struct journal *journal);

/* ---- appending ---- */

/* Appends an entry of `len` bytes to the open batch, opens one if none is, and gives where its
 * body is to be put before the next call. Takes from the reserve, if there is no other room;
 * who begins something new asks journal_refusal() before. `keys` is for AUDIT, else NULL.
 * VMSIG_ERR_IO: the ring is full, and the batch is as it was; VMSIG_ERR_OUT_OF_RANGE: larger
 * than an entry can be. */
__attribute__((warn_unused_result)) int journal_append(struct journal *journal,
	enum journal_type type, const struct journal_keys *keys, size_t len, uint8_t **ret_body);
/* Of the next AUDIT entry; of the next entry. Rolled back with the batch. */
uint64_t journal_next_id(const struct journal *journal);
uint64_t journal_next_number(const struct journal *journal);

/* Publishes the batch: from here on it survives the broker. Cannot fail. */
void journal_commit(struct journal *journal);
/* Forgets it. */
void journal_rollback(struct journal *journal);
bool journal_is_open(const struct journal *journal); /* a batch is */

/* Why nothing new may begin that needs `bytes` of bodies (grants, writes), or NULL. Ends and
 * renewals of what is held need not ask. A quarter of the ring may begin while the next segment is
 * being allocated, as long as nothing is wrong with the disk. Borrowed until the next call. */
const char *journal_refusal(struct journal *journal, size_t bytes);

enum journal_pressure {
	JOURNAL_PRESSURE_NONE,
	JOURNAL_PRESSURE_HIGH, /* the thread is behind by half of the ring */
	JOURNAL_PRESSURE_FULL, /* only the reserve is left */
};
enum journal_pressure journal_pressure(const struct journal *journal);

/* ---- how far it is ---- */

/* The oldest entry that is left; one above the newest when none is. */
uint64_t journal_first(struct journal *journal);
/* Numbers of the newest entry that is committed, in the segments, and on the disk. */
uint64_t journal_committed(const struct journal *journal);
uint64_t journal_drained(const struct journal *journal);
uint64_t journal_synced(const struct journal *journal);

/* Asks for all that is committed by now to be brought to the disk: its number, which
 * ops.synced() names, or passes. Those who ask while one sync is under way share the next. */
uint64_t journal_sync(struct journal *journal);
/* 0, or why no sync counts any more: -errno. */
int journal_sync_failed(const struct journal *journal);
/* Begins a new segment after a failed sync, when the old one's contents could be copied; what
 * becomes of it is told by ops.trouble(). Nothing happens when no sync has failed. */
void journal_reopen(struct journal *journal);
/* Somebody waits for journal_drained(): the thread, which else may rest for a millisecond, does
 * not. */
void journal_hurry(struct journal *journal);

/* The audit log as far as it is in the segments. */
struct journal_head {
	uint64_t id; /* 0: it is empty */
	uint8_t hash[JOURNAL_HASH];
	uint64_t first;               /* the oldest record that is left; id + 1 when none is */
	uint8_t anchor[JOURNAL_HASH]; /* hash of the record before that */
};
void journal_head(struct journal *journal, struct journal_head *ret_head);

/* ---- reading ---- */

/* AUDIT entries with after < id, and id <= until unless that is 0, that fit all that is not 0.
 * Names are compared by their keys only: the caller looks again. */
struct journal_query {
	uint64_t after, until;
	uint64_t from_ns, to_ns; /* both inclusive */
	uint32_t endpoint, tenant;
	uint64_t kinds; /* bit 1 << kind */
	bool newest;    /* the newest ones that fit instead of the oldest */
	uint32_t limit; /* rows; 0: as many as fit */
	size_t bytes;   /* of bodies and hashes, but at least one row; 0: 512 KiB */
};

struct journal_row {
	uint64_t id;
	uint8_t *body; /* of the page */
	size_t len;
	uint8_t hash[JOURNAL_HASH];
};

struct journal_page {
	struct journal_row *rows; /* oldest first */
	size_t n;
	/* There may be more that fits: ask again with `after` = next (newest: `until` = next). A
	 * page may be empty and yet have more, so that one call is some milliseconds of work. */
	bool more;
	uint64_t next;
};

/* From any thread. VMSIG_ERR_IO, VMSIG_ERR_INTERNAL: damaged; -ENOMEM. */
__attribute__((warn_unused_result)) int journal_read(
	struct journal *journal, const struct journal_query *query, struct journal_page *ret_page);
void journal_page_free(struct journal_page *page);

/* ---- retention ---- */

/* Everything up to this entry, of which `id` is the last AUDIT entry, whose hash this is. */
struct journal_cut {
	uint64_t number;
	uint64_t id;
	uint8_t hash[JOURNAL_HASH];
};

/* Whether the oldest segments may go, because all take more than `bytes`, or because all of their
 * entries are older than `before_ns`; but none with an entry above `keep`, which the owner's
 * snapshot does not have, never the newest, and none while a cut is under way. The caller records
 * the cut as it likes, and then calls journal_prune(), which drops the segments once that record is
 * in a segment itself. */
bool journal_prunable(struct journal *journal, uint64_t bytes, uint64_t before_ns, uint64_t keep,
	struct journal_cut *ret_cut);
void journal_prune(struct journal *journal, const struct journal_cut *cut);

/* Bytes of all segments. */
uint64_t journal_bytes(struct journal *journal);

#endif
