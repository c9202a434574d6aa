/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_STATE_H
#define BROKER_JOURNAL_STATE_H

/*
 * The journal's inside: what the loop owns. What the thread owns is in `drain`, what both use in
 * `ring` and `catalog`.
 */

#include "broker/journal/catalog.h"
#include "broker/journal/drain.h"
#include "broker/journal/ring.h"

#define JOURNAL_SENTENCE (DRAIN_ERROR_MAX + 1)

/* How far the loop is: what a rollback goes back to. */
struct journal_mark {
	uint64_t position; /* of the ring */
	uint64_t number;   /* of the newest entry */
	uint64_t id;       /* of the newest AUDIT entry */
};

struct journal {
	struct ring ring;
	struct catalog catalog;
	struct drain drain;
	struct wake *wake;
	struct journal_ops ops;
	void *arg;

	char dir_path[SHARED_PATH_MAX];
	int dir;
	uint8_t identity[SEGMENT_IDENTITY];
	uint64_t segment_bytes, reserve, entry_max;
	struct journal_found found;

	struct journal_mark committed, batch;
	bool open;
	/* What was told to the owner. */
	uint64_t told_drained, told_synced, asked;
	bool waits; /* for `asked` */
	bool closed;
	char trouble[DRAIN_ERROR_MAX + 1];
	char error[JOURNAL_SENTENCE], refusal[JOURNAL_SENTENCE];
};

/* Finds out what there is, and has everything ready for drain_prepare(). `error` gets a
 * sentence. As journal_open(). */
__attribute__((warn_unused_result)) int recovery_run(struct journal *journal,
	const struct journal_options *options, char *error, size_t error_size);

#endif
