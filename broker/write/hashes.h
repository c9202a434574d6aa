/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_HASHES_H
#define BROKER_WRITE_HASHES_H

/*
 * Hashes of the bytes of operations: those of several commands of a tenant are made together, which
 * takes half of the time where the CPU can (broker/multihash.h).
 */

#include "broker/write/state.h"

struct command;

/* data_hash of a READY command, unless it is there; and of those that come after it. Nothing for
 * bulk data. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int hashes_data(struct command *command);

/* Whether the hash of the bytes that were there before one that was applied just now is better made
 * with those of others: there are some, and its mark tells its outcome meanwhile. */
bool hashes_wait(const struct command *command);
/* Makes those that have waited; what fails is tried again for the record. */
void hashes_old(struct desk *desk);

#endif
