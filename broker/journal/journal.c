/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/journal/journal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/journal/state.h"
#include "broker/journal/wake.h"
#include "vmsig/vmsig_error.h"

#define HANG_NS 2000000000ull /* a call into the disk that takes so long is worth a word */

/* ---- opening ---- */

/* The newest entry is in the ring, or in the segments. */
static void find_newest(struct journal *journal)
{
	const struct ring *ring = &journal->ring;
	uint64_t head = atomic_load(&ring->state->head), at = atomic_load(&ring->state->tail);
	struct journal_mark *newest = &journal->committed;
	struct entry_view view;

	*newest = (struct journal_mark){
		.number = journal->catalog.number, .id = journal->catalog.id, .position = head};
	for (; ring_entry(ring, at, head, &view); at += view.size) {
		newest->number = view.entry.number;
		newest->id = view.entry.id;
	}
	journal->batch = *newest;
}

static void drain_set_up(struct journal *journal)
{
	struct drain *drain = &journal->drain;

	drain->ring = &journal->ring;
	drain->catalog = &journal->catalog;
	drain->dir_path = journal->dir_path;
	drain->dir = journal->dir;
	memcpy(drain->identity, journal->identity, sizeof(drain->identity));
	drain->segment_bytes = journal->segment_bytes;
	drain->entry_max = journal->entry_max;
	drain->last_id = journal->catalog.id;
	memcpy(drain->last_hash, journal->catalog.hash, sizeof(drain->last_hash));
	atomic_store(&drain->number, journal->catalog.number);
	atomic_store(&drain->synced, journal->catalog.number);
	journal->told_drained = journal->told_synced = journal->catalog.number;
}

int journal_open(struct journal **ret_journal, const struct journal_options *options, char *error,
	size_t error_size)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	int r = -ENOMEM;

	snprintf(error, error_size, "no memory for the journal");
	if (!journal)
		return r;
	journal->dir = journal->ring.shared.fd = journal->drain.segment.fd = -1;
	journal->drain.spare = -1;
	catalog_init(&journal->catalog);
	r = drain_init(&journal->drain);
	if (!r)
		r = recovery_run(journal, options, error, error_size);
	if (r) {
		journal_free(journal);
		return r;
	}
	drain_set_up(journal);
	find_newest(journal);
	error[0] = '\0';
	*ret_journal = journal;
	return 0;
}

const struct journal_found *journal_found(const struct journal *journal)
{
	return &journal->found;
}

const char *journal_error(const struct journal *journal)
{
	return journal->error[0] ? journal->error : journal->trouble;
}

/* ---- what the loop hears ---- */

static void tell_drained(struct journal *journal)
{
	uint64_t number = atomic_load(&journal->drain.number);

	if (number == journal->told_drained)
		return;
	journal->told_drained = number;
	if (journal->ops.drained)
		journal->ops.drained(journal->arg);
}

static void tell_synced(struct journal *journal)
{
	int failed = atomic_load(&journal->drain.failed);
	uint64_t synced = atomic_load(&journal->drain.synced), asked = journal->asked;
	bool answers = journal->waits && (failed || synced >= asked);

	if (!answers && synced == journal->told_synced)
		return;
	journal->told_synced = synced;
	if (answers)
		journal->waits = false;
	if (!journal->ops.synced)
		return;
	if (synced >= asked || !failed)
		journal->ops.synced(journal->arg, synced, 0);
	else
		journal->ops.synced(journal->arg, asked, failed);
}

static void trouble_find(struct journal *journal, char text[static DRAIN_ERROR_MAX + 1])
{
	uint64_t since = atomic_load(&journal->drain.since_ns);

	drain_trouble(&journal->drain, text);
	if (since && drain_now_ns() > since + HANG_NS)
		snprintf(text, DRAIN_ERROR_MAX + 1,
			"the disk of %s does not answer; what happens is kept in memory "
			"meanwhile",
			journal->dir_path);
}

static void tell_trouble(struct journal *journal)
{
	char text[DRAIN_ERROR_MAX + 1];

	trouble_find(journal, text);
	if (strcmp(text, journal->trouble) == 0)
		return;
	memcpy(journal->trouble, text, sizeof(text));
	if (journal->ops.trouble)
		journal->ops.trouble(journal->arg, text[0] ? text : NULL);
}

void journal_turn(struct journal *journal)
{
	if (journal->closed)
		return;
	tell_trouble(journal);
	tell_drained(journal);
	tell_synced(journal);
}

static void on_wake(void *arg)
{
	journal_turn(arg);
}

/* ---- life ---- */

int journal_start(
	struct journal *journal, struct uv_loop_s *loop, const struct journal_ops *ops, void *arg)
{
	int r = loop ? wake_new(&journal->wake, loop, on_wake, journal) : 0;

	if (r)
		return r;
	if (ops)
		journal->ops = *ops;
	journal->arg = arg;
	journal->drain.wake = journal->wake;
	drain_prepare(&journal->drain);
	/* What came of that is told as all else is. */
	wake_send(journal->wake);
	return drain_start(&journal->drain);
}

int journal_close(struct journal *journal, uint64_t patience_ms)
{
	bool again = journal->closed;

	journal->closed = true;
	if (!again)
		wake_close(journal->wake);
	if (!drain_stop(&journal->drain, patience_ms))
		return -ETIMEDOUT;
	return journal->drain.closed ? 0 : VMSIG_ERR_IO;
}

struct journal *journal_free(struct journal *journal)
{
	if (!journal || journal->drain.started)
		return NULL;
	drain_deinit(&journal->drain);
	shared_close(&journal->ring.shared);
	catalog_deinit(&journal->catalog);
	wake_free(journal->wake);
	if (journal->dir >= 0)
		close(journal->dir);
	free(journal);
	return NULL;
}

/* ---- how far it is ---- */

uint64_t journal_first(struct journal *journal)
{
	return catalog_first(&journal->catalog);
}

uint64_t journal_committed(const struct journal *journal)
{
	return journal->committed.number;
}

uint64_t journal_drained(const struct journal *journal)
{
	return atomic_load(&journal->drain.number);
}

uint64_t journal_synced(const struct journal *journal)
{
	return atomic_load(&journal->drain.synced);
}

uint64_t journal_sync(struct journal *journal)
{
	journal->asked = journal->committed.number;
	journal->waits = true;
	if (journal->asked > journal_synced(journal) && !journal_sync_failed(journal))
		drain_sync(&journal->drain, journal->asked);
	else
		wake_send(journal->wake);
	return journal->asked;
}

int journal_sync_failed(const struct journal *journal)
{
	return atomic_load(&journal->drain.failed);
}

void journal_reopen(struct journal *journal)
{
	drain_reopen(&journal->drain);
}

void journal_hurry(struct journal *journal)
{
	if (journal_drained(journal) < journal->committed.number)
		drain_wake_up(&journal->drain);
}

void journal_head(struct journal *journal, struct journal_head *ret_head)
{
	catalog_head(&journal->catalog, ret_head);
}

/* ---- retention ---- */

bool journal_prunable(struct journal *journal, uint64_t bytes, uint64_t before_ns, uint64_t keep,
	struct journal_cut *ret_cut)
{
	return !drain_is_pruning(&journal->drain) &&
	       catalog_prunable(&journal->catalog, bytes, before_ns, keep, ret_cut);
}

void journal_prune(struct journal *journal, const struct journal_cut *cut)
{
	drain_prune(&journal->drain, cut, journal->committed.number);
}

uint64_t journal_bytes(struct journal *journal)
{
	return catalog_bytes(&journal->catalog);
}
