/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <utlist.h>

#include "broker/store/state.h"
#include "vmsig/vmsig_error.h"

/* Bodies of one thing that begins: an intent and a result of many ranges, with their changes. */
#define BEGINNING_BYTES (64u << 10)
/* Of answers and leases in memory. Beyond half of it who writes more than others waits, and ended
 * leases go early, with their answers; beyond it everybody does. */
#define KEPT_MAX (512ull << 20)

uint64_t store_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void store_note_now(struct store *store, const struct watermark *mark)
{
	(void)!watermark_write(&store->lock, mark);
	(void)!watermark_write(&store->run, mark);
}

/* The one in memory has it at once, the other one when a thread comes to it. */
void store_note(struct store *store)
{
	store->mark_changed = true;
	if (store->run_is_memory)
		(void)!watermark_write(&store->run, &store->mark);
}

/* ---- transactions ---- */

bool store_is_open(struct store *store)
{
	return store->open;
}

void store_set_owner(struct store *store, void (*flush)(void *arg), void *arg)
{
	store->flush = flush;
	store->flush_arg = arg;
}

int store_alone(struct store *store)
{
	if (store->open && store->flush)
		store->flush(store->flush_arg);
	return store->open ? VMSIG_ERR_INTERNAL : 0;
}

int store_begin(struct store *store)
{
	if (store->open)
		return 0;
	feed_begin(&store->feed);
	store->open = true;
	store->spoiled = false;
	return 0;
}

int store_commit(struct store *store)
{
	if (!store->open)
		return 0;
	if (store->spoiled) {
		store_rollback(store);
		return VMSIG_ERR_IO;
	}
	if (store->journal)
		journal_commit(store->journal);
	for (size_t i = 0; i < store->nundos; i++)
		tables_keep(&store->undos[i]);
	store->nundos = 0;
	store->open = false;
	return 0;
}

void store_rollback(struct store *store)
{
	if (!store->open)
		return;
	if (store->journal)
		journal_rollback(store->journal);
	while (store->nundos)
		tables_undo(&store->tables, &store->undos[--store->nundos]);
	feed_rollback(&store->feed);
	store->open = false;
}

