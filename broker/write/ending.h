/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_ENDING_H
#define BROKER_WRITE_ENDING_H

/*
 * The end of a lease on its way into the log, and who waits to hear of it. No byte changes under
 * the lease from its end in the engine on; but a broker that is killed before the end is durable
 * leaves a lease that its holder takes up again. So nobody who asks for an end is told that it
 * is over before it is recorded. When it cannot be, they are told that, and who asks again waits
 * for the next try.
 *
 * A write that is refused meanwhile acknowledges nothing: it only was not done.
 */

#include "broker/write/state.h"

struct ending {
	struct desk *desk;
	uint64_t lease;
	uint32_t endpoint;
	bool open;     /* the lease is over, and that is not durable */
	unsigned refs; /* waits that have it */
	struct desk_wait *waits;
	UT_hash_handle hh; /* desk->endings */
};

/* Whether the lease is over, and its end is not durable yet; *ret_endpoint (may be NULL) is where
 * it was. */
bool ending_is_open(const struct desk *desk, uint64_t lease, uint32_t *ret_endpoint);
/* The wait has what it takes to hear of the end of the lease: whoever asks for that has this
 * before, so that nothing is over and then answered with a failure. -ENOMEM. */
__attribute__((warn_unused_result)) int ending_reserve(
	struct desk *desk, uint64_t lease, struct desk_wait *wait);
/* The wait, which was reserved, is answered with `error` when the end, which is open, is durable.
 */
void ending_await(struct desk_wait *wait, int error);
/* It has nothing reserved and is not answered any more; also when it was. */
void ending_cancel(struct desk_wait *wait);

/* The end is to be in the open batch, or in a later one. -ENOMEM. */
__attribute__((warn_unused_result)) int ending_begin(
	struct desk *desk, const struct lease_view *lease);
/* It is durable (0), or could not be made so: who waits is told. */
void ending_settle(struct desk *desk, uint64_t lease, int result);
/* Nobody is told. */
void endings_free(struct desk *desk);

#endif
