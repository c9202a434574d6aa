/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_STATE_H
#define BROKER_STORE_STATE_H

/*
 * The store's inside: shared by the files of this folder, and by nobody else. All of it belongs
 * to the loop thread, but for `snapshot`, `sealed` and `errand` while an errand runs (errand.c):
 * then they are that thread's.
 */

#include <limits.h>

#include "broker/journal/journal.h"
#include "broker/store/feed.h"
#include "broker/store/marks.h"
#include "broker/store/snapshot.h"
#include "broker/store/store.h"
#include "broker/store/tables.h"
#include "broker/store/watermark.h"

/* Marks that nobody has taken yet (store_marks()). */
struct store_marks {
	struct marks *marks;
	bool wanted; /* somebody has asked */
	int result;  /* of the last try, while nobody has heard of it */
	char error[512];
};

/* What a thread is doing for the store. */
struct store_errand {
	bool running;
	bool done;   /* the thread has come to its end */
	bool opened; /* store_errand_opened() */
	bool note;   /* write `mark` */
	bool save;   /* the sealed changes, up to `number` */
	bool inspect;
	bool retry; /* to use the directory, instead of a stand-in */
	bool open_marks;
	struct watermark mark;
	uint64_t number;
	int result;          /* of `save` and `retry` */
	char problem[256];   /* what `inspect` has found */
	char error[512];     /* of `retry` */
	struct store *fresh; /* what `retry` has loaded */
	uint64_t took_ms;
	struct store_marks marks; /* of `open_marks` */
};

struct store {
	char dir[PATH_MAX], run_dir[PATH_MAX];
	struct uv_loop_s *loop;
	uint64_t segment_bytes;
	struct store_tables tables;
	struct journal *journal; /* NULL: a stand-in, which keeps nothing */
	bool started, stopped;   /* the journal's thread is */
	struct store_watcher *watchers;

	/* The open transaction. */
	bool open, spoiled;
	struct undo *undos;
	size_t nundos, undos_size;
	void (*flush)(void *arg);
	void *flush_arg;

	struct watermark_file lock, run;
	struct watermark mark;  /* what both say, or will */
	struct watermark found; /* what they said when the state was loaded */
	bool mark_known;        /* they were read */
	bool mark_changed;      /* since an errand took it */
	bool has_run, run_is_memory;
	uint64_t taken_over; /* records of a database of before */
	uint64_t lost_id;    /* of the newest audit record that is gone; 0: none is */
	uint8_t lost_hash[STORE_HASH];

	struct snapshot *snapshot;
	uint64_t saved;             /* entry that the snapshot is of */
	struct feed feed, sealed;   /* what came behind it; what is to go into the next one */
	uint64_t sealed_number;     /* entry that the sealed changes go to; 0: none are sealed */
	uint64_t save_ms, retry_ms; /* not before that moment */
	bool wants_save;
	struct store_errand errand;
	struct store_marks marks;

	char unusable[512]; /* why a stand-in is used; "" */
	char damage[512];   /* what an inspection has found; "" */
	char backlog[256];  /* the snapshot is too far behind; "" */
	uint32_t unsynced;  /* epochs since the last that was to be synced */
};

#define STORE_SAVE_MS 60000u /* changes are saved in a snapshot after this time */

/* Milliseconds of CLOCK_MONOTONIC. */
uint64_t store_now_ms(void);

/* Applies a change in the open transaction, which it opens. VMSIG_ERR_IO, -ENOMEM: the
 * transaction has to be rolled back. */
__attribute__((warn_unused_result)) int store_change(
	struct store *store, const struct change *change);
/* Notes how far the store has come; what fails is not worth more than that. */
void store_note(struct store *store);
/* Both files, now: not on the loop. */
void store_note_now(struct store *store, const struct watermark *mark);

/* ---- opening.c ---- */

/* Opens them, or says why not; on any thread. */
void store_try_marks(const struct store *store, struct store_marks *marks);
/* Makes the directory and locks it. */
__attribute__((warn_unused_result)) int store_lock(
	struct store *store, char *error, size_t error_size);

/* ---- loading.c ---- */

/* Loads the state of store->dir into it, which has none yet, with what was lost made up for; on
 * any thread. `error` gets a sentence. */
__attribute__((warn_unused_result)) int store_load(
	struct store *store, char *error, size_t error_size);
/* Undoes that. */
void store_unload(struct store *store);
/* Past all that was handed out; `names`: for those that are not known as well. */
struct change store_skip(const struct store *store, bool names);

/* ---- journalling.c ---- */

/* The journal's thread starts. */
__attribute__((warn_unused_result)) int store_start_journal(struct store *store);
/* The newest audit record that a segment has. */
void store_mark_audit(const struct store *store, struct watermark *mark);

/* ---- takeover.c ---- */

/* Moves the log of a database of before the journal into a journal, which is made with these
 * options, and waits until it is on the disk. `error` gets a sentence. */
__attribute__((warn_unused_result)) int takeover(
	struct store *store, const struct journal_options *options, char *error, size_t error_size);

#endif
