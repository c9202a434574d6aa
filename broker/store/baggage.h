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

#include <stdbool.h>
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

#define BAGGAGE_STEP (16u << 10) /* bytes that one step looks through: well below a millisecond */

/* Taking it in; zeroed but for the first ones. */
struct baggage_intake {
	uint32_t endpoint; /* whose it becomes */
	uint64_t now_ns;   /* when that began */
	uint64_t age_ns;   /* so long ago, at the most, it was packed: taken off what is left */
	/* Of its leases none has a higher token or epoch, else it is damaged: other ones may have
	 * theirs, or get them yet. */
	uint64_t token_max;
	uint32_t epoch_max;
	int (*each)(void *arg, const struct lease_view *lease);
	/* May have it last less (ttl, deadline, hold_until), before any of it is stored; NULL:
	 * nobody wants that. */
	void (*limit)(void *arg, uint64_t now_ns, struct lease_view *lease);
	void *arg;

	size_t at;      /* how far it got; 0: nowhere */
	bool checked;   /* all of it is sound, and it is being stored */
	uint64_t lease; /* that what comes next is of */
	size_t grant;   /* where that lease is, which is still to be stored; 0: it is not */
	bool here;      /* it is stored already */
	bool other;     /* another one has its number, and stays: what comes is left out */
};

/* A step: makes some of it durable here in a transaction of its own, and calls each() for leases
 * that are, with all that was written under them; then what is left of them begins to count. One
 * that an earlier process has stored is not stored again. VMSIG_ERR_BUSY: there is more to do;
 * VMSIG_ERR_INTERNAL: it is damaged, which is known before anything is stored; or as
 * store_commit(), and nothing was done. What each() gives and is not 0 ends the step; it is done
 * again when it is asked for again, but that nothing is stored twice: then each() comes for all of
 * its leases that have not ended meanwhile. The data is the same each time. */
__attribute__((warn_unused_result)) int baggage_take(
	struct store *store, struct baggage_intake *intake, const void *data, size_t len);

#endif
