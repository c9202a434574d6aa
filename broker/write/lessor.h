/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_LESSOR_H
#define BROKER_WRITE_LESSOR_H

/*
 * Performs what the lease engine wants, in its order: first into the batch, then, when that is
 * durable, the words to the operators. A grant that is not durable is taken back; an end that is
 * not durable holds all the same, and is owed to the store: nobody is told of it before.
 *
 * What a tenant's leases bring about is paid by the tenant's share of the loop's time, and what
 * is left after LESSOR_ACTIONS waits for the next round, so that others come in between.
 */

#include "broker/write/state.h"

#define LESSOR_ACTIONS 64u /* in one round: less than a millisecond */

/* The engine. */
__attribute__((warn_unused_result)) int lessor_init(struct desk *desk);
/* Restores the leases that survived, in the open batch. */
__attribute__((warn_unused_result)) int lessor_restore(struct desk *desk);
void lessor_free(struct desk *desk);

/* Whether the engine wants something, or something is owed and may be tried. */
bool lessor_has_work(const struct desk *desk);
/* Performs what the engine wants, into the batch. What there is no memory for stays with the
 * engine, and so does all that comes after it, in its order. */
void lessor_collect(struct desk *desk);
/* When it has to be, at the latest; UINT64_MAX: never. */
uint64_t lessor_deadline(const struct desk *desk);
/* Whether somebody waits for what the batch says. */
bool lessor_waits(const struct desk *desk);
/* The batch was committed, or not: operators are told, unless there is a ticket to wait for. */
void lessor_settle(struct desk *desk, int result, uint64_t ticket);
/* Whether the lease is granted, and its holder has still to be told. */
bool lessor_is_untold(const struct desk *desk, uint64_t lease);
/* The ticket, and those before it, have this answer. */
void lessor_answered(struct desk *desk, uint64_t ticket, int result);
/* Nobody is told of what is held. */
void lessor_drop_held(struct desk *desk);

#endif
