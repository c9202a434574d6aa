/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_STANDSTILL_H
#define BROKER_WRITE_STANDSTILL_H

/*
 * A guest's vCPUs stand still around a write that asks for it: one command of an endpoint at a
 * time, in the order in which they came, each for no longer than its rule says.
 */

struct command;

/* Calls still(), once, maybe at once: 0 and they stand still until standstill_end(), or until the
 * bound of the command's rule is over; an error and they do not: `detail` says so. */
void standstill_begin(struct command *command, void (*still)(struct command *command, int error));
/* They go on, after still() was called with 0; the next one that waits has its turn. */
void standstill_end(struct command *command);

#endif
