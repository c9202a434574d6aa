/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a thread does for the store: the watermarks, the snapshot, its inspection, the way back
 * from a stand-in, and the marks. The loop says what, and takes what came of it; meanwhile it goes
 * on.
 *
 * The snapshot gets changes only once the journal has synced them: after a power cut it is never
 * ahead of what the journal can prove.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/store/state.h"
#include "vmsig/vmsig_error.h"

#define SAVE_BYTES (32u << 20)     /* of changes are worth a snapshot */
#define SAVE_RETRY_MS 5000u        /* after one that failed */
#define BACKLOG_MAX (512ull << 20) /* of changes, in memory, that no snapshot takes */
#define RETRY_LEAST_MS 1000u       /* between two tries to open the directory */
#define RETRY_FACTOR 50u           /* rest per time that a try took */

/* ---- what there is to do ---- */

static bool audit_moved(const struct store *store)
{
	struct journal_head head;

	if (!store->journal)
		return false;
	journal_head(store->journal, &head);
	return head.id != store->mark.audit;
}

static void begin_note(struct store *store)
{
	struct store_errand *errand = &store->errand;

	errand->note = store->mark_changed || audit_moved(store);
	if (!errand->note)
		return;
	store_mark_audit(store, &store->mark);
	store->mark_changed = false;
	errand->mark = store->mark;
}

static bool is_save_due(const struct store *store, uint64_t now_ms)
{
	if (now_ms < store->retry_ms || journal_sync_failed(store->journal))
		return false;
	/* Retention waits for the number alone, too. */
	if (store->wants_save && store->saved < journal_committed(store->journal))
		return true;
	return store->feed.bytes && (store->feed.bytes > SAVE_BYTES || now_ms >= store->save_ms);
}

/* What is committed by now is asked to the disk, and goes into the next snapshot. */
static void seal(struct store *store)
{
	if (store_alone(store))
		return;
	feed_append(&store->sealed, &store->feed);
	store->sealed_number = journal_sync(store->journal);
	store->wants_save = false;
}

static void begin_save(struct store *store)
{
	struct store_errand *errand = &store->errand;
	uint64_t now_ms = store_now_ms();

	errand->save = false;
	if (!store->journal)
		return;
	if (store->sealed_number) {
		errand->save = now_ms >= store->retry_ms &&
			       journal_synced(store->journal) >= store->sealed_number;
		errand->number = store->sealed_number;
	} else if (is_save_due(store, now_ms)) {
		seal(store);
	}
}

static struct store *fresh_of(struct store *store)
{
	struct store *fresh = calloc(1, sizeof(*fresh));

	if (!fresh)
		return NULL;
	memcpy(fresh->dir, store->dir, sizeof(fresh->dir));
	memcpy(fresh->run_dir, store->run_dir, sizeof(fresh->run_dir));
	fresh->segment_bytes = store->segment_bytes;
	fresh->lock = store->lock;
	fresh->run.fd = -1;
	fresh->mark = fresh->found = store->mark;
	fresh->marks = store->marks;
	tables_init(&fresh->tables);
	return fresh;
}

static void begin_retry(struct store *store)
{
	struct store_errand *errand = &store->errand;

	errand->retry = store->unusable[0] && store_now_ms() >= store->retry_ms;
	if (!errand->retry)
		return;
	errand->fresh = fresh_of(store);
	errand->retry = errand->fresh != NULL;
}

static bool marks_are_due(const struct store *store)
{
	return store->marks.wanted && !store->marks.marks && !store->unusable[0];
}

bool store_errand_begin(struct store *store)
{
	struct store_errand *errand = &store->errand;

	if (errand->running)
		return false;
	*errand = (struct store_errand){.opened = errand->opened};
	begin_note(store);
	begin_save(store);
	begin_retry(store);
	errand->open_marks = marks_are_due(store);
	errand->inspect =
		!errand->save && store->snapshot && !snapshot_is_inspected(store->snapshot);
	errand->running = errand->note || errand->save || errand->retry || errand->inspect ||
			  errand->open_marks;
	return errand->running;
}

bool store_errand_hurries(const struct store *store)
{
	if (!store->journal || store->errand.running)
		return false;
	if (marks_are_due(store))
		return true;
	if (store_now_ms() < store->retry_ms)
		return false;
	return store->sealed_number ? journal_synced(store->journal) >= store->sealed_number
				    : is_save_due(store, store_now_ms());
}

/* ---- on the thread ---- */

static int save_body(void *arg, const uint8_t *body, size_t len)
{
	struct lease_range ranges[LEASE_RANGES_MAX];
	struct change change;
	int r = change_decode(&change, ranges, body, len);

	return r ? r : snapshot_apply(arg, &change);
}

static int save(struct store *store)
{
	int r = snapshot_begin(store->snapshot);

	if (!r)
		r = feed_each(&store->sealed, save_body, store->snapshot);
	if (!r)
		return snapshot_commit(store->snapshot, store->errand.number);
	snapshot_rollback(store->snapshot);
	return r;
}

