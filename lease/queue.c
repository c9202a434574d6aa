/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of an endpoint: who waits for whom. A waiter may go when no held lease and no waiter
 * before it wants the same bytes (I9). Each watches one that is in its way, the nearest waiter
 * before it or else a held lease, and is looked at again only when that one has gone, so that
 * what happens to a lease costs those who wait for just that lease.
 */
#include "lease/life.h"

/* Both are sorted and overlap nothing of their own. */
static bool overlap(const struct lease *a, const struct lease *b, size_t *steps)
{
	size_t i = 0, j = 0;

	while (i < a->view.nranges && j < b->view.nranges) {
		++*steps;
		if (a->ranges[i].last < b->ranges[j].start)
			i++;
		else if (b->ranges[j].last < a->ranges[i].start)
			j++;
		else
			return true;
	}
	return false;
}

/* Before: below 0. Ids are given in the order of arrival. */
static int order(const struct lease *a, const struct lease *b)
{
	if (a->view.priority != b->view.priority)
		return a->view.priority > b->view.priority ? -1 : 1;
	return (a->view.id > b->view.id) - (a->view.id < b->view.id);
}

/* ---- who watches whom ---- */

static void unsettle(struct lease *lease)
{
	DL_APPEND2(lease->endpoint->unsettled, lease, watch_prev, watch_next);
}

static void unwatch(struct lease *lease)
{
	struct lease **list =
		lease->blocker ? &lease->blocker->watchers : &lease->endpoint->unsettled;

	DL_DELETE2(*list, lease, watch_prev, watch_next);
	lease->blocker = NULL;
}

void queue_watch(struct lease *lease, struct lease *blocker)
{
	unwatch(lease);
	lease->blocker = blocker;
	DL_APPEND2(blocker->watchers, lease, watch_prev, watch_next);
}

void queue_wake(struct lease *lease)
{
	struct lease_endpoint *endpoint = lease->endpoint;
	struct lease *watcher;

	if (!lease->watchers)
		return;
	DL_FOREACH2 (lease->watchers, watcher, watch_next)
		watcher->blocker = NULL;
	DL_CONCAT2(endpoint->unsettled, lease->watchers, watch_prev, watch_next);
	lease->watchers = NULL;
	/* Who comes first finds the fewest before it. The sort empties the list and fills it
	 * again, of which the analyser sees the first half. */
	/* cppcheck-suppress nullPointer */
	DL_SORT2(endpoint->unsettled, order, watch_prev, watch_next);
}

/* ---- the queue ---- */

void queue_insert(struct lease *lease)
{
	struct lease_endpoint *endpoint = lease->endpoint;
	struct lease *before = endpoint->waiters ? endpoint->waiters->prev : NULL;

	/* Most are as urgent as the last one; the head's prev is the tail. */
	while (before && before->view.priority < lease->view.priority)
		before = before == endpoint->waiters ? NULL : before->prev;
	if (before)
		DL_APPEND_ELEM(endpoint->waiters, before, lease);
	else
		DL_PREPEND(endpoint->waiters, lease);
	endpoint->nwaiters++;
	unsettle(lease);
}

void queue_remove(struct lease *lease)
{
	struct lease_endpoint *endpoint = lease->endpoint;

	unwatch(lease);
	DL_DELETE(endpoint->waiters, lease);
	endpoint->nwaiters--;
}

struct lease *queue_before(const struct lease *lease, size_t *steps)
{
	const struct lease *at = lease;

	while (at != lease->endpoint->waiters) {
		at = at->prev;
		if (overlap(at, lease, steps))
			return (struct lease *)(uintptr_t)at;
	}
	return NULL;
}

struct lease *queue_holder(const struct lease *lease, size_t *steps)
{
	for (size_t i = 0; i < lease->view.nranges; i++) {
		struct lease *held;
		size_t cursor = 0;

		++*steps;
		held = rangeset_overlap(&lease->endpoint->held, &lease->ranges[i], &cursor);
		if (held)
			return held;
	}
	return NULL;
}

bool queue_is_blocked(const struct lease *lease)
{
	size_t steps = 0;

	return queue_holder(lease, &steps) || queue_before(lease, &steps);
}

/* One whose time is over before the holder has to go does not have it go. */
static bool waits_so_long(const struct lease *waiter, const struct lease *held)
{
	return held->view.revoke_at_ns == UINT64_MAX ||
	       waiter->view.wait_until_ns > held->view.revoke_at_ns;
}

bool queue_wants(const struct lease *held)
{
	struct lease *waiter;
	size_t steps = 0;

	DL_FOREACH (held->endpoint->waiters, waiter) {
		if (waiter->view.priority <= held->view.priority)
			return false;
		if (waits_so_long(waiter, held) && overlap(waiter, held, &steps))
			return true;
	}
	return false;
}
