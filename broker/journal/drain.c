/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/journal/drain.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "broker/journal/disk.h"
#include "broker/journal/segment.h"
#include "broker/journal/wake.h"
#include "proto/chain/auditchain.h"

#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull
#define WRITE_BYTES (1u << 20)     /* of one write(2) */
#define POLL_NS (1 * NS_PER_MS)    /* entries of so long share a write */
#define IDLE_POLLS 64u             /* then it sleeps until it is woken */
#define RETRY_NS (500 * NS_PER_MS) /* after the disk has taken nothing */
/* Steps of nice(2): below the loop, above scans of memory, which can wait longer. */
#define LOWER_PRIORITY 5

/* ---- from the ring to the segment ---- */

/* What fits into one write. */
struct piece {
	uint64_t from, to; /* positions of the ring */
	uint64_t id;
	uint8_t hash[JOURNAL_HASH];
};

/* Chains and sums in place; doing it twice changes nothing. 0, or -errno. */
static int piece_add(struct drain *drain, struct piece *piece, const struct entry_view *view)
{
	int r = 0;

	if (view->hash) {
		r = auditchain_hash(
			drain->md, piece->hash, view->entry.body, view->entry.len, piece->hash);
		piece->id = view->entry.id;
	}
	if (r)
		return disk_fail(drain, -EIO, "the audit log cannot be chained: no SHA-256");
	entry_seal(ring_at(drain->ring, piece->to), view, piece->hash);
	piece->to += view->size;
	return 0;
}

static int piece_collect(struct drain *drain, struct piece *piece, uint64_t head)
{
	uint64_t room = drain->segment.fd >= 0 ? drain->segment.size - drain->segment.end : 0;
	int r = 0;

	while (!r && piece->to < head && piece->to - piece->from < WRITE_BYTES) {
		struct entry_view view;

		/* Only this process writes to it: something has gone astray here. */
		if (!ring_entry(drain->ring, piece->to, head, &view)) {
			atomic_store(&drain->failed, -EBADMSG);
			return disk_fail(drain, -EBADMSG,
				"the journal's ring is damaged; nothing is granted or written "
				"until vmsigd is started anew");
		}
		if (piece->to - piece->from + view.size > room)
			break;
		r = piece_add(drain, piece, &view);
	}
	return r;
}

/* The thread's own position, and whether the disk has room for what comes behind it. */
static void publish(struct drain *drain, uint64_t tail)
{
	atomic_store(&drain->granted, tail + disk_room(drain));
	atomic_store_explicit(&drain->ring->state->tail, tail, memory_order_release);
}

static void piece_settle(struct drain *drain, const struct piece *piece)
{
	uint64_t number = atomic_load(&drain->number);

	for (uint64_t at = piece->from; at < piece->to;) {
		struct entry_view view;

		if (!ring_entry(drain->ring, at, piece->to, &view))
			break;
		catalog_extend(drain->catalog, &view);
		number = view.entry.number;
		at += view.size;
	}
	drain->segment.end += piece->to - piece->from;
	drain->last_id = piece->id;
	memcpy(drain->last_hash, piece->hash, sizeof(drain->last_hash));
	atomic_store(&drain->number, number);
	publish(drain, piece->to);
}

static int piece_write(struct drain *drain, const struct piece *piece)
{
	int r;

	disk_begin(drain);
	r = segment_write(drain->segment.fd, ring_at(drain->ring, piece->from),
		piece->to - piece->from, drain->segment.end);
	disk_end(drain);
	if (!r)
		return 0;
	return disk_fail(
		drain, r, "cannot write to the journal in %s: %s", drain->dir_path, strerror(-r));
}

/* One write; with room for none it begins the next segment. */
static int move_some(struct drain *drain, uint64_t head)
{
	struct piece piece = {.id = drain->last_id};
	int r;

	piece.from = piece.to = atomic_load(&drain->ring->state->tail);
	memcpy(piece.hash, drain->last_hash, sizeof(piece.hash));
	r = piece_collect(drain, &piece, head);
	if (r)
		return r;
	if (piece.to == piece.from) {
		r = disk_roll(drain);
		publish(drain, piece.from);
		return r;
	}
	r = piece_write(drain, &piece);
	if (!r)
		piece_settle(drain, &piece);
	return r;
}

static uint64_t ring_head(const struct drain *drain)
{
	return atomic_load(&drain->ring->state->head);
}

static bool is_empty(const struct drain *drain)
{
	return atomic_load(&drain->ring->state->tail) == ring_head(drain);
}

/* What is there by now, and no more: who appends all the time keeps nobody waiting for what was
 * asked for. */
static int move_all(struct drain *drain)
{
	const uint64_t head = ring_head(drain);
	int r = 0;

	while (!r && atomic_load(&drain->ring->state->tail) < head)
		r = move_some(drain, head);
	return r;
}

