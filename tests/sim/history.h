/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_HISTORY_H
#define TESTS_SIM_HISTORY_H

/*
 * Checks what one subscriber was told about one endpoint against the rules of the read side
 * (R3, R4, R5; invariant I13). Knows nothing of the core.
 */

#include <stdbool.h>
#include <stdint.h>

#include "broker/read/core.h"

struct history {
	uint32_t last_epoch;                  /* newest that any event named */
	uint32_t context_epoch;               /* of the last MEMCTX; 0: none */
	bool invalidated;                     /* since that MEMCTX */
	enum vmsig_endpoint_state last_state; /* READY by a MEMCTX, or what a state said */
};

/* NULL when the event is in order, else what is wrong with it. */
const char *history_add(struct history *history, const struct core_delivery *delivery);

#endif
