/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_DIGESTS_H
#define BROKER_WRITE_DIGESTS_H

/*
 * The digests of bulk data: of the data and of the bytes that were there before, made by threads,
 * most of it after the answer.
 */

#include "broker/write/state.h"

struct bulk;

/* Has a part hashed that was stored and is not kept: the payer's old bytes, and the data of the
 * current part. done() comes from the loop. */
void digests_part(struct bulk *bulk, void (*done)(struct bulk *bulk));
/* It is finished, and nothing is read for it any more: makes what is missing, calls made(), and has
 * the result recorded; that frees it. */
void digests_make(struct bulk *bulk, void (*made)(struct bulk *bulk));

#endif
