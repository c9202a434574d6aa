/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mishaps (proto/mishap.h) by the dice of a simulator's seed, while its faults go on. In each seed
 * some of them strike often and the others never, so that one is seen with what follows from it.
 */
#include "proto/mishap.h"
#include "tests/sim/sim.h"

static bool is_of_this_seed(const char *name)
{
	uint64_t hash = sim.seed + 1;

	for (const char *at = name; *at; at++)
		hash = (hash ^ (unsigned char)*at) * 0x100000001b3ull;
	return (hash >> 32) % 4 == 0;
}

bool mishap_strikes(const char *name)
{
	if (!sim.faults || !*sim.faults || !is_of_this_seed(name) || dice(6))
		return false;
	say("mishap: %s", name);
	return true;
}
