/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_KCR3_STRATEGY_H
#define BROKER_KCR3_STRATEGY_H

/*
 * One way to find a guest kernel. kcr3.c tries them in the order of its table.
 */

#include "broker/kcr3/kcr3.h"

struct kcr3_search {
	const struct kcr3_memory *memory;
	const uint64_t *vcpu_cr3;
	size_t nvcpu;
	const atomic_bool *cancel;
	char *why; /* gets a sentence when nothing was found but something was seen */
	size_t why_size;
};

struct kcr3_strategy {
	/* 0, VMSIG_ERR_NOT_READY, or what ends the search. */
	int (*find)(const struct kcr3_search *search, struct kcr3_proof *ret_proof);
	int (*reprove)(const struct kcr3_search *search, const struct kcr3_proof *proof);
};

extern const struct kcr3_strategy kcr3_linux;
extern const struct kcr3_strategy kcr3_windows;

#endif
