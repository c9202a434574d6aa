/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deterministic simulation of several brokers of a fleet: real cores (broker/fleet) on hosts whose
 * clocks run too fast and too slow, a store that revokes leases early, changes its leader, loses,
 * doubles and delays what it is asked and answers, is cut off and is restored from snapshots;
 * guests that start, stop, reset and migrate; brokers and hosts that crash at every step. Checked:
 *   I15  no two hosts may write to a guest, at any real time; tokens and epochs of a guest rise
 * over hosts; nothing is granted from a restored store before an operator says so I16  a write that
 * was acknowledged before a migration is in the guest after it, and what came with the guest is
 * what was offered last; whoever is alive is not robbed, and deeds are changed one after the other
 * (each compare of each transaction, left out or negated, is found) I1   nobody gets a lease while
 * the holder of the one before believes in it I10  when the faults stop, each guest's host has it
 *
 *   sim_fleet [--seeds N] [--seed S] [--steps N] [--drop BID.COMPARE] [--negate BID.COMPARE]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/fleet_world.h"

/* ---- options ---- */

static bool take_sabotage(const char *value, bool negate)
{
	static char bid[32];

	if (sscanf(value, "%31[a-z].%u", bid, &sabotage.compare) != 2)
		return false;
	sabotage.bid = bid;
	sabotage.negate = negate;
	return true;
}

static bool take(const char *option, const char *value)
{
	if (strcmp(option, "--drop") == 0)
		return take_sabotage(value, false);
	return strcmp(option, "--negate") == 0 && take_sabotage(value, true);
}

int main(int argc, char **argv)
{
	struct sim_options options = {.first = 1, .seeds = 100, .steps = 1500};
	uint64_t owned = 0, migrated = 0, taken = 0;

	sim_options(&options, argc, argv, " [--drop BID.COMPARE] [--negate BID.COMPARE]", take);
	for (uint64_t i = 0; i < options.seeds; i++) {
		fleet_run(options.first + i, options.steps);
		owned += world.owned;
		migrated += world.migrated;
		taken += world.taken;
	}
	if (options.seeds >= 100 && (!migrated || !taken))
		broken("nothing ever migrated: this proves nothing");
	printf("%llu seeds of %u steps: I1, I10, I15, I16 hold; %llu tenures, %llu handed over, "
	       "%llu moved\n",
		(unsigned long long)options.seeds, options.steps, (unsigned long long)owned,
		(unsigned long long)taken, (unsigned long long)migrated);
	return 0;
}
