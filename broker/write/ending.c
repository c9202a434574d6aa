/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/ending.h"

#include <errno.h>
#include <stdlib.h>

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
	ending = calloc(1, sizeof(*ending));
	if (!ending)
		return NULL;
	ending->lease = lease;
	HASH_ADD(hh, desk->endings, lease, sizeof(ending->lease), ending);
	if (!ending->hh.tbl) {
		free(ending);
		return NULL;
	}
	return ending;
}

bool ending_is_open(const struct desk *desk, uint64_t lease, uint32_t *ret_endpoint)
{
	const struct ending *ending = ending_find(desk, lease);
	struct lease_view view;
	bool in_engine = lease_is_ending(desk->engine, lease, &view);

	if (!ending && !in_engine)
		return false;
	if (ret_endpoint)
		*ret_endpoint = in_engine ? view.endpoint : ending->endpoint;
	return true;
}

int ending_await(struct desk *desk, uint64_t lease, struct desk_wait *wait, int error)
{
	struct ending *ending = ending_get(desk, lease);

	if (!ending)
		return -ENOMEM;
	wait->error = error;
	wait->ending = ending;
	DL_APPEND(ending->waits, wait);
	return 0;
}

void ending_cancel(struct desk_wait *wait)
{
	if (wait->ending)
		DL_DELETE(wait->ending->waits, wait);
	wait->ending = NULL;
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

/* Without memory whoever asks again hears that there is no such lease. */
void ending_begin(struct desk *desk, const struct lease_view *lease)
{
	struct ending *ending = ending_get(desk, lease->id);

	if (ending)
		ending->endpoint = lease->endpoint;
}

void ending_settle(struct desk *desk, uint64_t lease, int result)
{
	struct ending *ending = ending_find(desk, lease);

	if (!ending)
		return;
	answer(ending, result);
	if (result)
		return;
	HASH_DEL(desk->endings, ending);
	free(ending);
}

void endings_free(struct desk *desk)
{
	struct ending *ending, *next;

	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, desk->endings, ending, next) {
		while (ending->waits)
			ending_cancel(ending->waits);
		HASH_DEL(desk->endings, ending);
		free(ending);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
}
