/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_LEDGER_H
#define BROKER_STORE_LEDGER_H

/*
 * At most once: what became of each (lease, writer, sequence). An entry is made with the
 * intent, before bytes change, and gets its reply with the result; of one without a reply
 * after a crash its mark (marks.h) tells what became.
 *
 * For each writer the newest LEDGER_WINDOW numbers are kept, as a ring, in memory. All changes
 * belong to the store's open transaction. Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEDGER_WINDOW 1024u
#define LEDGER_DIGEST 32 /* SHA-256 of the command */

struct ledger;
struct store;

struct ledger_key {
	uint64_t lease, writer, sequence;
};

struct ledger_entry {
	uint8_t digest[LEDGER_DIGEST];
	uint64_t intent; /* id of the audit record; 0: none was needed */
	bool done;
	uint8_t *reply; /* packed WriteResult, to be freed; NULL while it is not done */
	size_t reply_len;
};

/* The store outlives it. */
__attribute__((warn_unused_result)) int ledger_new(struct ledger **ret_ledger, struct store *store);
/* Accepts NULL, returns NULL. */
struct ledger *ledger_free(struct ledger *ledger);

/* 0: there is an entry, ret_entry->reply is the caller's. VMSIG_ERR_NO_LEASE: none, the number
 * was not used. VMSIG_ERR_UNKNOWN_OUTCOME: it is below the window. */
__attribute__((warn_unused_result)) int ledger_find(
	struct ledger *ledger, const struct ledger_key *key, struct ledger_entry *ret_entry);
/* Makes or replaces the entry, without a reply. */
__attribute__((warn_unused_result)) int ledger_intend(struct ledger *ledger,
	const struct ledger_key *key, const uint8_t digest[static LEDGER_DIGEST], uint64_t intent);
/* Sets its reply. */
__attribute__((warn_unused_result)) int ledger_settle(
	struct ledger *ledger, const struct ledger_key *key, const void *reply, size_t len);
/* Drops it: nothing came of the command, and its number is not used. */
__attribute__((warn_unused_result)) int ledger_forget(
	struct ledger *ledger, const struct ledger_key *key);

/* The next entry without a reply above `*cursor` (all zero at first); false at the end. Only
 * ret_entry->intent is set. */
bool ledger_next_open(
	struct ledger *ledger, struct ledger_key *cursor, struct ledger_entry *ret_entry);

/* The highest number that was used; 0 for none. */
__attribute__((warn_unused_result)) int ledger_highest(
	struct ledger *ledger, uint64_t lease, uint64_t writer, uint64_t *ret_sequence);

/* Forgets leases that ended before the moment (seconds of CLOCK_REALTIME), or earlier when there
 * are too many, and what was written under them, in a transaction of its own, some hundred at a
 * time; then `*ret_more` says whether there are others to be forgotten. */
__attribute__((warn_unused_result)) int ledger_prune(
	struct ledger *ledger, uint64_t ended_before, bool *ret_more);

#endif
