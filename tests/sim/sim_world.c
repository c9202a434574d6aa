/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deterministic simulation of both planes and of the fleet in one world: that of sim_fleet, with
 * dozens of guests, and at each host the real core of broker/read and the real desk of broker/write
 * (with lease/ and broker/memwrite) beside the real broker/fleet, bound to it as the broker binds
 * them. Hosts have boot clocks with rates of their own and wall clocks that jump, and disks that
 * are slow, full and fail; the store revokes early, is cut off and restored; guests start, reset,
 * panic, migrate and run twice, and their leases go along with what was written under them; brokers
 * are killed at any call of their desk, hosts lose their power; operators fall silent, lose
 * connections with what was on its way, come back and send again; messages of two connections
 * overtake each other. Checked after each step and at each store into a guest, beside what
 * sim_fleet checks: I1   no two leases of a guest overlap, over hosts and in one I3   bytes change
 * inside lease, deadline and epoch, in the order of the tokens, over hosts I4   and not after the
 * end of the lease was told; nor does it come back I5   what was told is in the guest and recorded,
 * each intent with one result I6   each command is applied once, over hosts, and a repeated answer
 * is the same I7   what is unknown is told as unknown, and nothing else I8   a part is told with
 * its length I12  records stand in their order I13  each subscriber's history is in order, and in
 * an epoch all see one life of a guest I14  nobody hears of what its policy does not name I16  what
 * was written before a migration is in the guest after it I17  what changed was admitted and is
 * named by a durable intent of that host I10  when the faults stop, each guest is ready and told
 * where it runs, and who asks is answered What it cannot show: bulk data, page tables, policies
 * that change and the order of waiters, which sim_write has; the form of what goes along
 * (broker/store/baggage), which is the simulator's.
 *
 *   sim_world [--seeds N] [--first S] [--seed S] [--steps N] [--only A-B,C] [--verbose 1]
 *             [--break WHAT]
 *
 * --break leaves one thing out between what is real, which has to be found.
 *
 * sim_world_large is the same over hundreds of guests.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "broker/memwrite/fault.h"
#include "tests/sim/world_planes.h"

static const char *const flaws[WORLD_FLAWS] = {"none", "no-fence", "no-right", "own-tokens",
	"stale-leases", "leak", "lost-invalidation", "forgotten-epoch", "forgotten-answers",
	"forgotten-marks"};

static const char *const tally_names[W_TALLIES] = {"contexts", "grants", "writes", "refused",
	"leases ended", "told again", "unknown", "brokers ended", "leases moved", "resumed",
	"answers moved"};

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

/* An assertion has a seed, too. Nothing goes on after it. */
static void on_abort(int signum)
{
	broken("assert: see above"); /* NOLINT(bugprone-signal-handler) */
}

int main(int argc, char **argv)
{
	struct sim_options options = {.first = 1, .seeds = 20, .steps = 12000};

	if (fault_setup() || signal(SIGABRT, on_abort) == SIG_ERR)
		broken("no handlers of signals");
	sim_options(&options, argc, argv, " [--break WHAT]", take);
	planes = &world_planes;
	for (uint64_t i = 0; i < options.seeds; i++)
		fleet_run(options.first + i, options.steps);
	printf("%llu seeds of %u steps, %d guests, %d tenants:", (unsigned long long)options.seeds,
		options.steps, GUESTS, TENANTS);
	for (unsigned i = 0; i < W_TALLIES; i++)
		printf("%s %llu %s", i ? "," : "", world_tallies[i], tally_names[i]);
	printf("\n");
	/* What has seen nothing has checked nothing. */
	return world_tallies[W_CONTEXTS] && world_tallies[W_GRANTS] && world_tallies[W_WRITES] ? 0
											       : 1;
}
