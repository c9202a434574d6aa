/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_WORLD_PLANES_H
#define TESTS_SIM_WORLD_PLANES_H

/*
 * The planes of sim_world, at each host of fleet_world.h: the real core of broker/read and the real
 * engine of lease/, for all guests of the fleet.
 *
 *   world_planes     a host's planes, and how they follow the fleet
 *   world_readers    adapters, and subscribers that check what they are told
 *   world_operators  operators, what is on its way between them and the hosts, and their writes
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/policy/tenant.h"
#include "broker/read/core.h"
#include "lease/lease.h"
#include "tests/sim/fleet_world.h"
#include "tests/sim/history.h"

#define TENANTS 3
#define OPERATORS (2 * GUESTS)

/* What a host has of a guest. */
struct place {
	bool there; /* a QEMU of it */
	vmsig_coherence page;
	uint32_t wanted;   /* epoch that a bootstrap was asked for; 0: none is */
	uint32_t writable; /* epoch that leases may be had in; 0: none */
};

struct subscriber {
	struct session *session;
	bool owed, outstanding;
	struct history histories[GUESTS];
};

struct seat {
	struct core *core; /* NULL: the broker is down */
	struct lease_engine *engine;
	uint64_t next_id; /* of leases; durable */
	unsigned broker;  /* that these connections are to */
	struct place places[GUESTS];
	struct subscriber subscribers[TENANTS];
};

extern struct seat seats[HOSTS];
extern const struct tenant tenants[TENANTS];
extern const struct planes world_planes;

/* What --break leaves out between what is real. */
enum world_flaw {
	WORLD_WHOLE,
	WORLD_NO_FENCE,     /* the engine is not asked before bytes change */
	WORLD_NO_RIGHT,     /* nor is the fleet */
	WORLD_OWN_TOKENS,   /* tokens are counted by each host */
	WORLD_STALE_LEASES, /* leases stay when the guest's epoch ends */
	WORLD_LEAK,         /* what one subscriber is told, another one hears */
	WORLD_LOST_INVALIDATION,
	WORLD_FORGOTTEN_EPOCH, /* the fleet does not hear of epochs that the core has begun */
	WORLD_FLAWS,
};
extern enum world_flaw world_flaw;

enum world_tally { W_CONTEXTS, W_GRANTS, W_WRITES, W_REFUSED, W_ENDED, W_TALLIES };
extern unsigned long long world_tallies[W_TALLIES];

/* ---- world_planes ---- */

uint32_t planes_endpoint(int g);
/* The core's epoch of it; 0: it has none. */
uint32_t planes_epoch(int h, int g);
/* Performs what core and engine want. */
void planes_perform(int h);

/* ---- world_readers ---- */

void readers_begin(int h);
void readers_end(int h);
void readers_add(int h, int g, uint32_t epoch);
void readers_remove(int h, int g);
void readers_step(int h);
/* Everybody reads all that there is. */
void readers_settle(int h);
/* What has to be known of a guest's context. */
void readers_check(int h);
void readers_reset(void);

/* ---- world_operators ---- */

void operators_reset(void);
void operators_step(void);
/* The engine says something to the holder. */
void operators_told(int h, const struct lease_action *action);
/* Connections to the host's broker are lost. */
void operators_cut(int h);
/* Everybody who waits has got something. */
void operators_settled(void);

#endif
