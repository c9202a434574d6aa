/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_LANE_H
#define BROKER_WRITE_LANE_H

/*
 * The order of one lease's commands. Each command is in the lane of its lease from the moment
 * it came in until it is finished; one that takes several turns (bulk data, stopped vCPUs) owns
 * the lane meanwhile, and those that came after it wait there, releases too: what was sent
 * before a release is applied before it. Bulk data that is stored and not recorded yet is still in
 * its lane, but only a release waits for it.
 */

#include "broker/write/command_object.h"

struct lane *lane_find(const struct desk *desk, uint64_t lease);
/* -ENOMEM. */
__attribute__((warn_unused_result)) int lane_enter(struct command *command);
/* Whether it has to wait for the owner. */
bool lane_is_taken(const struct command *command);
/* Those behind it wait from now on. */
void lane_own(struct command *command);
/* They do not any more, unless they are releases. */
void lane_pass(struct command *command);
/* Whether a release would have to wait. */
bool lane_is_unsettled(const struct command *command);
/* It is finished, or gone; those that waited for it are ready, before those that are. */
void lane_leave(struct command *command);
/* Nobody waits any more: all of it ends. */
void lanes_end(struct desk *desk);

#endif
