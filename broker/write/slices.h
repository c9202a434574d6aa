/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_SLICES_H
#define BROKER_WRITE_SLICES_H

/*
 * Bulk data is stored, slice by slice: one on the loop, each in a task of its own, while a thread
 * reads the part that comes after it. Of one tenant one command is at it; with `quiesce` the
 * guest's vCPUs stand still from before its first slice until after its last one.
 */

#include "broker/write/state.h"

struct bulk;
struct command;

/* Its intent is durable: has it stored, when it is its turn; the last slice finishes it. */
void slices_store(struct command *command);
/* It is finished, and nothing of it is stored any more, for this reason. It was not begun. */
void slices_fail(struct command *command, int error);
/* Ends those whose lease, policy or endpoint is over. */
void slices_look(struct desk *desk);

#endif
