/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases that are to be recorded in the store before they are told, and records that are over. What
 * became of a transaction without an answer the deed knows: tokens are given in their order, so all
 * up to the one that the deed has for the newest are recorded.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/fleet/state.h"
#include "proto/mishap.h"

#define REGISTRY_BATCH 48           /* of each kind in one transaction */
#define REGISTRY_BYTES (512u << 10) /* of records in one transaction */
#define REGISTRY_RECORD (16u << 10) /* of one record: 256 ranges and some */
#define MS 1000000ull

struct registry_lease *registry_lease_free(struct registry_lease *lease)
{
	if (lease)
		free(lease->record);
	free(lease);
	return NULL;
}

void registry_free(struct tenure *t)
{
	struct registry_lease *lease, *next_lease;
	struct registry_end *end, *next_end;

	DL_FOREACH_SAFE (t->leases, lease, next_lease) {
		DL_DELETE(t->leases, lease);
		registry_lease_free(lease);
	}
	DL_FOREACH_SAFE (t->ends, end, next_end) {
		DL_DELETE(t->ends, end);
		free(end);
	}
}

bool registry_has_work(const struct tenure *t)
{
	const struct registry_lease *lease;

	DL_FOREACH (t->leases, lease) {
		if (!lease->done)
			return true;
	}
	return t->ends;
}

static struct registry_lease *lease_find(struct tenure *t, uint64_t id)
{
	struct registry_lease *lease;

	DL_FOREACH (t->leases, lease) {
		if (lease->id == id && !lease->done)
			return lease;
	}
	return NULL;
}

static void end_add(struct tenure *t, uint64_t token)
{
	struct registry_end *end = MISHAP("end-memory") ? NULL : calloc(1, sizeof(*end));

	if (!end)
		return;
	end->token = token;
	DL_APPEND(t->ends, end);
}

int registry_add(struct tenure *t, const struct tenure_lease *lease)
{
	struct registry_lease *entry;

	if (lease->record_len > REGISTRY_RECORD)
		return VMSIG_ERR_BAD_REQUEST;
	entry = MISHAP("record-memory") ? NULL : calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	entry->record = malloc(lease->record_len + 1);
	if (!entry->record) {
		free(entry);
		return -ENOMEM;
	}
	if (lease->record_len)
		memcpy(entry->record, lease->record, lease->record_len);
	entry->record_len = lease->record_len;
	entry->id = lease->id;
	entry->token = lease->token;
	entry->ttl_ms = (uint32_t)(lease->ttl_ns / MS + 1);
	DL_APPEND(t->leases, entry);
	return 0;
}

void registry_end(struct tenure *t, uint64_t id, uint64_t token)
{
	struct registry_lease *lease = lease_find(t, id);

	if (lease && lease->sent) {
		lease->unwanted = true;
	} else if (lease) {
		DL_DELETE(t->leases, lease);
		registry_lease_free(lease);
	} else if (t->held) {
		end_add(t, token);
	}
}

/* ---- into a transaction ---- */

static void record_key(const struct tenure *t, uint64_t token, char ret_key[static FLEET_KEY_MAX])
{
	char leaf[32];

	snprintf(leaf, sizeof(leaf), "lease/%016" PRIx64, token);
	fleet_guest_key(t, leaf, ret_key);
}

static void lease_write(
	struct tenure *t, struct txn *txn, struct deed *deed, struct registry_lease *lease)
{
	char key[FLEET_KEY_MAX];

	if (!lease->sent) {
		if (t->token < deed->token)
			t->token = deed->token;
		if (lease->token <= t->token)
			lease->token = t->token + 1;
		t->token = lease->token;
		lease->sent = true;
	}
	if (deed->token < lease->token)
		deed->token = lease->token;
	deed->recorded = lease->token;
	if (deed->lease_ms < lease->ttl_ms)
		deed->lease_ms = lease->ttl_ms;
	record_key(t, lease->token, key);
	txn_put(txn, TXN_THEN, key, lease->record, lease->record_len, 0);
}

void registry_write(struct tenure *t, struct txn *txn, struct deed *deed)
{
	struct registry_lease *lease;
	struct registry_end *end;
	char key[FLEET_KEY_MAX];
	size_t n = 0, bytes = 0;

	DL_FOREACH (t->leases, lease) {
		if (lease->done)
			continue;
		bytes += lease->record_len;
		if (n++ == REGISTRY_BATCH || bytes > REGISTRY_BYTES)
			break;
		lease_write(t, txn, deed, lease);
	}
	n = 0;
	DL_FOREACH (t->ends, end) {
		end->sent = n++ < REGISTRY_BATCH;
		if (!end->sent)
			continue;
		record_key(t, end->token, key);
		txn_delete(txn, TXN_THEN, key);
	}
}

/* ---- what became of it ---- */

void registry_resolve(struct tenure *t, bool stored)
{
	struct registry_lease *lease, *next_lease;
	struct registry_end *end, *next_end;

	DL_FOREACH_SAFE (t->ends, end, next_end) {
		if (!stored || !end->sent)
			continue;
		DL_DELETE(t->ends, end);
		free(end);
	}
	DL_FOREACH_SAFE (t->leases, lease, next_lease) {
		if (lease->done || !lease->sent || lease->token > t->deed.recorded)
			continue;
		lease->done = true;
		if (!lease->unwanted)
			continue;
		end_add(t, lease->token);
		DL_DELETE(t->leases, lease);
		registry_lease_free(lease);
	}
	fleet_tell_leases(t);
}

void registry_fail(struct tenure *t, int error)
{
	struct registry_lease *lease, *next;

	DL_FOREACH_SAFE (t->leases, lease, next) {
		if (lease->done)
			continue;
		lease->done = true;
		lease->error = error;
		/* It may have been recorded, or be yet; the transaction that deletes it ends that.
		 */
		if (lease->sent && t->held)
			end_add(t, lease->token);
		if (!lease->unwanted)
			continue;
		DL_DELETE(t->leases, lease);
		registry_lease_free(lease);
	}
	fleet_tell_leases(t);
}

struct registry_lease *registry_take(struct tenure *t)
{
	struct registry_lease *lease;

	DL_FOREACH (t->leases, lease) {
		if (!lease->done)
			continue;
		DL_DELETE(t->leases, lease);
		return lease;
	}
	return NULL;
}
