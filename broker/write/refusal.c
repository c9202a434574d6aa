/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/refusal.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/write/bill.h"
#include "broker/write/record.h"
#include "proto/mishap.h"

#define REFUSAL_WINDOW_NS (10000ull * NS_PER_MS)
/* What a person tries is worth its details. That there is too much is not. */
#define REFUSALS_SHOWN 3
/* Different ones of a tenant that are kept apart; endpoints are not told apart beyond that. */
#define REFUSALS_MAX 64
/* Of a refused request for a lease; whoever asked for 256 knows them. */
#define REFUSAL_RANGES 8

/* A name that the tenant may not see is the client's to invent. */
static void key_make(struct refusal_key *key, const Vmsig__AuditRecord *record, bool apart)
{
	/* It is hashed as a whole. */
	memset(key, 0, sizeof(*key));
	snprintf(key->tenant, sizeof(key->tenant), "%s", record->tenant);
	if (apart && record->endpoint && record->outcome != VMSIG_ERR_NO_SUCH_ENDPOINT)
		snprintf(key->endpoint, sizeof(key->endpoint), "%s", record->endpoint);
	key->kind = (uint32_t)record->kind;
	key->outcome = record->outcome;
}

static struct refusal *refusal_find(struct desk *desk, const struct refusal_key *key)
{
	struct refusal *refusal = NULL;

	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_FIND(hh, desk->refusals, key, sizeof(*key), refusal);
	return refusal;
}

/* Without memory for it the next one is recorded like a first one. */
static struct refusal *refusal_add(struct desk *desk, const struct refusal_key *key)
{
	struct refusal *refusal = MISHAP("refusal-memory") ? NULL : calloc(1, sizeof(*refusal));

	if (!refusal)
		return NULL;
	refusal->key = *key;
	refusal->until_ns = desk->now_ns + REFUSAL_WINDOW_NS;
	HASH_ADD(hh, desk->refusals, key, sizeof(refusal->key), refusal);
	if (!refusal->hh.tbl) {
		free(refusal);
		return NULL;
	}
	if (!desk->refusals_ns)
		desk->refusals_ns = refusal->until_ns;
	bill_count_refusals(desk, key->tenant, 1);
	return refusal;
}

static void refusal_drop(struct desk *desk, struct refusal *refusal)
{
	bill_count_refusals(desk, refusal->key.tenant, -1);
	HASH_DEL(desk->refusals, refusal);
	free(refusal);
}

/* Who it was last, and why. */
static void refusal_count(struct refusal *refusal, const Vmsig__AuditRecord *record)
{
	refusal->repeats++;
	refusal->uid = record->uid;
	refusal->pid = record->pid;
	snprintf(refusal->serial, sizeof(refusal->serial), "%s", record->serial);
	snprintf(refusal->detail, sizeof(refusal->detail), "%s", record->detail);
}

/* By itself, now. */
static bool is_shown(const struct refusal *refusal)
{
	bool much = refusal->key.outcome == VMSIG_ERR_QUOTA ||
		    refusal->key.outcome == VMSIG_ERR_BUSY || refusal->key.outcome == VMSIG_ERR_IO;

	return !refusal->shown || (!much && !refusal->repeats && refusal->shown < REFUSALS_SHOWN);
}

void refusal_record(struct desk *desk, Vmsig__AuditRecord *record)
{
	struct refusal_key key;
	struct refusal *refusal;

	key_make(&key, record, true);
	refusal = refusal_find(desk, &key);
	if (!refusal && bill_count_refusals(desk, key.tenant, 0) >= REFUSALS_MAX) {
		key_make(&key, record, false);
		refusal = refusal_find(desk, &key);
	}
	if (!refusal)
		refusal = refusal_add(desk, &key);
	if (refusal && !is_shown(refusal)) {
		refusal_count(refusal, record);
		return;
	}
	if (refusal)
		refusal->shown++;
	if (record->n_ranges > REFUSAL_RANGES)
		record->n_ranges = REFUSAL_RANGES;
	record_append(desk, record);
}

static void append_repeats(struct desk *desk, struct refusal *refusal)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;

	record.kind = (Vmsig__AuditRecord__Kind)refusal->key.kind;
	record.tenant = refusal->key.tenant;
	record.endpoint = refusal->key.endpoint;
	record.outcome = refusal->key.outcome;
	record.uid = refusal->uid;
	record.pid = refusal->pid;
	record.serial = refusal->serial;
	record.detail = refusal->detail;
	record.repeats = refusal->repeats;
	record_append(desk, &record);
	refusal->repeats = 0;
	refusal->shown = REFUSALS_SHOWN;
}

void refusals_turn(struct desk *desk, bool all)
{
	struct refusal *refusal, *next;
	uint64_t now_ns = desk->now_ns, due = UINT64_MAX;

	if (!desk->refusals_ns || (!all && now_ns < desk->refusals_ns))
		return;
	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, desk->refusals, refusal, next) {
		if ((all || refusal->until_ns <= now_ns) && !refusal->repeats) {
			refusal_drop(desk, refusal);
			continue;
		}
		if (all || refusal->until_ns <= now_ns) {
			refusal->until_ns = now_ns + REFUSAL_WINDOW_NS;
			append_repeats(desk, refusal);
		}
		due = refusal->until_ns < due ? refusal->until_ns : due;
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	desk->refusals_ns = desk->refusals ? due : 0;
}

void refusals_free(struct desk *desk)
{
	struct refusal *refusal, *next;

	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, desk->refusals, refusal, next) {
		HASH_DEL(desk->refusals, refusal);
		free(refusal);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	desk->refusals = NULL;
}
