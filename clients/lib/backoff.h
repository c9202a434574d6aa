/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_LIB_BACKOFF_H
#define CLIENTS_LIB_BACKOFF_H

/* Pauses before what failed is tried again: each twice as long as the one before, up to a limit. */

#include <stdint.h>

struct backoff {
	uint32_t min_ms, max_ms;
	uint32_t pause_ms; /* the next one, without jitter */
};

void backoff_init(struct backoff *backoff, uint32_t min_ms, uint32_t max_ms);
/* The next failure is not one of this series. */
void backoff_reset(struct backoff *backoff);
/* Milliseconds: half to all of the pause, so that a thousand holders do not come back in one
 * moment. */
uint32_t backoff_next(struct backoff *backoff);

#endif
