/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_WRITE_GUEST_H
#define TESTS_SIM_WRITE_GUEST_H

/* The inside of the simulated guests: shared by write_guest.c and write_visit.c. */

#include "tests/sim/write_world.h"

struct desk_target {
	struct guest *guest;
	struct memwrite_target *target;
};

/* What the guest does inside of a call of the desk. */
void guest_meanwhile(struct guest *guest);

/* desk_guest_ops */
void guest_apply(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, desk_admit_fn admit, void *arg, uint8_t *old,
	struct memwrite_result *ret_result);
void guest_look(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, desk_admit_fn admit, void *arg, uint8_t *old,
	struct memwrite_result *ret_result);

#endif
