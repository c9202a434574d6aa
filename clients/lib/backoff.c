/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/backoff.h"

#include <sys/random.h>

static uint32_t with_jitter(uint32_t ms)
{
	uint32_t random = 0;

	/* Without entropy yet, pauses without jitter are good enough. */
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		return ms;
	return ms / 2 + random % (ms - ms / 2 + 1);
}

void backoff_init(struct backoff *backoff, uint32_t min_ms, uint32_t max_ms)
{
	*backoff = (struct backoff){.min_ms = min_ms, .max_ms = max_ms, .pause_ms = min_ms};
}

void backoff_reset(struct backoff *backoff)
{
	backoff->pause_ms = backoff->min_ms;
}

uint32_t backoff_next(struct backoff *backoff)
{
	uint32_t pause_ms = backoff->pause_ms;

	backoff->pause_ms = pause_ms > backoff->max_ms / 2 ? backoff->max_ms : pause_ms * 2;
	return with_jitter(pause_ms);
}
