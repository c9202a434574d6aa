/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_ANSWERS_H
#define BROKER_STORE_ANSWERS_H

/*
 * What became of each (lease, writer, sequence), in memory: for each writer the newest
 * LEDGER_WINDOW numbers, as a ring whose slots are allocated when they are used.
 *
 * Clients choose writers, and as many leases as they like are kept for a while. So there is no
 * table of all of them: each lease has a tree of its own writers, which costs nobody else a step
 * whatever they are called, and nothing is ever put in order anew.
 *
 * Returns: 0 or -ENOMEM.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/store/ledger.h"
#include "lease/idtree.h"

struct ledger_answer {
	uint64_t sequence, intent;
	uint8_t digest[LEDGER_DIGEST];
	uint32_t len;
	bool done;
	uint8_t reply[];
};

struct answer_lease;

struct answers {
	struct idtree leases;
	struct answer_lease *gone; /* to be freed, a piece at a time */
	uint64_t bytes;            /* of memory, about; without what is gone */
};

/* Of a change; -ENOMEM: NULL. */
struct ledger_answer *answer_new(uint64_t sequence, const uint8_t digest[static LEDGER_DIGEST],
	uint64_t intent, bool done, const void *reply, size_t len);

void answers_deinit(struct answers *answers);

/* What is in the slot of the key's sequence: that one, one before or after it, or NULL. */
struct ledger_answer *answers_slot(const struct answers *answers, const struct ledger_key *key);
/* Puts it into the slot of its sequence; *ret_old was there. Takes it only with 0. Does not fail
 * for a slot that is, or once was, in use. */
__attribute__((warn_unused_result)) int answers_put(struct answers *answers,
	const struct ledger_key *key, struct ledger_answer *answer, struct ledger_answer **ret_old);
/* Empties the slot, whatever is in it, which is the caller's then; NULL: nothing. */
struct ledger_answer *answers_take(struct answers *answers, const struct ledger_key *key);

/* All of one lease, which may come back; NULL: nothing. */
struct answer_lease *answers_detach(struct answers *answers, uint64_t lease);
void answers_attach(struct answers *answers, struct answer_lease *lease);
void answers_free(struct answer_lease *lease);
/* It does not come back: a lease may have a million answers, and they are freed in pieces. */
void answers_bury(struct answers *answers, struct answer_lease *lease);
/* Frees some of what is gone. Whether there is more. */
bool answers_clear_some(struct answers *answers);

/* Of one writer; 0: none. */
uint64_t answers_highest(const struct answers *answers, uint64_t lease, uint64_t writer);
/* The lowest key above `*cursor` without a reply. */
bool answers_next_open(const struct answers *answers, struct ledger_key *cursor,
	const struct ledger_answer **ret_answer);
/* Calls `each` for all; ends with what it returns when that is not 0. */
int answers_each(const struct answers *answers,
	int (*each)(void *arg, const struct ledger_key *key, const struct ledger_answer *answer),
	void *arg);
/* Likewise for all of one lease. */
int answers_each_of(const struct answers *answers, uint64_t lease,
	int (*each)(void *arg, const struct ledger_key *key, const struct ledger_answer *answer),
	void *arg);

#endif
