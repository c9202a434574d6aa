/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/etcd/errand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/etcd/reply.h"

#define TRY_MS 200u /* a try has no less, if there is as much */

static bool is_reading(const struct txn *txn)
{
	for (size_t b = 0; b < TXN_BRANCHES; b++) {
		for (size_t i = 0; i < txn->branches[b].n; i++) {
			if (txn->branches[b].ops[i].kind != TXN_GET)
				return false;
		}
	}
	return true;
}

static bool is_repeatable(const struct txn_request *request)
{
	return request->kind == TXN_LEASE_KEEPALIVE || request->kind == TXN_PAGE ||
	       (request->kind == TXN_COMMIT && is_reading(&request->txn));
}

int etcd_errand_new(
	struct etcd_errand **ret_errand, const struct txn_request *request, uint64_t deadline_ms)
{
	struct etcd_errand *errand = calloc(1, sizeof(*errand));
	int r = errand ? etcd_body(request, &errand->body) : -ENOMEM;

	if (r) {
		free(errand);
		return r;
	}
	errand->kind = request->kind;
	errand->number = request->number;
	errand->deadline_ms = deadline_ms;
	errand->repeatable = is_repeatable(request);
	*ret_errand = errand;
	return 0;
}

void etcd_errand_free(struct etcd_errand *errand)
{
	courier_cancel(&errand->parcel);
	free(errand->body.text);
	free(errand);
}

/* What can be asked again leaves time for that. */
static uint64_t time_for(const struct etcd_errand *errand, bool alone, uint64_t now_ms)
{
	uint64_t left = errand->deadline_ms > now_ms ? errand->deadline_ms - now_ms : 1;

	return alone || left / 2 < TRY_MS ? left : left / 2;
}

int etcd_errand_go(struct etcd_errand *errand, struct courier *courier, struct etcd_member *member,
	bool alone, uint64_t now_ms)
{
	void (*done)(struct courier_parcel * parcel, enum courier_end end) = errand->parcel.done;
	uint64_t part_ms = time_for(errand, alone, now_ms);
	int r;

	snprintf(errand->url, sizeof(errand->url), "%s%s", member->url, errand->body.path);
	errand->parcel = (struct courier_parcel){.url = errand->url,
		.body = errand->body.text,
		.body_len = errand->body.len,
		.timeout_ms = errand->repeatable ? part_ms : time_for(errand, true, now_ms),
		.connect_timeout_ms = part_ms,
		.reply_max = ETCD_REPLY_MAX,
		.done = done};
	r = courier_send(courier, &errand->parcel);
	if (!r)
		errand->member = member;
	return r;
}

static void lost(const struct etcd_errand *errand, enum courier_end end, struct txn_answer *answer)
{
	answer->outcome =
		errand->repeatable || end == COURIER_UNSENT ? TXN_UNAVAILABLE : TXN_UNKNOWN;
	snprintf(answer->why, sizeof(answer->why), "%.158s", errand->parcel.why);
}

bool etcd_errand_back(struct etcd_errand *errand, enum courier_end end, uint64_t now_ms,
	struct txn_answer *answer, bool *ret_worked)
{
	bool again = (errand->repeatable || end == COURIER_UNSENT) && now_ms < errand->deadline_ms;

	answer->number = errand->number;
	errand->member = NULL;
	if (end != COURIER_ANSWERED)
		lost(errand, end, answer);
	else
		etcd_reply(errand->kind, errand->parcel.status,
			errand->parcel.reply ? errand->parcel.reply : "", errand->parcel.reply_len,
			answer);
	*ret_worked = answer->outcome == TXN_OK || answer->outcome == TXN_GUARD_FAILED;
	if (*ret_worked)
		return true;
	if (errand->repeatable)
		answer->outcome = TXN_UNAVAILABLE;
	return !again;
}
