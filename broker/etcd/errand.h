/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ETCD_ERRAND_H
#define BROKER_ETCD_ERRAND_H

/* A request that has no answer yet, and what may be said when its way to a member has ended. */

#include <stdbool.h>
#include <stdint.h>

#include "broker/etcd/body.h"
#include "broker/etcd/courier.h"
#include "broker/etcd/member.h"
#include "broker/fleet/txn.h"

#define ETCD_URL_SIZE 512u

struct etcd_errand {
	struct courier_parcel parcel; /* first: done() is called with it */
	void *owner;
	struct etcd_member *member; /* it is under way to; NULL: it waits */
	enum txn_request_kind kind;
	uint64_t number, deadline_ms;
	struct etcd_body body;
	bool repeatable; /* it changes nothing, or nothing more when it is done twice */
	char url[ETCD_URL_SIZE];
	struct etcd_errand *prev, *next;
};

/* VMSIG_ERR_BAD_REQUEST, -ENOMEM. */
__attribute__((warn_unused_result)) int etcd_errand_new(
	struct etcd_errand **ret_errand, const struct txn_request *request, uint64_t deadline_ms);
void etcd_errand_free(struct etcd_errand *errand);

/* Off to the member; `alone`: there is no other one, which it would have to leave time for.
 * -ENOMEM. */
__attribute__((warn_unused_result)) int etcd_errand_go(struct etcd_errand *errand,
	struct courier *courier, struct etcd_member *member, bool alone, uint64_t now_ms);
/* From parcel.done: what is known now. Whether that is final; else it may go again. `answer` is
 * zeroed, and *ret_worked says whether the member did what it is for. */
__attribute__((warn_unused_result)) bool etcd_errand_back(struct etcd_errand *errand,
	enum courier_end end, uint64_t now_ms, struct txn_answer *answer, bool *ret_worked);

#endif
