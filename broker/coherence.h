/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_COHERENCE_H
#define BROKER_COHERENCE_H

/*
 * An endpoint's coherence page (vmsig_coherence.h) as the broker owns it: a memfd that is
 * mapped writable first and then sealed, so that this mapping is the only one that can ever
 * store into it. From coherence_new() to coherence_free() the broker vouches for the page, as
 * long as it says so in time; what ends it, a kill included, is seen in the page.
 */

#include <stdint.h>

#include "vmsig/vmsig_coherence.h"

struct coherence;

/* Nobody vouches until coherence_vouch(). 0 or -errno. */
__attribute__((warn_unused_result)) int coherence_new(
	struct coherence **ret_coherence, uint32_t endpoint);
/* Holders keep their mappings, and learn that nobody looks after them. Accepts NULL, returns NULL.
 */
struct coherence *coherence_free(struct coherence *coherence);

vmsig_coherence *coherence_page(struct coherence *coherence);
/* An O_RDONLY descriptor, which the caller closes; -errno. All are duplicates of one: they share an
 * offset and flags, for which a page that is mapped has no use, and cost no path look-up each. */
__attribute__((warn_unused_result)) int coherence_share(const struct coherence *coherence);
/* The page is looked after until `until_ns` of CLOCK_MONOTONIC. */
void coherence_vouch(struct coherence *coherence, uint64_t until_ns);
/* Wakes holders that sleep on the page's futex word. */
void coherence_wake(struct coherence *coherence);

#endif
