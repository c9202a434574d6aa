/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_INTAKE_H
#define BROKER_WRITE_INTAKE_H

/*
 * A command comes in (desk_write()): it is read, paid for, held against the policy and its rates,
 * and READY from then on, or refused.
 */

#include "broker/write/state.h"

/* A release that takes its turn behind the commands in the lease's lane. -ENOMEM. */
__attribute__((warn_unused_result)) int intake_release(struct desk *desk, struct desk_operator *op,
	uint64_t request_id, uint64_t lease, uint64_t token);

#endif
