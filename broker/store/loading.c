/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshot and journal become what the store knows; what has to be made up for is: entries that
 * were lost, a backup that was restored, a boot that is over.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broker/journal/shared.h"
#include "broker/store/state.h"
#include "vmsig/vmsig_error.h"

#define CLOSE_PATIENCE_MS 1000

/* Seconds since this moment (2024-01-01) are an epoch that no count of resets has reached, as
 * long as there were less than one a second. */
#define EPOCH_ORIGIN 1704067200
/* A clock that is far off must not use up the numbers. */
#define EPOCH_FROM_CLOCK_MAX (UINT32_MAX / 2)

/* ---- the journal's entries ---- */

struct load_replay {
	struct store *store;
	int (*take)(struct store *store, const struct change *change);
	bool damaged;
};

/* What makes no sense is not there; what a newer version wrote is more than that. */
static int replay_entry(void *arg, const struct journal_entry *entry)
{
	struct lease_range ranges[LEASE_RANGES_MAX];
	struct load_replay *replay = arg;
	struct change change;
	int r;

	if (entry->type != JOURNAL_STATE)
		return 0;
	r = change_decode(&change, ranges, entry->body, entry->len);
	if (!r)
		r = replay->take(replay->store, &change);
	replay->damaged |= r == VMSIG_ERR_INTERNAL;
	return r == VMSIG_ERR_INTERNAL ? 0 : r;
}

static int take_into_tables(struct store *store, const struct change *change)
{
	uint8_t *copy;
	int r = tables_apply(&store->tables, change, NULL);

	if (r)
		return r;
	/* Those of leases that were forgotten: of a whole journal they must not all be kept. */
	(void)answers_clear_some(&store->tables.answers);
	copy = feed_add(&store->feed, change_size(change));
	if (!copy)
		return -ENOMEM;
	change_encode(change, copy);
	return 0;
}

static int take_into_snapshot(struct store *store, const struct change *change)
{
	return snapshot_apply(store->snapshot, change);
}

/* Behind what the snapshot has. One that is older than all that is left lacks what was between. */
static int replay_all(struct load_replay *replay)
{
	struct journal *journal = replay->store->journal;
	uint64_t after = replay->store->saved;

	if (after > journal_committed(journal))
		return 0;
	if (after + 1 < journal_first(journal)) {
		replay->damaged = true;
		after = journal_first(journal) - 1;
	}
	return journal_replay(journal, after, replay_entry, replay);
}

/* ---- what was lost ---- */

static uint32_t epoch_from_clock(void)
{
	time_t now = time(NULL);
	uint64_t seconds = now > EPOCH_ORIGIN ? (uint64_t)(now - EPOCH_ORIGIN) : 0;

	return seconds < EPOCH_FROM_CLOCK_MAX ? (uint32_t)seconds : EPOCH_FROM_CLOCK_MAX;
}

struct change store_skip(const struct store *store, bool names)
{
	uint32_t floor = epoch_from_clock(), mark = store->mark.epoch;

	/* A note is of up to a second before: some more may have been given. */
	mark = mark < UINT32_MAX - STORE_SKIP ? mark + STORE_SKIP : UINT32_MAX;
	if (mark > floor)
		floor = mark;
	return (struct change){
		.kind = CHANGE_SKIP, .endpoint = STORE_SKIP, .epoch = floor, .number = names};
}

/* Of a directory that is what this boot's broker left, nothing is. */
static bool is_behind(const struct store *store, bool damaged)
{
	const struct journal_found *found = journal_found(store->journal);

	return damaged || store->mark.behind || store->mark.total > store->tables.total ||
	       store->saved > journal_committed(store->journal) || found->ring_missing ||
	       found->dropped_bytes || found->dropped_entries || (found->fresh && store->saved);
}

/* The changes that make up for it; how many. */
static size_t amends(const struct store *store, bool behind, const char *boot_id,
	struct change changes[static 2])
{
	bool other = strcmp(store->tables.boot_id, boot_id) != 0;
	bool fresh = !store->tables.boot_id[0];
	time_t now = time(NULL);
	size_t n = 0;

