/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/turn.h"

#include "broker/boot_clock.h"
#include "broker/core_shell.h"
#include "broker/desk_shell.h"
#include "broker/fleet_shell.h"
#include "broker/net/net.h"
#include "broker/planes/ctx.h"
#include "broker/shell.h"
#include "broker/watchdog.h"

#define NS_PER_MS 1000000u
#define TURN_ROUNDS 8 /* two do, but for what nobody has thought of */

static void on_wake(uv_timer_t *timer)
{
	/* The turn before the loop sleeps again does what is due. */
}

static void arm_wake(struct broker *broker)
{
	uint64_t deadline = core_deadline(broker->core), now = uv_hrtime(),
		 look = ctx_plane_deadline(&broker->services);
	uint64_t delay = broker->desk ? desk_delay(broker->desk, boot_clock_ns()) : UINT64_MAX,
		 awake = shares_deadline(broker->shares);

	if (look < deadline)
		deadline = look;
	if (awake < deadline)
		deadline = awake;
	/* Deadlines of leases are on another clock. */
	if (deadline != UINT64_MAX && (deadline <= now || deadline - now < delay))
		delay = deadline > now ? deadline - now : 0;
	if (delay == UINT64_MAX)
		uv_timer_stop(&broker->wake);
	else
		uv_timer_start(&broker->wake, on_wake, delay ? delay / NS_PER_MS + 1 : 0, 0);
}

static void on_hurry(uv_idle_t *idle)
{
	/* The loop does not sleep; the next turn goes on with the tasks. */
}

/* While tasks are ready the loop only looks for events. What was found out after the tasks had
 * their turn counts too. */
static void arm_hurry(struct broker *broker)
{
	if (shares_pending(broker->shares))
		uv_idle_start(&broker->hurry, on_hurry);
	else
		uv_idle_stop(&broker->hurry);
}

static void run_parts(struct broker *broker)
{
	uint64_t now = uv_hrtime();

	ctx_plane_look(&broker->services, now);
	core_advance(broker->core, now);
	if (broker->fleet)
		fleet_shell_turn(broker->fleet);
	core_shell_perform(broker);
	/* What has become ready is asked for. */
	if (broker->fleet)
		fleet_shell_turn(broker->fleet);
	/* Deliveries that came of it leave together with the answers before them. */
	(void)shares_continue(broker->shares);
	if (broker->desk)
		desk_shell_turn(broker->desk_shell);
	if (broker->net)
		net_turn(broker->net);
}

static bool is_pending(const struct broker *broker)
{
	return core_deadline(broker->core) <= uv_hrtime() ||
	       (broker->fleet && fleet_shell_is_pending(broker->fleet)) ||
	       (broker->desk && desk_delay(broker->desk, boot_clock_ns()) == 0);
}

/* What was told is recorded when there is nothing else to do. What comes of that, as the end of a
 * lease that has waited for it, is told in this turn. */
static bool rest(const struct broker *broker)
{
	return broker->desk && !shares_pending(broker->shares) &&
	       desk_shell_rest(broker->desk_shell) && is_pending(broker);
}

void turn_run(struct broker *broker)
{
	unsigned rounds = 0;

	shares_looked(
		broker->shares, broker->turn_ended_ns ? uv_hrtime() - broker->turn_ended_ns : 0);
	(void)shares_run(broker->shares);
	do
		run_parts(broker);
	while (++rounds < TURN_ROUNDS && (is_pending(broker) || rest(broker)));
	arm_hurry(broker);
	upkeep_turn(broker);
	arm_wake(broker);
	watchdog_turn(broker->watchdog);
	broker->turn_ended_ns = shares_pending(broker->shares) ? uv_hrtime() : 0;
}
