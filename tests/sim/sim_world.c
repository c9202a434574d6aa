/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deterministic simulation of both planes and of the fleet in one world: that of sim_fleet, with
 * dozens of guests, and at each host the real core of broker/read and the real engine of lease/
 * beside the real broker/fleet, bound to it as the broker binds them. Hosts have clocks with rates
 * of their own; the store revokes early, is cut off and restored; guests start, reset, panic,
 * migrate and run twice; brokers and hosts crash; operators fall silent, lose connections and write
 * late; messages of two connections overtake each other. Checked after each step, beside what
 * sim_fleet checks: I1   no two leases of a guest overlap, over hosts and in one I3   bytes change
 * under a granted lease in the guest's epoch, in the order of the tokens, over hosts I4   and not
 * after its end was acknowledged I13  each subscriber's history is in order, and in an epoch all
 * see one life of a guest I14  nobody hears of what its policy does not name I10  when the faults
 * stop, each guest is ready and told where it runs, and who asks is answered What it cannot show:
 * the desk of broker/write, its records and its disk, which sim_write has; a broker's leases end
 * with it here.
 *
 *   sim_world [--seeds N] [--first S] [--seed S] [--steps N] [--only A-B,C] [--verbose 1]
 *             [--break WHAT]
 *
 * --break leaves one thing out between what is real, which has to be found.
 *
 * sim_world_large is the same over hundreds of guests.
 */
#include <stdio.h>
#include <string.h>

#include "tests/sim/world_planes.h"

static const char *const flaws[WORLD_FLAWS] = {"none", "no-fence", "no-right", "own-tokens",
	"stale-leases", "leak", "lost-invalidation", "forgotten-epoch"};

static bool take(const char *option, const char *value)
{
	if (strcmp(option, "--break") != 0)
		return false;
	for (unsigned i = 0; i < WORLD_FLAWS; i++) {
		if (strcmp(flaws[i], value) == 0)
			world_flaw = (enum world_flaw)i;
	}
	return world_flaw != WORLD_WHOLE;
}

int main(int argc, char **argv)
{
	struct sim_options options = {.first = 1, .seeds = 20, .steps = 3000};

	sim_options(&options, argc, argv, " [--break WHAT]", take);
	planes = &world_planes;
	for (uint64_t i = 0; i < options.seeds; i++)
		fleet_run(options.first + i, options.steps);
	printf("%llu seeds of %u steps, %d guests: %llu contexts, %llu grants, %llu writes, %llu "
	       "refused, %llu leases ended\n",
		(unsigned long long)options.seeds, options.steps, GUESTS, world_tallies[W_CONTEXTS],
		world_tallies[W_GRANTS], world_tallies[W_WRITES], world_tallies[W_REFUSED],
		world_tallies[W_ENDED]);
	/* What has seen nothing has checked nothing. */
	return world_tallies[W_CONTEXTS] && world_tallies[W_GRANTS] && world_tallies[W_WRITES] ? 0
											       : 1;
}