	/* A new directory has no boot yet. */
	if (behind || (other && !fresh))
		changes[n++] = store_skip(store, behind);
	/* Leases do not outlive the boot whose clock their deadlines are on. */
	if (other)
		changes[n++] = (struct change){.kind = CHANGE_BOOT,
			.number = now > 1 ? (uint64_t)now : 1,
			.bytes = boot_id,
			.len = strlen(boot_id)};
	return n;
}

/* The snapshot gets all of it, and is synced, before an epoch is given. */
static int make_amends(struct store *store, const struct change *changes, size_t n)
{
	struct load_replay replay = {.store = store, .take = take_into_snapshot};
	int r = snapshot_begin(store->snapshot);

	if (!r)
		r = replay_all(&replay);
	for (size_t i = 0; !r && i < n; i++) {
		r = snapshot_apply(store->snapshot, &changes[i]);
		if (!r)
			r = store_change(store, &changes[i]);
	}
	if (!r)
		r = store_commit(store);
	if (!r)
		r = snapshot_commit(store->snapshot, journal_committed(store->journal));
	if (r) {
		snapshot_rollback(store->snapshot);
		store_rollback(store);
		return r;
	}
	store->saved = journal_committed(store->journal);
	feed_clear(&store->feed);
	return 0;
}

static int account(struct store *store, bool damaged)
{
	bool behind = is_behind(store, damaged);
	char boot_id[SHARED_BOOT_ID_MAX];
	struct change changes[2];
	int r = shared_boot_id(boot_id);
	size_t n;

	if (r)
		return r;
	n = amends(store, behind, boot_id, changes);
	return n ? make_amends(store, changes, n) : 0;
}

/* ---- the audit log ---- */

/* Whether the record that was noted as the newest is still there. Retention never drops it. */
static int find_lost(struct store *store)
{
	const struct journal_query query = {
		.after = store->found.audit - 1, .until = store->found.audit, .limit = 1};
	struct journal_page page = {0};
	struct journal_head head;
	int r;

	journal_head(store->journal, &head);
	if (!store->found.audit || store->found.audit < head.first)
		return 0;
	r = journal_read(store->journal, &query, &page);
	if (r)
		return r;
	if (!page.n || memcmp(page.rows[0].hash, store->found.audit_hash, STORE_HASH) != 0) {
		store->lost_id = store->found.audit;
		memcpy(store->lost_hash, store->found.audit_hash, STORE_HASH);
	}
	journal_page_free(&page);
	return 0;
}

/* ---- all of it ---- */

static int open_journal(struct store *store, char *error, size_t error_size)
{
	struct journal_options options = {.state_dir = store->dir,
		.run_dir = store_run_dir(store),
		.segment_bytes = store->segment_bytes};
	int r = 0;

	if (snapshot_is_old(store->snapshot))
		r = takeover(store, &options, error, error_size);
	return r ? r : journal_open(&store->journal, &options, error, error_size);
}

static int load(struct store *store, char *error, size_t error_size)
{
	struct load_replay replay = {.store = store, .take = take_into_tables};
	int r = snapshot_open(&store->snapshot, store->dir, error, error_size);

	if (!r)
		r = open_journal(store, error, error_size);
	if (!r)
		r = snapshot_load(store->snapshot, &store->tables, &store->saved);
	if (!r)
		r = replay_all(&replay);
	if (!r)
		r = find_lost(store);
	if (!r)
		r = account(store, replay.damaged);
	return r;
}

static const char *reason(const struct store *store, int r)
{
	const char *journal = store->journal ? journal_error(store->journal) : "";

	if (journal[0])
		return journal;
	return store->snapshot ? snapshot_error(store->snapshot) : strerror(r < 0 ? -r : EIO);
}

int store_load(struct store *store, char *error, size_t error_size)
{
	int r;

	error[0] = '\0';
	r = load(store, error, error_size);
	if (r && !error[0])
		snprintf(error, error_size, "cannot use the state in %.150s: %.200s", store->dir,
			reason(store, r));
	if (r) {
		store_unload(store);
		return r;
	}
	store->mark.total = store->tables.total;
	store->mark.behind = false;
	store->unusable[0] = '\0';
	return 0;
}

void store_unload(struct store *store)
{
	if (store->journal) {
		(void)!journal_close(store->journal, CLOSE_PATIENCE_MS);
		store->journal = journal_free(store->journal);
	}
	store->snapshot = snapshot_close(store->snapshot);
	feed_clear(&store->feed);
	tables_deinit(&store->tables);
}
