/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_OBITUARY_H
#define BROKER_OBITUARY_H

/*
 * Has the kernel mark shared words when this process dies, whatever kills it: the robust futexes
 * of threads that do nothing but hold them. The kernel walks a thread's list at its end, up to
 * 2048 entries (ROBUST_LIST_LIMIT), so there is a thread for each OBITUARY_PER_THREAD words.
 *
 * The list's nodes are addresses of this process and no business of those who map the words:
 * each lies in private memory, OBITUARY_OFFSET bytes before its word.
 *
 * One thread adds and removes.
 */

#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_coherence.h"

#define OBITUARY_PER_THREAD 1024u
/* The page before the one that is shared has the node. */
#define OBITUARY_OFFSET (VMSIG_COHERENCE_SIZE + offsetof(vmsig_coherence, owner))

#define OBITUARY_NODE 64u /* bytes of a node */

/* Marks `word`, which becomes the id of a thread, at the end of this process. `node` is
 * OBITUARY_OFFSET bytes before it, OBITUARY_NODE bytes large and stays there until
 * obituary_remove(). -EAGAIN, -ENOMEM: no thread can be made. */
__attribute__((warn_unused_result)) int obituary_add(void *node, uint32_t *word);
/* The word becomes 0. */
void obituary_remove(void *node, uint32_t *word);

#endif
