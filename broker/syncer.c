/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/syncer.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log.h"
#include "broker/store/store.h"

struct syncer {
	struct store *store;
	struct store_watcher watcher;
	void (*done)(void *arg, uint64_t number, int result);
	void *arg;
	bool complained;
};

static void on_synced(void *arg, uint64_t number, int result)
{
	struct syncer *syncer = arg;

	if (result && !syncer->complained)
		log_error("the state could not be brought to the disk; nothing is granted or "
			  "written any more, until vmsigd is reloaded or started anew on a disk "
			  "that works",
			LOG_STR("state_dir", store_dir(syncer->store)),
			LOG_STR("error", strerror(-result)));
	syncer->complained = result != 0;
	if (syncer->done)
		syncer->done(syncer->arg, number, result);
}

static const struct store_events events = {.synced = on_synced};

uint64_t syncer_ask(struct syncer *syncer)
{
	return store_sync(syncer->store);
}

int syncer_failed(const struct syncer *syncer)
{
	return store_sync_failed(syncer->store);
}

void syncer_watch(
	struct syncer *syncer, void (*done)(void *arg, uint64_t number, int result), void *arg)
{
	syncer->done = done;
	syncer->arg = arg;
}

int syncer_new(struct syncer **ret_syncer, struct store *store)
{
	struct syncer *syncer = calloc(1, sizeof(*syncer));

	if (!syncer)
		return -ENOMEM;
	syncer->store = store;
	syncer->watcher = (struct store_watcher){.events = &events, .arg = syncer};
	store_watch(store, &syncer->watcher);
	*ret_syncer = syncer;
	return 0;
}

struct syncer *syncer_free(struct syncer *syncer)
{
	if (!syncer)
		return NULL;
	store_unwatch(syncer->store, &syncer->watcher);
	free(syncer);
	return NULL;
}
