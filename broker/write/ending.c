/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/ending.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/mishap.h"

static struct ending *ending_find(const struct desk *desk, uint64_t lease)
{
	struct ending *ending = NULL;

	HASH_FIND(hh, desk->endings, &lease, sizeof(lease), ending);
	return ending;
}

static struct ending *ending_get(struct desk *desk, uint64_t lease)
{
	struct ending *ending = ending_find(desk, lease);

	if (ending)
		return ending;
	ending = MISHAP("ending-memory") ? NULL : calloc(1, sizeof(*ending));
	if (!ending)
		return NULL;
	ending->desk = desk;
	ending->lease = lease;
	HASH_ADD(hh, desk->endings, lease, sizeof(ending->lease), ending);
	if (!ending->hh.tbl) {
		free(ending);
		return NULL;
	}
	return ending;
}

static void ending_put(struct ending *ending)
{
	if (--ending->refs || ending->open)
		return;
	HASH_DEL(ending->desk->endings, ending);
	free(ending);
}

bool ending_is_open(const struct desk *desk, uint64_t lease, uint32_t *ret_endpoint)
{
	const struct ending *ending = ending_find(desk, lease);
	struct lease_view view;
	bool in_engine = lease_is_ending(desk->engine, lease, &view);

	if (!in_engine && !(ending && ending->open))
		return false;
	if (ret_endpoint)
		*ret_endpoint = in_engine ? view.endpoint : ending->endpoint;
	return true;
}

int ending_reserve(struct desk *desk, uint64_t lease, struct desk_wait *wait)
{
	wait->ending = ending_get(desk, lease);
	if (!wait->ending)
		return -ENOMEM;
	wait->ending->refs++;
	return 0;
}

void ending_await(struct desk_wait *wait, int error)
{
	wait->error = error;
	DL_APPEND(wait->ending->waits, wait);
}

void ending_cancel(struct desk_wait *wait)
{
	struct ending *ending = wait->ending;

	if (!ending)
		return;
	if (wait->prev)
		DL_DELETE(ending->waits, wait);
	wait->prev = wait->next = NULL;
	wait->ending = NULL;
	ending_put(ending);
}

void desk_wait_cancel(struct desk_wait *wait)
{
	ending_cancel(wait);
}

static const char unrecorded[] =
	"the lease is over, and the broker cannot record that at the moment; its log says why. Ask "
	"again: a broker that is killed before that would give it back to its holder";

/* One by one: telling may cancel others. */
static void answer(struct ending *ending, int result)
{
	struct desk_wait *wait;

	while ((wait = ending->waits)) {
		ending_cancel(wait);
		if (result)
			wait->done(wait, VMSIG_ERR_IO, unrecorded);
		else
			wait->done(wait, wait->error, NULL);
	}
}

int ending_begin(struct desk *desk, const struct lease_view *lease)
{
	struct ending *ending = ending_get(desk, lease->id);

	if (!ending)
		return -ENOMEM;
	ending->endpoint = lease->endpoint;
	ending->open = true;
	return 0;
}

void ending_settle(struct desk *desk, uint64_t lease, int result)
{
	struct ending *ending = ending_find(desk, lease);

	if (!ending)
		return;
	ending->refs++;
	answer(ending, result);
	ending->open = result != 0;
	ending_put(ending);
}

void endings_free(struct desk *desk)
{
	struct ending *ending, *next;

	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, desk->endings, ending, next) {
		ending->open = false;
		ending->refs++;
		while (ending->waits)
			ending_cancel(ending->waits);
		ending_put(ending);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
}
