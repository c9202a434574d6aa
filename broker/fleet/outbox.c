/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes out: requests to the store, the keys that they are about, and notes of what the user
 * shall be told. Nothing is decided here.
 */
#include <stdio.h>
#include <stdlib.h>

#include "broker/fleet/state.h"
#include "proto/mishap.h"

/* ---- keys ---- */

void fleet_key(const struct fleet *fleet, const char *leaf, char ret_key[static FLEET_KEY_MAX])
{
	snprintf(ret_key, FLEET_KEY_MAX, "/vmsig/%s/%s", fleet->name, leaf);
}

void fleet_guest_key(
	const struct tenure *tenure, const char *leaf, char ret_key[static FLEET_KEY_MAX])
{
	snprintf(ret_key, FLEET_KEY_MAX, "/vmsig/%s/vm/%s/%s", tenure->fleet->name, tenure->uuid,
		leaf);
}

/* ---- requests ---- */

void outbox_free(struct fleet *fleet, struct fleet_request *request)
{
	if (request->hh.tbl)
		HASH_DEL(fleet->requests, request);
	txn_deinit(&request->wire.txn);
	free(request);
}

struct fleet_request *fleet_request(
	struct fleet *fleet, enum txn_request_kind kind, enum bid_kind bid, struct tenure *tenure)
{
	struct fleet_request *request =
		MISHAP("request-memory") ? NULL : calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	request->wire.kind = kind;
	request->wire.number = ++fleet->numbers;
	request->wire.timeout_ms = fleet->timeout_ms;
	request->bid = bid;
	request->tenure = tenure;
	request->sent_ns = fleet->now_ns;
	request->revision = fleet->quorum.memory.revision;
	return request;
}

bool fleet_send(struct fleet *fleet, struct fleet_request *request)
{
	if (!txn_is_whole(&request->wire.txn)) {
		outbox_free(fleet, request);
		return false;
	}
	HASH_ADD(hh, fleet->requests, wire.number, sizeof(request->wire.number), request);
	if (!request->hh.tbl) {
		outbox_free(fleet, request);
		return false;
	}
	DL_APPEND(fleet->outbox, request);
	return true;
}

/* One that was not sent yet never is. */
void fleet_unwatch(struct fleet *fleet)
{
	struct fleet_request *request = NULL;
	uint64_t watch = fleet->watch;

	fleet->watch = 0;
	if (!watch)
		return;
	HASH_FIND(hh, fleet->requests, &watch, sizeof(watch), request);
	if (request) {
		DL_DELETE(fleet->outbox, request);
		outbox_free(fleet, request);
		return;
	}
	request = fleet_request(fleet, TXN_WATCH_CANCEL, BID_WATCH, NULL);
	if (!request)
		return;
	request->wire.number = watch;
	(void)!fleet_send(fleet, request);
}

/* ---- telling ---- */

void fleet_tell(struct fleet *fleet, enum fleet_action_kind kind)
{
	fleet->pending |= 1u << kind;
}

static void list(struct tenure *tenure)
{
	if (tenure->listed || tenure->removed)
		return;
	DL_APPEND(tenure->fleet->telling, tenure);
	tenure->listed = true;
}

/* What a guest was that is another's now has not to be told any more: it would be told after that.
 */
static const uint32_t ends =
	1u << FLEET_ACT_LOST | 1u << FLEET_ACT_MOVED | 1u << FLEET_ACT_RELEASED;
static const uint32_t had = 1u << FLEET_ACT_CUT_OFF | 1u << FLEET_ACT_OWNED | 1u << FLEET_ACT_BACK |
			    1u << FLEET_ACT_SETTLED | 1u << FLEET_ACT_OFFERED;

void fleet_tell_of(struct tenure *tenure, enum fleet_action_kind kind)
{
	if (ends & 1u << kind)
		tenure->pending &= ~had;
	tenure->pending |= 1u << kind;
	list(tenure);
}

void fleet_tell_leases(struct tenure *tenure)
{
	list(tenure);
}
