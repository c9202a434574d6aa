/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_GUEST_STRATEGY_H
#define PROTO_GUEST_STRATEGY_H

/*
 * One way to find a guest kernel, and what it is given for it. kcr3.c tries them in the order
 * of its table. `memory` of a search charges what is read, so that a step ends when it has
 * done its share whoever caused the work.
 */

#include "proto/guest/kcr3.h"

struct kcr3_search {
	struct kcr3_memory memory;
	const uint64_t *vcpu_cr3;
	size_t nvcpu;
	uint64_t notes_from, notes_next; /* kcr3.h */
	int64_t left;                    /* of the step, in bytes read */
	char *why; /* gets a sentence when nothing was found but something was seen */
	size_t why_size;
};

/* Whether the step has used up its share; what is begun may be finished. */
static inline bool search_is_spent(const struct kcr3_search *search)
{
	return search->left <= 0;
}

/* A sentence for `why`; the last one counts. */
__attribute__((format(printf, 2, 3))) void search_say(
	struct kcr3_search *search, const char *format, ...);

struct kcr3_strategy {
	size_t state_size; /* of what start() gets, all zero */
	/* 0 or -errno. */
	int (*start)(struct kcr3_search *search, void *state);
	/* 0, VMSIG_ERR_WOULD_BLOCK: again; VMSIG_ERR_NOT_READY, or what ends the search. */
	int (*step)(struct kcr3_search *search, void *state, struct kcr3_proof *ret_proof);
	void (*end)(void *state);
	int (*reprove)(const struct kcr3_search *search, const struct kcr3_proof *proof);
};

extern const struct kcr3_strategy kcr3_linux;
extern const struct kcr3_strategy kcr3_windows;

#endif
