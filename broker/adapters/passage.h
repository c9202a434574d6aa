/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_PASSAGE_H
#define BROKER_ADAPTERS_PASSAGE_H

/*
 * What an adapter tells of its guest's way between hosts, to whom that matters: a fleet. All calls
 * are made on the loop thread, as the steps come; the same one is not told twice in a row. Before
 * the first one the guest stays.
 */

#include <stdbool.h>
#include <stdint.h>

enum passage_step {
	PASSAGE_STAYS,  /* it is here, or nowhere, and nothing is under way: also after a migration
			 * that failed or was cancelled */
	PASSAGE_COMES,  /* a migration brings it here, or has brought it */
	PASSAGE_LEAVES, /* a migration away has begun */
	PASSAGE_LEFT,   /* ... and is complete: it goes on elsewhere, if anywhere */
	PASSAGE_ENDED,  /* what ran the guest has gone before that: the guest is nowhere */
};

/* Any function may be NULL, from one call to the next. */
struct passage {
	void (*step)(void *ctx, uint32_t endpoint, enum passage_step step);
	/* What tells the kernel that runs in the guest, as it was booted once, from others, on
	 * whichever host it is: at most 63 bytes of [A-Za-z0-9._-]; "": nothing does. `lasts`: a
	 * broker that starts later says the same. Said before its context is emitted. */
	void (*kernel)(void *ctx, uint32_t endpoint, const char *kernel, bool lasts);
	/* The guest that was served is not there any more, without having left: it was reset, or is
	 * gone. Whatever leaves after this is another one until it was proven, also if it looks the
	 * same. Said before the end of its session is. */
	void (*over)(void *ctx, uint32_t endpoint);
	/* One that comes has arrived: it runs here, and did not when it was looked at last. */
	void (*arrived)(void *ctx, uint32_t endpoint);
	void *ctx;
};

#endif