static int retry(struct store_errand *errand)
{
	struct store *fresh = errand->fresh;
	int r = fresh->lock.fd < 0 ? store_lock(fresh, errand->error, sizeof(errand->error)) : 0;

	if (!r)
		r = store_load(fresh, errand->error, sizeof(errand->error));
	if (!r && !fresh->marks.marks)
		store_try_marks(fresh, &fresh->marks);
	return r;
}

void store_errand_run(struct store *store)
{
	struct store_errand *errand = &store->errand;
	uint64_t start_ms = store_now_ms();

	if (errand->note)
		store_note_now(store, &errand->mark);
	if (errand->inspect &&
		snapshot_inspect(store->snapshot, errand->problem, sizeof(errand->problem)))
		errand->problem[0] = '\0';
	if (errand->save)
		errand->result = save(store);
	if (errand->retry)
		errand->result = retry(errand);
	if (errand->open_marks)
		store_try_marks(store, &errand->marks);
	errand->took_ms = store_now_ms() - start_ms;
	errand->done = true;
}

/* ---- what came of it ---- */

static void end_save(struct store *store)
{
	uint64_t now_ms = store_now_ms();

	if (store->errand.result) {
		store->retry_ms = now_ms + SAVE_RETRY_MS;
		if (store->sealed.bytes + store->feed.bytes > BACKLOG_MAX)
			snprintf(store->backlog, sizeof(store->backlog),
				"the snapshot in state_dir cannot be written; the disk is full, or "
				"somebody else has " SNAPSHOT_FILE " open");
		return;
	}
	store->saved = store->sealed_number;
	store->sealed_number = 0;
	store->backlog[0] = '\0';
	store->save_ms = now_ms + STORE_SAVE_MS;
	feed_clear(&store->sealed);
}

static void end_inspect(struct store *store)
{
	if (store->errand.problem[0])
		snprintf(store->damage, sizeof(store->damage),
			"the database in state_dir is damaged (%.200s): nothing is written until "
			"it is restored from a backup or moved away, and vmsigd started again",
			store->errand.problem);
}

/* What the stand-in has given meanwhile must not come back either. */
static int catch_up(struct store *fresh, const struct store *store)
{
	struct change skip;
	int r;

	if (store->mark.epoch <= fresh->found.epoch && store->mark.total <= fresh->found.total)
		return 0;
	fresh->mark = store->mark;
	skip = store_skip(fresh, true);
	r = store_change(fresh, &skip);
	if (!r)
		r = store_commit(fresh);
	if (!r)
		(void)journal_sync(fresh->journal);
	fresh->mark.total = fresh->tables.total;
	return r;
}

/* `fresh` takes the place of the stand-in. */
static int use(struct store *store, struct store *fresh)
{
	int r = catch_up(fresh, store);

	fresh->loop = store->loop;
	if (r)
		return r;
	tables_deinit(&store->tables);
	free(store->undos);
	store->tables = fresh->tables;
	store->undos = fresh->undos;
	store->undos_size = fresh->undos_size;
	store->journal = fresh->journal;
	store->snapshot = fresh->snapshot;
	store->saved = fresh->saved;
	store->feed = fresh->feed;
	store->lock = fresh->lock;
	store->taken_over = fresh->taken_over;
	store->lost_id = fresh->lost_id;
	memcpy(store->lost_hash, fresh->lost_hash, STORE_HASH);
	store->mark = fresh->mark;
	store->mark.behind = false;
	store->unusable[0] = '\0';
	store->retry_ms = 0;
	store_note(store);
	return store_start_journal(store);
}

static void end_retry(struct store *store)
{
	struct store_errand *errand = &store->errand;
	struct store *fresh = errand->fresh;
	uint64_t rest_ms = errand->took_ms * RETRY_FACTOR;
	int r = errand->done ? errand->result : VMSIG_ERR_SHUTTING_DOWN;

	store->marks = fresh->marks;
	if (!r)
		r = use(store, fresh);
	errand->opened = !r;
	if (r) {
		store->lock = fresh->lock;
		store->retry_ms =
			store_now_ms() + (rest_ms > RETRY_LEAST_MS ? rest_ms : RETRY_LEAST_MS);
	}
	if (r && errand->error[0])
		snprintf(store->unusable, sizeof(store->unusable), "%s", errand->error);
	free(fresh);
}

void store_errand_end(struct store *store)
{
	struct store_errand *errand = &store->errand;

	errand->running = false;
	if (errand->note && !errand->done)
		store->mark_changed = true;
	if (errand->save && errand->done)
		end_save(store);
	if (errand->inspect && errand->done)
		end_inspect(store);
	if (errand->open_marks && errand->done)
		store->marks = errand->marks;
	if (errand->retry)
		end_retry(store);
}

bool store_errand_opened(struct store *store)
{
	bool opened = store->errand.opened;

	store->errand.opened = false;
	return opened;
}

bool store_is_damaged(const struct store *store)
{
	return store->damage[0];
}
