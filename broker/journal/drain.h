/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_DRAIN_H
#define BROKER_JOURNAL_DRAIN_H

/*
 * The thread that moves entries from the ring to the segments: chains them, writes all that is
 * there with one call, allocates the next segment before it is needed, syncs when that is asked
 * for, and drops what retention lets go. It is the only one that enters the disk.
 *
 * What fails is tried again every now and then, from where it was: the ring still has it. Only a
 * failed sync ends it, for nobody knows what the kernel has dropped; the ring keeps what comes
 * after, until drain_reopen() has had the segment copied.
 */

#include "broker/journal/drain_object.h"

/* The caller sets what comes first, `segment`, the last id and hash, `number` and `synced`. */
__attribute__((warn_unused_result)) int drain_init(struct drain *drain);
void drain_deinit(struct drain *drain);

/* Allocates what the first entries need, before there is a thread. What fails is trouble. */
void drain_prepare(struct drain *drain);
__attribute__((warn_unused_result)) int drain_start(struct drain *drain);

/* From the loop. */
void drain_wake_up(struct drain *drain);
void drain_sync(struct drain *drain, uint64_t number);
void drain_prune(struct drain *drain, const struct journal_cut *cut, uint64_t after);
/* What was to be dropped is not yet. */
bool drain_is_pruning(struct drain *drain);
void drain_reopen(struct drain *drain);
/* Whether it has ended within `patience_ms`. */
bool drain_stop(struct drain *drain, uint64_t patience_ms);
/* What is wrong with the disk; "" when nothing is. */
void drain_trouble(struct drain *drain, char ret_text[static DRAIN_ERROR_MAX + 1]);

#endif
