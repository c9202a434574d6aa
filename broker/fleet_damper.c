/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/fleet_damper.h"

/* How far away the guest is by it. */
static unsigned distance(enum passage_step step)
{
	static const unsigned distances[] = {
		[PASSAGE_STAYS] = 0,
		[PASSAGE_COMES] = 0,
		[PASSAGE_LEAVES] = 1,
		[PASSAGE_LEFT] = 2,
		[PASSAGE_ENDED] = 3,
	};

	return distances[step];
}

static void forget(struct fleet_damper *damper, uint64_t now_ns)
{
	uint64_t n = (now_ns - damper->level_ns) / FLEET_DAMPER_PAUSE_MAX_NS;

	damper->level_ns += n * FLEET_DAMPER_PAUSE_MAX_NS;
	damper->level -= n < damper->level ? (uint32_t)n : damper->level;
	if (!damper->level)
		damper->level_ns = now_ns;
}

static uint64_t pause_ns(const struct fleet_damper *damper)
{
	uint64_t pause = FLEET_DAMPER_PAUSE_NS;

	if (damper->level < FLEET_DAMPER_FREE)
		return 0;
	for (uint32_t i = FLEET_DAMPER_FREE; i < damper->level && pause < FLEET_DAMPER_PAUSE_MAX_NS;
		i++)
		pause *= 2;
	return pause < FLEET_DAMPER_PAUSE_MAX_NS ? pause : FLEET_DAMPER_PAUSE_MAX_NS;
}

static bool take(struct fleet_damper *damper, enum passage_step step)
{
	damper->taken = step;
	damper->holds = false;
	return true;
}

bool fleet_damper_step(struct fleet_damper *damper, uint64_t now_ns, enum passage_step step)
{
	if (step == damper->taken) {
		damper->holds = false;
		return false;
	}
	if (distance(step) > distance(damper->taken))
		return take(damper, step);
	damper->held = step;
	/* Whatever is held meanwhile is one step back. */
	if (!damper->holds && now_ns >= damper->until_ns) {
		forget(damper, now_ns);
		damper->until_ns = now_ns + pause_ns(damper);
		damper->level++;
	}
	damper->holds = now_ns < damper->until_ns;
	return damper->holds ? false : take(damper, step);
}

bool fleet_damper_due(struct fleet_damper *damper, uint64_t now_ns, enum passage_step *ret_step)
{
	if (!damper->holds || now_ns < damper->until_ns)
		return false;
	*ret_step = damper->held;
	return take(damper, damper->held);
}
