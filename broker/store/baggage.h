/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_BAGGAGE_H
#define BROKER_STORE_BAGGAGE_H

/*
 * What goes with a guest to another host: its leases, and what became of the writes under each of
 * them, as one value. It is a line that names it, and behind that changes (change.h), each with its
 * length in 4 bytes in front (little-endian): a GRANT, whose endpoint means nothing and whose
 * moments are spans (granted: since then; deadline, hold_until: until then), and behind it an
 * INTEND, of no record, and right behind it a SETTLE for each answer of that lease. Who takes it in
 * has foreign input: it is taken as a whole, or refused.
 */

#include <stddef.h>
#include <stdint.h>

#include "lease/lease.h"

struct store;

/* Zeroed but for `max`: an empty one. */
struct baggage {
	uint8_t *data; /* the owner's, free() */
	size_t len, size;
	size_t max; /* bytes */
};

/* Puts a lease in, as it is now. A write under it that has no outcome has `unknown`, a packed
 * WriteResult; NULL: VMSIG_ERR_BUSY. VMSIG_ERR_QUOTA: it has no room; -ENOMEM. On an error nothing
 * was put in. */
__attribute__((warn_unused_result)) int baggage_add(struct baggage *baggage,
	const struct store *store, const struct lease_view *lease, uint64_t now_ns,
	const void *unknown, size_t unknown_len);

/* Makes all of it durable here, as the endpoint's, in a transaction of its own, and calls `each`
 * for the leases. One that is here already is replaced; another one that has its number stays, and
 * the one that came is left out. VMSIG_ERR_INTERNAL: it is damaged, and nothing was done; or as
 * store_commit(). */
__attribute__((warn_unused_result)) int baggage_take(struct store *store, uint32_t endpoint,
	uint64_t now_ns, const void *data, size_t len,
	void (*each)(void *arg, const struct lease_view *lease), void *arg);

#endif
