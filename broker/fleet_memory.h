/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_MEMORY_H
#define BROKER_FLEET_MEMORY_H

/*
 * What the fleet has to know again after a restart, in a file of its own in the state directory: a
 * few lines, written anew on a thread each time, by a name that takes the other's place when it is
 * on the disk. The newest is what counts; those in between are passed over.
 */

#include "broker/fleet/fleet.h"

struct fleet_keeper;
struct jobs;

/* Reads what is there, which may wait. Nothing, or what nobody can read, is none. -ENOMEM. */
__attribute__((warn_unused_result)) int fleet_memory_open(struct fleet_keeper **ret_keeper,
	struct jobs *jobs, const char *state_dir, struct fleet_memory *ret_memory);
/* From the loop; what fails is logged. */
void fleet_memory_keep(struct fleet_keeper *keeper, const struct fleet_memory *memory);
/* Accepts NULL, returns NULL. */
struct fleet_keeper *fleet_memory_close(struct fleet_keeper *keeper);

#endif
