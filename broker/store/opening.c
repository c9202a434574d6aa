/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening the store, and doing without: when the state directory cannot be used, a stand-in in
 * memory gives the read plane ids and epochs, above all that were handed out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "broker/store/state.h"
#include "vmsig/vmsig_error.h"

#define LOCK_FILE "lock"
#define CLOSE_PATIENCE_MS 5000
/* A segment is so small a part of what the audit log may take: whole ones are dropped. */
#define SEGMENTS 4
#define SEGMENT_LEAST (4u << 20) /* less is full before the next one is allocated */

/* ---- the locks, with the watermarks in them ---- */

static int busy(const char *what, const char *path, char *error, size_t error_size)
{
	snprintf(error, error_size,
		"the %s %s is in use by another vmsigd; stop that one or give this one another "
		"%s",
		what, path, what);
	return VMSIG_ERR_BUSY;
}

int store_lock(struct store *store, char *error, size_t error_size)
{
	char path[PATH_MAX + sizeof(LOCK_FILE)];
	struct stat st;
	int r;

	if (mkdir(store->dir, 0700) < 0 && errno != EEXIST) {
		r = -errno;
		snprintf(error, error_size, "cannot make the state directory %s: %s", store->dir,
			strerror(-r));
		return r;
	}
	if (stat(store->dir, &st) == 0 && st.st_mode & (S_IWGRP | S_IWOTH)) {
		snprintf(error, error_size,
			"the state directory %s can be written by others (mode %04o), who could "
			"turn epochs back; chmod it to 0700",
			store->dir, st.st_mode & 07777u);
		return -EPERM;
	}
	snprintf(path, sizeof(path), "%s/" LOCK_FILE, store->dir);
	r = watermark_open(&store->lock, path);
	if (r == VMSIG_ERR_BUSY)
		return busy("state_dir", store->dir, error, error_size);
	if (r)
		snprintf(error, error_size, "cannot open %s: %s", path, strerror(-r));
	return r;
}

