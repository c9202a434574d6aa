/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CORE_SHELL_H
#define BROKER_CORE_SHELL_H

/*
 * Binds the read plane to the world, as desk_shell does the write plane: performs the actions that
 * the core hands out, in their order. It never fails; what the store refuses is logged.
 */

#include "broker/read/core.h"

struct broker;
struct config;

/* What the core may have of what there is: the configured limits, within RLIMIT_NOFILE. */
struct core_limits core_shell_limits(const struct config *config);

/* All that the core has to have done by now. */
void core_shell_perform(struct broker *broker);

#endif
