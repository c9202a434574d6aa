/* SPDX-License-Identifier: Apache-2.0 */
/* The store's journal: its thread, those who hear of it, how far the audit log has come and is
 * saved. */
#include <string.h>

#include <utlist.h>

#include "broker/store/state.h"

static void on_drained(void *arg)
{
	struct store *store = arg;
	struct store_watcher *watcher, *next;

	DL_FOREACH_SAFE (store->watchers, watcher, next) {
		if (watcher->events->drained)
			watcher->events->drained(watcher->arg);
	}
}

static void on_synced(void *arg, uint64_t number, int result)
{
	struct store *store = arg;
	struct store_watcher *watcher, *next;

	DL_FOREACH_SAFE (store->watchers, watcher, next) {
		if (watcher->events->synced)
			watcher->events->synced(watcher->arg, number, result);
	}
}

static void on_trouble(void *arg, const char *sentence)
{
	struct store *store = arg;
	struct store_watcher *watcher, *next;

	DL_FOREACH_SAFE (store->watchers, watcher, next) {
		if (watcher->events->trouble)
			watcher->events->trouble(watcher->arg, sentence);
	}
}

int store_start_journal(struct store *store)
{
	static const struct journal_ops ops = {
		.drained = on_drained, .synced = on_synced, .trouble = on_trouble};
	int r = journal_start(store->journal, store->loop, &ops, store);

	store->started = !r;
	store->save_ms = store_now_ms() + STORE_SAVE_MS;
	return r;
}

void store_mark_audit(const struct store *store, struct watermark *mark)
{
	struct journal_head head;

	if (!store->journal)
		return;
	journal_head(store->journal, &head);
	mark->audit = head.id;
	memcpy(mark->audit_hash, head.hash, STORE_HASH);
}

void store_want_snapshot(struct store *store)
{
	store->wants_save = true;
}

uint64_t store_saved(const struct store *store)
{
	return store->saved;
}

uint64_t store_lost_audit(const struct store *store, uint8_t ret_hash[STORE_HASH])
{
	memcpy(ret_hash, store->lost_hash, STORE_HASH);
	return store->lost_id;
}
