/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_MARKS_H
#define BROKER_STORE_MARKS_H

/*
 * What outlives the process between a write's intent and its durable result: memory that
 * survives the broker (broker/journal/shared.h), in which each command in flight has a slot that
 * says how far it came. A store to memory is all that a mark costs, and no disk is waited for; a
 * broker that is killed leaves it for the next one. Guest bytes, which anybody may change, are
 * not asked.
 *
 * A slot goes TAKEN -> BEGUN -> ENDED, or TAKEN -> (BEGUN -> PAUSED)... -> ENDED for one that is
 * applied in slices, and is free again once its result is in the ledger:
 *
 *   TAKEN   before the intent is stored       not one byte was written
 *   BEGUN   right before the first byte       some bytes may have been
 *   PAUSED  after each slice                  `done` bytes were, and no other
 *   ENDED   right after the last byte         the reply says what was
 *
 * Nothing is concluded from a slot that is not there: an intent without one is unknown. What
 * follows the state word is written before it, and has a sum: a slot that was torn counts as
 * the state before, and one that is damaged as none.
 *
 * The memory belongs to the boot: after another one guest memory is gone too. It belongs to the
 * directory that names it, not to a copy of that. One broker has it.
 * Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/store/ledger.h"

#define MARKS 4096u          /* commands between intent and durable result; 2 MiB of memory */
#define MARKS_REPLY_MAX 400u /* of a packed WriteResult: a sentence, and some old bytes */
#define MARKS_HASH 32u

struct marks;

enum mark_state { MARK_FREE, MARK_TAKEN, MARK_BEGUN, MARK_PAUSED, MARK_ENDED };

/* Finds the memory of the state directory, or makes it: in `run_dir` when that is a tmpfs, which
 * may be NULL. `error` gets a sentence. */
__attribute__((warn_unused_result)) int marks_open(struct marks **ret_marks, const char *state_dir,
	const char *run_dir, char *error, size_t error_size);
/* What is in use stays there, for the next broker. Accepts NULL, returns NULL. */
struct marks *marks_close(struct marks *marks);

/* A slot, by a number that is not 0. VMSIG_ERR_BUSY: all are in use. */
__attribute__((warn_unused_result)) int marks_take(struct marks *marks,
	const struct ledger_key *key, const uint8_t digest[static LEDGER_DIGEST],
	uint32_t *ret_mark);
void marks_begin(struct marks *marks, uint32_t mark);
/* Of bulk data: the sum of the first bytes of it, as many as pause() or end() says next. Between
 * begin() and those. */
void marks_sum(struct marks *marks, uint32_t mark, uint32_t sum);
void marks_pause(struct marks *marks, uint32_t mark, uint64_t done);
/* The reply is at most MARKS_REPLY_MAX bytes. */
void marks_end(struct marks *marks, uint32_t mark, const void *reply, size_t len);
/* After that: the hash of what was there before, which took longer. Who is killed meanwhile leaves
 * the reply without it; so does one that leaves no room for it. */
void marks_hash(struct marks *marks, uint32_t mark, const uint8_t hash[static MARKS_HASH]);
/* The result is durable, or nothing will come of the command. */
void marks_release(struct marks *marks, uint32_t mark);

/* A slot that is in use; borrowed until it is changed. */
struct mark_view {
	uint32_t mark;
	enum mark_state state; /* MARK_FREE: damaged, says nothing */
	struct ledger_key key;
	const uint8_t *digest; /* LEDGER_DIGEST bytes */
	uint64_t done;         /* PAUSED */
	uint32_t sum;   /* PAUSED, ENDED: of the data that was stored; 0: it is no bulk data */
	uint64_t order; /* ENDED: later ones have a higher one */
	const uint8_t *reply; /* ENDED */
	size_t reply_len;
	const uint8_t *hash; /* ENDED: MARKS_HASH bytes; NULL: there is none */
};

/* The next one above `*cursor`, which starts at 0; false at the end. */
bool marks_next(const struct marks *marks, uint32_t *cursor, struct mark_view *ret_view);

#endif
