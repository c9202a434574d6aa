/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_JOURNAL_H
#define CLIENTS_SHIM_JOURNAL_H

/* What was written in this run, with outcomes: for `log` and `undo`. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "clients/shim/arguments.h"
#include "vmsig/vmsig_write.h"

struct shim;

struct shim_entry {
	struct shim_entry *older;
	struct shim *shim;
	struct shim_entry *undoes; /* the one that it takes back, or NULL */
	unsigned number;           /* from 1 */
	const char *verb;          /* the command */
	time_t when;
	uint32_t epoch;
	uint64_t addr;
	bool physical;
	uint64_t root; /* of a process' page tables; 0: the kernel's */
	size_t len;
	unsigned char *data;   /* what was to be written */
	unsigned char *expect; /* what had to be there, or NULL */
	unsigned char *old;    /* what was there, or NULL when nobody said */
	bool settled;          /* it has an outcome */
	bool left;             /* nobody waits for that any more */
	bool undone;           /* another one has taken it back */
	int outcome;           /* 0, or a negated enum vmsig_error */
	uint64_t written;
	char text[VMSIG_DETAIL_MAX + 1];
};

struct shim_journal {
	struct shim_entry *newest;
	unsigned count;
};

/* Writes under the lease, which is usable, and waits for the outcome: 0, or a negated enum
 * vmsig_error. -WOULD_BLOCK: the wait was stopped, and its outcome will be news. `undoes` is what
 * is taken back by it, or NULL. The entry belongs to the journal; NULL when nothing was sent. */
__attribute__((warn_unused_result)) int shim_journal_write(struct shim *shim, const char *verb,
	const struct write_arguments *what, struct shim_entry *undoes,
	struct shim_entry **ret_entry);
/* The newest that can be taken back, or NULL. */
struct shim_entry *shim_journal_undoable(const struct shim_journal *journal);
/* After shim_session_close(). */
void shim_journal_clear(struct shim_journal *journal);

#endif
