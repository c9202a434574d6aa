/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_RECOVER_H
#define BROKER_WRITE_RECOVER_H

/*
 * What a broker that was killed left between intents and results, settled once, at the start,
 * in the batch that opens the desk: each intent gets the outcome that its mark
 * (broker/store/marks.h) proves, and UNKNOWN_OUTCOME when none does. So no later question is
 * answered from anything but the ledger, and whoever never asks again has the right record too.
 *
 *   ENDED    the reply that was, or would have been, sent
 *   PAUSED   PARTIAL with the length of the slices that were applied
 *   BEGUN    UNKNOWN_OUTCOME
 *   TAKEN    nothing was written: the number is free again
 *
 * The bytes before, of a write that wanted them, are in the mark when they are few, and
 * otherwise lost.
 */

#include "broker/write/state.h"

/* Records that records are gone. */
void recover_loss(struct desk *desk);
/* Opens the marks, once or until it succeeds, and settles in the open batch what a crash left
 * without a result. Nothing is written before that; what fails is logged. */
void recover_collect(struct desk *desk);
/* The batch was committed: the marks are free; or not: it is tried again. */
void recover_settle(struct desk *desk, int result);

#endif
