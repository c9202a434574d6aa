/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_CHANGE_H
#define BROKER_STORE_CHANGE_H

/*
 * A change of what the store knows, as it is in the journal: the body of a STATE entry. Who
 * has a snapshot and makes all changes behind it has what the broker had.
 *
 * The first byte is the kind, the fields follow without padding, words in little-endian order:
 *
 *    1 ENDPOINT  endpoint, epoch, name          a new one; the epoch that it begins above
 *    2 EPOCH     endpoint, epoch                rises, never falls, and voids the session
 *    3 SESSION   endpoint, epoch, fingerprint   unless the epoch is another by now
 *    4 GRANT     lease, endpoint, epoch, number (token), terms, ranges, tenant
 *    5 RENEW     lease, number (deadline)
 *    6 END       lease, number (seconds of the wall clock)
 *    7 IDS       number                         ids of leases below it may be in use
 *    8 INTEND    lease, writer, sequence, number (record of the intent; 0: none), digest
 *    9 SETTLE    lease, writer, sequence, reply
 *   10 FORGET    lease, writer, sequence        the number was not used
 *   11 DROP      lease                          with all that was written under it
 *   12 BOOT      number (seconds of the wall clock), boot id    leases do not outlive a boot
 *   13 SKIP      endpoint (by how much), epoch (the least), number (1: for new names too)
 *
 * endpoint and epoch have 4 bytes; lease, writer, sequence and number 8; a digest 32. Terms are
 * ttl, granted, deadline and hold_until (8 bytes each, nanoseconds of CLOCK_BOOTTIME), uid and
 * priority (4 each); ranges a count (2) and start and last (8 each) of so many. A text or a
 * reply goes to the end of the body.
 *
 * The layout of a kind never changes: another one is another kind. What does not make sense is
 * refused: bodies are foreign input to who reads them.
 */

#include <stddef.h>
#include <stdint.h>

#include "broker/store/ledger.h"
#include "lease/lease.h"

enum change_kind {
	CHANGE_ENDPOINT = 1,
	CHANGE_EPOCH,
	CHANGE_SESSION,
	CHANGE_GRANT,
	CHANGE_RENEW,
	CHANGE_END,
	CHANGE_IDS,
	CHANGE_INTEND,
	CHANGE_SETTLE,
	CHANGE_FORGET,
	CHANGE_DROP,
	CHANGE_BOOT,
	CHANGE_SKIP,
	CHANGES,
};

/* Which members count is the kind's. What is pointed to is borrowed. */
struct change {
	enum change_kind kind;
	uint32_t endpoint, epoch;
	struct ledger_key key; /* `lease` alone where no write is meant */
	uint64_t number;
	const uint8_t *digest; /* LEDGER_DIGEST bytes */
	uint64_t ttl_ns, granted_ns, deadline_ns, hold_until_ns;
	uint32_t uid, priority;
	const struct lease_range *ranges;
	size_t nranges;
	const void *bytes; /* name, fingerprint, tenant, boot id, reply */
	size_t len;
};

/* Of the body. */
size_t change_size(const struct change *change);
/* `body` has room for change_size(). */
void change_encode(const struct change *change, uint8_t *body);
/* `ranges` has room for LEASE_RANGES_MAX; the change borrows it and the body.
 * VMSIG_ERR_INTERNAL: it is damaged; VMSIG_ERR_UNSUPPORTED: of a kind that is not known. */
__attribute__((warn_unused_result)) int change_decode(
	struct change *ret_change, struct lease_range *ranges, const void *body, size_t len);

#endif
