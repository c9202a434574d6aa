/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_COHERENCE_H
#define BROKER_COHERENCE_H

/*
 * An endpoint's coherence page (vmsig_coherence.h) as the broker owns it: a memfd that is
 * mapped writable first and then sealed, so that this mapping is the only one that can ever
 * store into it.
 */

#include <stdint.h>

#include "vmsig/vmsig_coherence.h"

struct coherence;

/* 0 or -errno. */
__attribute__((warn_unused_result)) int coherence_new(
	struct coherence **ret_coherence, uint32_t endpoint);
/* Holders keep their mappings. Accepts NULL, returns NULL. */
struct coherence *coherence_free(struct coherence *coherence);

vmsig_coherence *coherence_page(struct coherence *coherence);
/* A fresh O_RDONLY descriptor, which the caller closes; -errno. */
__attribute__((warn_unused_result)) int coherence_share(const struct coherence *coherence);
/* Wakes holders that sleep on the page's futex word. */
void coherence_wake(struct coherence *coherence);

#endif
