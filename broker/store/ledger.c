/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/store/state.h"
#include "vmsig/vmsig_error.h"

#define PRUNE_BATCH 256u /* leases forgotten in one transaction */

struct ledger {
	struct store *store;
};

int ledger_new(struct ledger **ret_ledger, struct store *store)
{
	struct ledger *ledger = calloc(1, sizeof(*ledger));

	if (!ledger)
		return -ENOMEM;
	ledger->store = store;
	*ret_ledger = ledger;
	return 0;
}

struct ledger *ledger_free(struct ledger *ledger)
{
	free(ledger);
	return NULL;
}

static int entry_copy(const struct ledger_answer *answer, struct ledger_entry *entry)
{
	*entry = (struct ledger_entry){
		.intent = answer->intent, .done = answer->done, .reply_len = answer->len};
	memcpy(entry->digest, answer->digest, LEDGER_DIGEST);
	if (!entry->done)
		return 0;
	entry->reply = malloc(answer->len ? answer->len : 1);
	if (!entry->reply)
		return -ENOMEM;
	memcpy(entry->reply, answer->reply, answer->len);
	return 0;
}

int ledger_find(struct ledger *ledger, const struct ledger_key *key, struct ledger_entry *ret_entry)
{
	const struct ledger_answer *answer = answers_slot(&ledger->store->tables.answers, key);

	if (!answer || answer->sequence < key->sequence)
		return VMSIG_ERR_NO_LEASE;
	if (answer->sequence > key->sequence)
		return VMSIG_ERR_UNKNOWN_OUTCOME;
	return entry_copy(answer, ret_entry);
}

int ledger_intend(struct ledger *ledger, const struct ledger_key *key,
	const uint8_t digest[LEDGER_DIGEST], uint64_t intent)
{
	const struct change change = {
		.kind = CHANGE_INTEND, .key = *key, .digest = digest, .number = intent};

	return store_change(ledger->store, &change);
}

int ledger_settle(
	struct ledger *ledger, const struct ledger_key *key, const void *reply, size_t len)
{
	const struct change change = {
		.kind = CHANGE_SETTLE, .key = *key, .bytes = reply, .len = len};

	return store_change(ledger->store, &change);
}

int ledger_forget(struct ledger *ledger, const struct ledger_key *key)
{
	const struct change change = {.kind = CHANGE_FORGET, .key = *key};

	return store_change(ledger->store, &change);
}

bool ledger_next_open(
	struct ledger *ledger, struct ledger_key *cursor, struct ledger_entry *ret_entry)
{
	const struct ledger_answer *answer;

	if (!answers_next_open(&ledger->store->tables.answers, cursor, &answer))
		return false;
	*ret_entry = (struct ledger_entry){.intent = answer->intent};
	return true;
}

int ledger_highest(struct ledger *ledger, uint64_t lease, uint64_t writer, uint64_t *ret_sequence)
{
	*ret_sequence = answers_highest(&ledger->store->tables.answers, lease, writer);
	return 0;
}

/* The leases that ended first are the first in the list. */
static const struct table_lease *next_old(const struct store_tables *tables, uint64_t ended_before)
{
	const struct table_lease *lease = tables->ended;

	return lease && lease->ended < ended_before ? lease : NULL;
}

/* In a transaction of its own. */
static int drop_old(struct ledger *ledger, uint64_t ended_before)
{
	const struct store_tables *tables = &ledger->store->tables;
	const struct table_lease *lease;
	int r = store_alone(ledger->store);

	for (unsigned i = 0; !r && i < PRUNE_BATCH && (lease = next_old(tables, ended_before));
		i++) {
		const struct change drop = {.kind = CHANGE_DROP, .key.lease = lease->node.id};

		r = store_change(ledger->store, &drop);
	}
	if (!r)
		r = store_commit(ledger->store);
	if (r)
		store_rollback(ledger->store);
	return r;
}

int ledger_prune(struct ledger *ledger, uint64_t ended_before, bool *ret_more)
{
	struct store_tables *tables = &ledger->store->tables;
	int r = 0;

	/* What is kept must not take all of the memory. */
	if (store_is_crowded(ledger->store))
		ended_before = UINT64_MAX;
	/* What went before goes first: a lease may have as many answers as many leases. */
	*ret_more = answers_clear_some(&tables->answers);
	if (!*ret_more && next_old(tables, ended_before))
		r = drop_old(ledger, ended_before);
	if (!r)
		*ret_more = tables->answers.gone || next_old(tables, ended_before);
	return r;
}