/* The next segment is made as soon as there is none, and not when it is needed. */
static int have_spare(struct drain *drain)
{
	int r = disk_make_spare(drain);

	publish(drain, atomic_load(&drain->ring->state->tail));
	return r;
}

/* ---- what was asked for ---- */

static int sync_asked(struct drain *drain, const struct drain_orders *orders)
{
	if (orders->sync <= atomic_load(&drain->synced))
		return 0;
	return disk_sync(drain);
}

/* What tells of the cut is on the disk before the segments go. */
static int prune_asked(struct drain *drain, const struct drain_orders *orders)
{
	int r;

	if (!orders->prune || atomic_load(&drain->number) < orders->cut_after)
		return 0;
	r = atomic_load(&drain->synced) < orders->cut_after ? disk_sync(drain) : 0;
	if (r)
		return r;
	disk_prune(drain, orders->cut.number);
	pthread_mutex_lock(&drain->lock);
	/* Another cut may have come meanwhile. */
	if (drain->orders.cut.number == orders->cut.number)
		drain->orders.prune = false;
	pthread_mutex_unlock(&drain->lock);
	return 0;
}

static void trouble_clear(struct drain *drain)
{
	pthread_mutex_lock(&drain->lock);
	drain->trouble[0] = '\0';
	pthread_mutex_unlock(&drain->lock);
}

/* After a failed sync nothing is done but what was asked for to get over it. */
static int recover_asked(struct drain *drain, const struct drain_orders *orders)
{
	int r;

	if (!orders->reopen || atomic_load(&drain->failed) == -EBADMSG)
		return -EIO;
	pthread_mutex_lock(&drain->lock);
	drain->orders.reopen = false;
	pthread_mutex_unlock(&drain->lock);
	r = disk_renew(drain);
	publish(drain, atomic_load(&drain->ring->state->tail));
	return r;
}

static int step(struct drain *drain, const struct drain_orders *orders)
{
	int r, spare;

	if (atomic_load(&drain->failed)) {
		r = recover_asked(drain, orders);
		if (r)
			return r;
	}
	r = move_all(drain);
	if (r)
		return r;
	r = sync_asked(drain, orders);
	/* A full disk is no reason not to drop what may go. */
	spare = r ? r : have_spare(drain);
	if (!r)
		r = prune_asked(drain, orders);
	return r ? r : spare;
}

/* ---- the thread ---- */

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ns)
{
	struct timespec at = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};

	(void)pthread_cond_timedwait(cond, lock, &at);
}

/* With the lock: something is to be done that cannot wait for others to join it. */
static bool is_urgent(const struct drain *drain)
{
	const struct drain_orders *orders = &drain->orders;
	bool failed = atomic_load(&drain->failed);

	return orders->stop || (orders->reopen && failed) ||
	       (!failed && orders->sync > atomic_load(&drain->synced)) ||
	       (!failed && orders->position > atomic_load(&drain->ring->state->tail));
}

/* With the lock: says that it has to be woken, and then looks once more. */
static void sleep_deep(struct drain *drain)
{
	atomic_store(&drain->asleep, true);
	if (is_empty(drain) && !is_urgent(drain))
		(void)pthread_cond_wait(&drain->work, &drain->lock);
	atomic_store(&drain->asleep, false);
	drain->idle = 0;
}

static struct drain_orders wait_for_orders(struct drain *drain)
{
	struct drain_orders orders;

	pthread_mutex_lock(&drain->lock);
	if (drain->result && !drain->orders.stop && !drain->orders.reopen)
		wait_until(&drain->work, &drain->lock, monotonic_ns() + RETRY_NS);
	else if (!is_urgent(drain) && drain->idle < IDLE_POLLS)
		wait_until(&drain->work, &drain->lock, monotonic_ns() + POLL_NS);
	else if (!is_urgent(drain) && !drain->orders.prune)
		sleep_deep(drain);
	orders = drain->orders;
	pthread_mutex_unlock(&drain->lock);
	drain->idle = is_empty(drain) ? drain->idle + 1 : 0;
	return orders;
}

/* Nothing is left in the ring then, and the next broker need not look for it. */
static bool leave(struct drain *drain)
{
	if (drain->result || disk_sync(drain))
		return false;
	disk_begin(drain);
	(void)unlinkat(drain->dir, SEGMENT_SPARE, 0);
	shared_drop(&drain->ring->shared);
	disk_end(drain);
	return true;
}

static void end(struct drain *drain)
{
	bool closed = leave(drain);

	pthread_mutex_lock(&drain->lock);
	drain->closed = closed;
	drain->ended = true;
	pthread_cond_broadcast(&drain->rest);
	pthread_mutex_unlock(&drain->lock);
}

