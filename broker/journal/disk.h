/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_DISK_H
#define BROKER_JOURNAL_DISK_H

/*
 * The thread's segment on the disk: allocating the next, changing over to it, syncing, and
 * copying one whose sync has failed. The rest of the thread is drain.c. Returns: 0 or -errno,
 * and drain->trouble names what failed.
 */

#include "broker/journal/drain_object.h"

/* Sets the sentence that tells what failed, and gives `r` back. */
__attribute__((format(printf, 3, 4))) int disk_fail(
	struct drain *drain, int r, const char *format, ...);

/* Has the next segment ready. */
__attribute__((warn_unused_result)) int disk_make_spare(struct drain *drain);
/* Syncs the segment that is written to, and begins the next. */
__attribute__((warn_unused_result)) int disk_roll(struct drain *drain);
/* Brings everything that was written to the disk. A failure is final (drain->failed). */
__attribute__((warn_unused_result)) int disk_sync(struct drain *drain);
/* Copies the segment whose sync has failed, and begins a new one. */
__attribute__((warn_unused_result)) int disk_renew(struct drain *drain);
/* Replaces segment `first`, of which `bytes` count, by a copy that is on the disk. */
__attribute__((warn_unused_result)) int disk_copy(int dir, uint64_t first, uint64_t bytes);
/* Forgets segments up to the cut. */
void disk_prune(struct drain *drain, uint64_t number);
/* Room that is allocated, behind what was written. */
uint64_t disk_room(const struct drain *drain);

/* Around each call that can hang. */
static inline void disk_begin(struct drain *drain)
{
	atomic_store(&drain->since_ns, drain_now_ns());
}
static inline void disk_end(struct drain *drain)
{
	atomic_store(&drain->since_ns, 0);
}

#endif