/* Without it only a restored state directory would go unnoticed. */
static int lock_run(struct store *store, const char *path, char *error, size_t error_size)
{
	int r = path ? watermark_open(&store->run, path) : 0;
	struct statfs fs;

	store->run_is_memory =
		path && !r && fstatfs(store->run.fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
	return r == VMSIG_ERR_BUSY ? busy("socket", path, error, error_size) : 0;
}

static void marks_read(struct store *store)
{
	struct watermark other;

	watermark_read(&store->lock, &store->mark);
	watermark_read(&store->run, &other);
	watermark_merge(&store->mark, &other);
	store->found = store->mark;
	store->mark_known = true;
}

/* ---- the stand-in ---- */

static int standin_open(struct store *store, const char *why)
{
	struct change skip;
	int r;

	snprintf(store->unusable, sizeof(store->unusable), "%s", why);
	/* A directory that comes back has to know that it was not followed. */
	store->mark.behind = true;
	store->mark.total = store->found.total;
	store_note_now(store, &store->mark);
	tables_init(&store->tables);
	snapshot_peek(store->dir, &store->tables);
	skip = store_skip(store, true);
	r = store_change(store, &skip);
	return r ? r : store_commit(store);
}

/* ---- life ---- */

static bool is_fatal(int r)
{
	return r == VMSIG_ERR_BUSY || r == -EPERM || r == VMSIG_ERR_UNSUPPORTED || r == -ENOMEM;
}

void store_try_marks(const struct store *store, struct store_marks *marks)
{
	marks->result = marks_open(&marks->marks, store->dir, store_run_dir(store), marks->error,
		sizeof(marks->error));
}

int store_marks(struct store *store, struct marks **ret_marks, char *error, size_t error_size)
{
	struct store_marks *marks = &store->marks;
	int r = marks->result;

	if (r) {
		snprintf(error, error_size, "%s", marks->error);
		*marks = (struct store_marks){0};
		return r;
	}
	if (!marks->marks) {
		marks->wanted = true;
		return VMSIG_ERR_WOULD_BLOCK;
	}
	*ret_marks = marks->marks;
	*marks = (struct store_marks){0};
	return 0;
}

static int open_state(struct store *store, char *error, size_t error_size)
{
	int r = store_load(store, error, error_size);

	if (!r)
		r = store_start_journal(store);
	if (r)
		store_unload(store);
	else
		store_note_now(store, &store->mark);
	return r;
}

static int store_start(
	struct store *store, const struct store_options *options, char *error, size_t error_size)
{
	int r = lock_run(store, options->run, error, error_size), state = 0;

	if (!r)
		state = store_lock(store, error, error_size);
	if (r || is_fatal(state))
		return r ? r : state;
	marks_read(store);
	if (!state)
		state = open_state(store, error, error_size);
	if (!state && options->marks)
		store_try_marks(store, &store->marks);
	/* Without a second lock another broker could be at work. */
	if (is_fatal(state) || (state && (options->strict || store->run.fd < 0)))
		return state;
	return state ? standin_open(store, error) : 0;
}

/* "/run/vmsig" of "/run/vmsig/ctx.sock.mark". */
static void run_dir_of(struct store *store, const char *run)
{
	const char *slash = run ? strrchr(run, '/') : NULL;

	if (slash)
		snprintf(store->run_dir, sizeof(store->run_dir), "%.*s",
			slash == run ? 1 : (int)(slash - run), run);
}

static uint64_t segment_of(uint64_t audit_bytes)
{
	uint64_t bytes = audit_bytes / SEGMENTS & ~(uint64_t)4095;

	if (!audit_bytes || bytes > JOURNAL_SEGMENT_BYTES)
		return 0;
	return bytes < SEGMENT_LEAST ? SEGMENT_LEAST : bytes;
}

int store_open_with(struct store **ret_store, const struct store_options *options, char *error,
	size_t error_size)
{
	struct store *store = calloc(1, sizeof(*store));
	int r;

	snprintf(error, error_size, "out of memory");
	if (!store)
		return -ENOMEM;
	store->lock.fd = store->run.fd = -1;
	store->loop = options->loop;
	store->segment_bytes = segment_of(options->audit_bytes);
	snprintf(store->dir, sizeof(store->dir), "%s", options->dir);
	run_dir_of(store, options->run);
	tables_init(&store->tables);
	error[0] = '\0';
	r = store_start(store, options, error, error_size);
	if (r) {
		if (!error[0])
			snprintf(error, error_size, "out of memory");
		store_stop(store);
		store_close(store);
		return r;
	}
	*ret_store = store;
	return 0;
}

int store_open(struct store **ret_store, const char *dir, char *error, size_t error_size)
{
	const struct store_options options = {.dir = dir, .strict = true};

	return store_open_with(ret_store, &options, error, error_size);
}

uint64_t store_taken_over(const struct store *store)
{
	return store->taken_over;
}

void store_stop(struct store *store)
{
	struct watermark mark = store->mark;
	int r = 0;

	store_rollback(store);
	if (store->stopped)
		return;
	store->stopped = true;
	if (store->started)
		r = journal_close(store->journal, CLOSE_PATIENCE_MS);
	store->started = false;
	/* On a disk that hangs the note would wait like everything else. */
	if (r || store->errand.running || !store->mark_known)
		return;
	store_mark_audit(store, &mark);
	store_note_now(store, &mark);
}

/* What a thread that hangs may use for ever stays: the process is about to end. */
struct store *store_close(struct store *store)
{
	if (!store)
		return NULL;
	store_stop(store);
	if (store->errand.running)
		return NULL;
	marks_close(store->marks.marks);
	journal_free(store->journal);
	snapshot_close(store->snapshot);
	tables_deinit(&store->tables);
	feed_clear(&store->feed);
	feed_clear(&store->sealed);
	free(store->undos);
	watermark_close(&store->run);
	watermark_close(&store->lock);
	free(store);
	return NULL;
}
