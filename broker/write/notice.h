/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_NOTICE_H
#define BROKER_WRITE_NOTICE_H

/*
 * What holders are told of their leases once the batch that says so is durable. The engine's views
 * do not live that long: a notice names the lease.
 */

#include "broker/write/state.h"

struct notice {
	enum lease_action_kind kind; /* STORE_RENEW, STORE_END: nobody is told */
	uint64_t lease, token, session;
	uint32_t endpoint;
	enum vmsig_error reason;
	uint64_t ticket; /* held until that has its answer; 0: not held */
	bool owed;       /* it could not be made durable once */
	bool told;       /* somebody knows that the lease was granted */
	struct notice *prev, *next;
	UT_hash_handle hh; /* GRANTED: desk->grants */
};

/* NULL without memory. */
struct notice *notice_new(
	struct desk *desk, enum lease_action_kind kind, const struct lease_view *lease);
/* Telling may close connections, but performs no action. */
void notice_tell(struct desk *desk, const struct notice *notice);
void notice_free(struct desk *desk, struct notice *notice);
void notices_free(struct desk *desk, struct notice *notices);

/* That the lease is granted, which its holder has still to be told; or NULL. */
const struct notice *notice_of_grant(const struct desk *desk, uint64_t lease);

#endif