static int reserve_undo(struct store *store)
{
	size_t size = store->undos_size ? store->undos_size * 2 : 64;
	struct undo *grown;

	if (store->nundos < store->undos_size)
		return 0;
	grown = reallocarray(store->undos, size, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	store->undos = grown;
	store->undos_size = size;
	return 0;
}

/* To the journal, and to what the snapshot lacks. */
static int change_record(struct store *store, const struct change *change)
{
	size_t len = change_size(change);
	uint8_t *body, *copy;
	int r;

	if (!store->journal)
		return 0;
	copy = feed_add(&store->feed, len);
	if (!copy)
		return -ENOMEM;
	r = journal_append(store->journal, JOURNAL_STATE, NULL, len, &body);
	if (r)
		return r;
	change_encode(change, copy);
	memcpy(body, copy, len);
	return 0;
}

int store_change(struct store *store, const struct change *change)
{
	int r = store_begin(store);

	if (!r)
		r = reserve_undo(store);
	if (!r)
		r = change_record(store, change);
	if (!r)
		r = tables_apply(&store->tables, change, &store->undos[store->nundos]);
	if (!r)
		store->nundos++;
	else
		store->spoiled = true;
	return r;
}

const char *store_error(struct store *store)
{
	const char *error = store->journal ? journal_error(store->journal) : store->unusable;

	return error[0] ? error : "there is no memory, or no room";
}

/* In a transaction of its own; synced: with all that was committed before it, soon. */
static int change_alone(struct store *store, const struct change *change, bool synced)
{
	int r = store_alone(store);

	if (r)
		return r;
	r = store_change(store, change);
	if (!r)
		r = store_commit(store);
	else
		store_rollback(store);
	if (!r && synced && store->journal) {
		store->unsynced = 0;
		(void)journal_sync(store->journal);
	}
	return r == -ENOMEM ? r : r ? VMSIG_ERR_IO : 0;
}

/* ---- endpoints ---- */

static int endpoint_get(struct store *store, const char *name, struct store_endpoint *endpoint)
{
	const struct table_endpoint *found = tables_endpoint_named(&store->tables, name);

	if (!found)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	if (found->damaged)
		return VMSIG_ERR_INTERNAL;
	endpoint->id = found->id;
	endpoint->epoch = found->epoch;
	memcpy(endpoint->session, found->session, sizeof(endpoint->session));
	return 0;
}

int store_endpoint(struct store *store, const char *name, struct store_endpoint *ret_endpoint)
{
	const struct change add = {.kind = CHANGE_ENDPOINT,
		.endpoint = store->tables.last_endpoint + 1,
		.epoch = store->tables.epoch_floor,
		.bytes = name,
		.len = strlen(name)};
	int r = endpoint_get(store, name, ret_endpoint);

	if (r != VMSIG_ERR_NO_SUCH_ENDPOINT)
		return r;
	if (!add.endpoint)
		return VMSIG_ERR_INTERNAL;
	r = change_alone(store, &add, true);
	return r ? r : endpoint_get(store, name, ret_endpoint);
}

bool store_knows(const struct store *store, const char *name)
{
	return tables_endpoint_named(&store->tables, name) != NULL;
}

size_t store_names(const struct store *store)
{
	return HASH_COUNT(store->tables.endpoints);
}

/* How much the endpoint's epoch rises by; nothing that it is known for: one. */
static uint64_t epoch_rise(const struct store *store, uint32_t id, uint32_t epoch)
{
	const struct table_endpoint *endpoint = tables_endpoint(&store->tables, id);

	if (!endpoint)
		return 1;
	return epoch > endpoint->epoch ? epoch - endpoint->epoch : 0;
}

int store_persist_epoch(struct store *store, uint32_t id, uint32_t epoch)
{
	const struct change raise = {.kind = CHANGE_EPOCH, .endpoint = id, .epoch = epoch};
	uint64_t rise = epoch_rise(store, id, epoch);
	int r = change_alone(store, &raise, ++store->unsynced >= STORE_SYNC_EVERY);

	store->mark.total += rise;
	store->mark.behind |= r != 0;
	if (epoch > store->mark.epoch)
		store->mark.epoch = epoch;
	store_note(store);
	return r;
}

int store_persist_session(struct store *store, uint32_t id, uint32_t epoch, const char *session)
{
	const struct change set = {.kind = CHANGE_SESSION,
		.endpoint = id,
		.epoch = epoch,
		.bytes = session,
		.len = strlen(session)};

	return change_alone(store, &set, false);
}

/* ---- the disk ---- */

static uint64_t kept_bytes(const struct store *store)
{
	return store->tables.answers.bytes + store->tables.lease_bytes;
}

bool store_is_crowded(const struct store *store)
{
	return kept_bytes(store) > KEPT_MAX / 2;
}

enum store_pressure store_pressure(const struct store *store)
{
	enum journal_pressure pressure =
		store->journal ? journal_pressure(store->journal) : JOURNAL_PRESSURE_NONE;

	if (pressure == JOURNAL_PRESSURE_FULL || kept_bytes(store) > KEPT_MAX)
		return STORE_PRESSURE_FULL;
	if (pressure == JOURNAL_PRESSURE_HIGH || store_is_crowded(store))
		return STORE_PRESSURE_HIGH;
	return STORE_PRESSURE_NONE;
}

bool store_reclaim(struct store *store)
{
	return !store->journal || !journal_refusal(store->journal, BEGINNING_BYTES);
}

const char *store_refusal(const struct store *store)
{
	if (store->damage[0])
		return store->damage;
	if (store->backlog[0])
		return store->backlog;
	return store->journal ? journal_refusal(store->journal, BEGINNING_BYTES) : NULL;
}

const char *store_unusable(const struct store *store)
{
	return store->unusable[0] ? store->unusable : NULL;
}

uint64_t store_sync(struct store *store)
{
	return store->journal ? journal_sync(store->journal) : 0;
}

int store_sync_failed(const struct store *store)
{
	return store->journal ? journal_sync_failed(store->journal) : 0;
}

void store_reopen(struct store *store)
{
	if (store->journal)
		journal_reopen(store->journal);
}

void store_watch(struct store *store, struct store_watcher *watcher)
{
	DL_APPEND(store->watchers, watcher);
}

void store_unwatch(struct store *store, struct store_watcher *watcher)
{
	if (watcher->prev)
		DL_DELETE(store->watchers, watcher);
	watcher->prev = watcher->next = NULL;
}

void store_turn(struct store *store)
{
	if (store->journal && store->started)
		journal_turn(store->journal);
}

struct journal *store_journal(const struct store *store)
{
	return store->journal;
}

const char *store_dir(const struct store *store)
{
	return store->dir;
}

const char *store_run_dir(const struct store *store)
{
	return store->run_dir[0] ? store->run_dir : NULL;
}
