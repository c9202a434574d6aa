/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_DAMPER_H
#define BROKER_FLEET_DAMPER_H

/*
 * Keeps a guest that leaves and stays, again and again, from using up the fleet's etcd and the log:
 * what its QEMU says costs some transactions each time, and a QEMU that was taken over says what it
 * likes. A step away is taken at once, since nothing may be written from there on. A step back is
 * taken at once some times, and then held for longer and longer; what has come meanwhile counts
 * when it is due. Pure: time comes in. A zeroed one has seen nothing.
 */

#include <stdbool.h>
#include <stdint.h>

#include "broker/adapters/passage.h"

#define FLEET_DAMPER_FREE 4u                     /* steps back that are saved up */
#define FLEET_DAMPER_PAUSE_NS 1000000000ull      /* the first pause; each is twice the last */
#define FLEET_DAMPER_PAUSE_MAX_NS 60000000000ull /* and one step back is forgotten in so long */

struct fleet_damper {
	enum passage_step taken, held;
	bool holds;
	uint64_t until_ns; /* then the held one is due */
	uint32_t level;    /* steps back that are not forgotten */
	uint64_t level_ns; /* since then */
};

/* Whether the step is to be taken now; else it is held, or it is the one that was taken last. */
__attribute__((warn_unused_result)) bool fleet_damper_step(
	struct fleet_damper *damper, uint64_t now_ns, enum passage_step step);
/* Whether the step that was held is to be taken now. */
__attribute__((warn_unused_result)) bool fleet_damper_due(
	struct fleet_damper *damper, uint64_t now_ns, enum passage_step *ret_step);

#endif