/* Whether there is anything to tell the loop. */
static bool work_once(struct drain *drain, const struct drain_orders *orders)
{
	uint64_t number = atomic_load(&drain->number), synced = atomic_load(&drain->synced);
	int before = drain->result;

	drain->result = step(drain, orders);
	if (before && !drain->result)
		trouble_clear(drain);
	return before != drain->result || number != atomic_load(&drain->number) ||
	       synced != atomic_load(&drain->synced);
}

/* Not far below it: when both want a CPU that a loop of a high priority has, the journal's ring
 * would fill up, and nothing could be written. */
static void yield_to_loop(void)
{
	int loop = getpriority(PRIO_PROCESS, (id_t)getpid());

	(void)!setpriority(PRIO_PROCESS, (id_t)gettid(), loop + LOWER_PRIORITY);
}

static void *drain_main(void *arg)
{
	struct drain *drain = arg;
	struct drain_orders orders;

	yield_to_loop();
	do {
		orders = wait_for_orders(drain);
		if (work_once(drain, &orders) && !orders.stop)
			wake_send(drain->wake);
	} while (!orders.stop);
	end(drain);
	return NULL;
}

/* ---- from the loop ---- */

void drain_wake_up(struct drain *drain)
{
	pthread_mutex_lock(&drain->lock);
	drain->orders.position = ring_head(drain);
	pthread_mutex_unlock(&drain->lock);
	pthread_cond_signal(&drain->work);
}

void drain_sync(struct drain *drain, uint64_t number)
{
	pthread_mutex_lock(&drain->lock);
	drain->orders.sync = number;
	pthread_mutex_unlock(&drain->lock);
	pthread_cond_signal(&drain->work);
}

void drain_prune(struct drain *drain, const struct journal_cut *cut, uint64_t after)
{
	pthread_mutex_lock(&drain->lock);
	drain->orders.cut = *cut;
	drain->orders.cut_after = after;
	drain->orders.prune = true;
	pthread_mutex_unlock(&drain->lock);
	pthread_cond_signal(&drain->work);
}

bool drain_is_pruning(struct drain *drain)
{
	bool prunes;

	pthread_mutex_lock(&drain->lock);
	prunes = drain->orders.prune;
	pthread_mutex_unlock(&drain->lock);
	return prunes;
}

void drain_reopen(struct drain *drain)
{
	int failed = atomic_load(&drain->failed);

	/* No segment mends a ring that is damaged. */
	if (!failed || failed == -EBADMSG)
		return;
	pthread_mutex_lock(&drain->lock);
	drain->orders.reopen = true;
	pthread_mutex_unlock(&drain->lock);
	pthread_cond_signal(&drain->work);
}

bool drain_stop(struct drain *drain, uint64_t patience_ms)
{
	uint64_t until = monotonic_ns() + patience_ms * NS_PER_MS;
	bool ended;

	if (!drain->started)
		return true;
	pthread_mutex_lock(&drain->lock);
	drain->orders.stop = true;
	pthread_cond_signal(&drain->work);
	while (!drain->ended && monotonic_ns() < until)
		wait_until(&drain->rest, &drain->lock, until);
	ended = drain->ended;
	pthread_mutex_unlock(&drain->lock);
	if (ended) {
		pthread_join(drain->thread, NULL);
		drain->started = false;
	}
	return ended;
}

void drain_trouble(struct drain *drain, char text[DRAIN_ERROR_MAX + 1])
{
	pthread_mutex_lock(&drain->lock);
	memcpy(text, drain->trouble, DRAIN_ERROR_MAX + 1);
	pthread_mutex_unlock(&drain->lock);
}

/* ---- life ---- */

int drain_init(struct drain *drain)
{
	pthread_condattr_t attr;
	int r = auditchain_md_new(&drain->md);

	if (r)
		return r;
	pthread_mutex_init(&drain->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&drain->work, &attr);
	pthread_cond_init(&drain->rest, &attr);
	pthread_condattr_destroy(&attr);
	drain->spare = -1;
	return 0;
}

void drain_deinit(struct drain *drain)
{
	if (drain->segment.fd >= 0)
		close(drain->segment.fd);
	if (drain->spare >= 0)
		close(drain->spare);
	if (!drain->md)
		return;
	drain->md = auditchain_md_free(drain->md);
	pthread_cond_destroy(&drain->rest);
	pthread_cond_destroy(&drain->work);
	pthread_mutex_destroy(&drain->lock);
}

void drain_prepare(struct drain *drain)
{
	drain->result = drain->segment.fd < 0 ? disk_roll(drain) : 0;
	if (!drain->result)
		drain->result = disk_make_spare(drain);
	publish(drain, atomic_load(&drain->ring->state->tail));
}

int drain_start(struct drain *drain)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	/* As broker/thread.h has it. */
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&drain->thread, NULL, drain_main, drain);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	drain->started = !r;
	return r;
}
