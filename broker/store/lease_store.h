/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_LEASE_STORE_H
#define BROKER_STORE_LEASE_STORE_H

/*
 * Where leases are durable and tokens come from. The engine does not care which store it is:
 * a grant is answered later, and a store that several hosts share can take a lease back. The
 * embedded one, behind which is the broker's own database, answers when the transaction of
 * the loop's turn is committed.
 *
 * Tokens of an endpoint strictly rise: over restarts because the last one is stored, over a
 * state directory that was restored from a backup because a token is also at least the
 * microseconds of the wall clock. A clock that was turned back can only make them denser.
 */

#include <stddef.h>
#include <stdint.h>

#include "lease/lease.h"

struct lease_store;
struct store;

struct lease_store_events {
	/* The grant is durable under this token. */
	void (*stored)(void *arg, uint64_t id, uint64_t token);
	/* It could not be made durable. */
	void (*failed)(void *arg, uint64_t id, enum vmsig_error error);
	/* The lease is not this broker's any more; also when a renewal was not made durable. */
	void (*lost)(void *arg, uint64_t id, enum vmsig_error error);
	/* Tokens of the endpoint have to be above. NULL: there is nobody else who gives any. */
	uint64_t (*floor)(void *arg, uint32_t endpoint);
};

struct lease_store_ops {
	/* 0, or an error: nothing was started, and failed() is not called. VMSIG_ERR_BUSY: another
	 * lease has its number, and the transaction goes on without it. */
	int (*grant)(struct lease_store *store, const struct lease_view *lease, uint64_t now_ns);
	int (*renew)(struct lease_store *store, const struct lease_view *lease);
	int (*end)(struct lease_store *store, const struct lease_view *lease);
	/* The turn's transaction was committed, or rolled back. */
	void (*settled)(struct lease_store *store, int result);
	/* Calls `each` for all leases that were not ended; a non-zero return stops. */
	int (*load)(struct lease_store *store,
		int (*each)(void *arg, const struct lease_view *lease), void *arg);
	/* Above every id that was ever used. */
	int (*next_id)(struct lease_store *store, uint64_t *ret_id);
	/* Whose lease it was and under which token, also for some time after its end.
	 * VMSIG_ERR_NO_LEASE. */
	int (*find)(struct lease_store *store, uint64_t id, char tenant[static LEASE_NAME_MAX + 1],
		uint64_t *ret_token);
	void (*free)(struct lease_store *store);
};

/* Every implementation embeds this first. */
struct lease_store {
	const struct lease_store_ops *ops;
	struct lease_store_events events;
	void *arg;
};

/* The implementation in the broker's database, which outlives it. */
__attribute__((warn_unused_result)) int lease_store_new(struct lease_store **ret_store,
	struct store *db, const struct lease_store_events *events, void *arg);

#endif
