/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_PERMIT_H
#define BROKER_WRITE_PERMIT_H

/* Whether a command may change bytes: its lease, its policy, its endpoint. */

#include "broker/write/state.h"

struct command;

/* Takes over what the rule says of such a command, as it is now. NULL: there is no rule.
 * VMSIG_ERR_FORBIDDEN, VMSIG_ERR_QUOTA; `detail` says what to do. */
__attribute__((warn_unused_result)) int permit_rule(
	struct command *command, const struct grant_rule *rule);
/* desk_admit_fn of a command: whether these bytes may be changed now, for its lease. */
int permit_bytes(void *command, uint64_t now_ns, const struct lease_range *range);
/* Whether the lease holds, the policy still allows it and the endpoint takes bytes. `detail`
 * may say why not. */
__attribute__((warn_unused_result)) int permit_command(struct command *command);

#endif
