/* SPDX-License-Identifier: Apache-2.0 */
/* A seed of sim_fleet and sim_world: what goes wrong, who mends it, how time passes, and the end.
 */
#include <stdio.h>
#include <string.h>

#include "tests/sim/fleet_world.h"

struct world world;
const struct planes *planes;

/* ---- what goes wrong ---- */

static void host_crash(int h)
{
	struct host *host = &world.hosts[h];

	if (planes)
		planes->power_cut(h);
	host_broker_end(h);
	for (int g = 0; g < GUESTS; g++) {
		if (world.guests[g].left == h)
			world.guests[g].left = NOWHERE;
		if (world.guests[g].ghost == h)
			guest_lay(g);
		if (world.guests[g].where == h)
			guest_died(g);
		else if (world.guests[g].to == h)
			guest_migration_end(g, false);
	}
	host_boot(h);
	host->broker_at = world.now + MS * dice(20000);
}

static void broker_crash(int h)
{
	struct host *host = &world.hosts[h];

	if (!host->fleet || host->parts_at)
		return;
	if (dice(3) == 0) {
		host_broker_part(h);
		return;
	}
	host_broker_end(h);
	host->broker_at = world.now + MS * dice(dice(2) ? 1000 : 20000);
}

static void restore(void)
{
	bool same = dice(2) == 0;

	if (sim.seed % 3)
		return;
	say("restore%s", same ? ", which nobody tells" : "");
	net_break(world.now + MS * (8500 + dice(10000)));
	store_restore(same);
}

static void fault(void)
{
	int h = (int)dice(HOSTS);

	if (world.now < world.calm_until)
		return;
	switch (dice(14)) {
	case 0:
	case 1:
	case 2:
		store_revoke_any();
		break;
	case 3:
		store_elect();
		break;
	case 4:
	case 5:
		store_snapshot();
		break;
	case 6:
	case 7:
	case 8:
		world.hosts[h].apart = !world.hosts[h].apart;
		break;
	case 9:
	case 10:
		broker_crash(h);
		break;
	case 11:
		if (dice(3) == 0)
			host_crash(h);
		break;
	case 12:
		if (dice(3) == 0)
			restore();
		break;
	default:
		for (int i = 0; i < HOSTS; i++)
			world.hosts[i].apart = false;
	}
}

/* ---- operators ---- */

/* `vmsigctl fleet bump` at a host: its broker knows of its own guests alone. */
static int operator_bumps(int h)
{
	struct host *host = &world.hosts[h];
	struct tenure_view view;
	uint32_t epoch = 0;
	uint64_t token = planes ? planes->wall_us(h) : 0;

	for (int g = 0; g < GUESTS; g++) {
		const struct service *service = &host->services[g];

		tenure_look(service->tenure, &view);
		epoch = service->epoch > epoch ? service->epoch : epoch;
		token = service->token_floor > token ? service->token_floor : token;
		token = view.token > token ? view.token : token;
	}
	return fleet_bump(host->fleet, host_clock(host), epoch, token);
}

/* Where it is to be said: at a host that was there for the last bump. */
static bool is_newest(const struct host *host)
{
	for (int h = 0; h < HOSTS; h++) {
		if (world.hosts[h].memory.generation > host->memory.generation)
			return false;
	}
	return true;
}

/* One operator does, or one at each of several hosts. */
static void bump(void)
{
	int first = (int)dice(HOSTS);

	for (int i = 0; i < HOSTS; i++) {
		int h = (first + i) % HOSTS;
		struct host *host = &world.hosts[h];

		if (!host->fleet || !fleet_frozen(host->fleet) || host->bumps || !is_newest(host))
			continue;
		host->bumps = operator_bumps(h) == 0;
		host_perform(h);
		if (host->bumps && dice(2))
			break;
	}
}

static void operators(void)
{
	bool frozen = false;

	for (int h = 0; h < HOSTS; h++)
		frozen |= world.hosts[h].fleet && fleet_frozen(world.hosts[h].fleet);
	if (!frozen)
		world.bump_at = 0;
	else if (!world.bump_at)
		world.bump_at = world.now + MS * dice(dice(2) ? 500 : 20000);
	else if (world.bump_at <= world.now) {
		bump();
		world.bump_at = 0;
	}
}

/* ---- time ---- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

#define HURRIES 1000 /* steps in a row in which something is due at once */

static uint64_t next(void)
{
	uint64_t at = world.now + MS * (1 + dice(400));

	at = earlier(at, net_next());
	at = earlier(at, store_next_expiry());
	for (int h = 0; h < HOSTS; h++)
		at = earlier(at, host_next(h));
	world.hurries = at > world.now ? 0 : world.hurries + 1;
	if (world.hurries > HURRIES)
		broken("a timer is due for ever, and nothing is done for it");
	return at > world.now ? at : world.now + 1;
}

/* Where each guest is, and what each host makes of it, when that is another than before. */
static void show(void)
{
	static char before[512];
	char line[512] = "";

	if (!sim_is_verbose())
		return;
	for (int g = 0; g < GUESTS; g++) {
		size_t len = strlen(line);

		snprintf(line + len, sizeof(line) - len, "  guest %d at %d (%d to %d):", g,
			world.guests[g].where, world.guests[g].from, world.guests[g].to);
		for (int h = 0; h < HOSTS; h++) {
			struct tenure_view view = {0};

			if (world.hosts[h].fleet)
				tenure_look(world.hosts[h].services[g].tenure, &view);
			len = strlen(line);
			snprintf(line + len, sizeof(line) - len, " %s",
				world.hosts[h].fleet ? tenure_state_name(view.state) : "down");
		}
	}
	if (strcmp(line, before) != 0)
		say("%s", line);
	memcpy(before, line, sizeof(line));
}

static void writes(void)
{
	for (int g = 0; g < GUESTS; g++) {
		for (int h = 0; h < HOSTS; h++) {
			struct host *host = &world.hosts[h];
			struct tenure *tenure = host->services[g].tenure;

			if (host->fleet && tenure_may_apply(tenure, host_clock(host)) && dice(3))
				judge_write(h, g);
		}
	}
}

static void advance(void)
{
	world.now = next();
	store_expire();
	net_deliver();
	judge_right();
	for (int h = 0; h < HOSTS; h++)
		host_tick(h);
	judge_right();
	for (int g = 0; g < GUESTS; g++)
		guest_tick(g);
	operators();
	if (planes)
		planes->step();
	else
		writes();
	judge_right();
	show();
}

/* ---- a run ---- */

static void begin(void)
{
	memset(&world, 0, sizeof(world));
	world.now = 1000 * MS;
	world.faults = true;
	net_reset();
	store_reset();
	if (planes)
		planes->begin();
	for (int g = 0; g < GUESTS; g++)
		guest_reset(g);
	for (int h = 0; h < HOSTS; h++) {
		snprintf(world.hosts[h].name, sizeof(world.hosts[h].name), "host%d", h);
		host_boot(h);
		host_broker_start(h);
	}
}

static void settle(void)
{
	uint64_t until = world.now + 150000 * MS;

	world.faults = false;
	if (planes)
		planes->calm();
	for (int h = 0; h < HOSTS; h++)
		world.hosts[h].apart = false;
	for (int g = 0; g < GUESTS; g++)
		guest_lay(g);
	while (world.now < until)
		advance();
	judge_end();
	if (planes)
		planes->settled();
	for (int h = 0; h < HOSTS; h++)
		host_broker_end(h);
	net_reset();
	if (planes)
		planes->end();
}

/* Where there are planes, more happens to guests; and in some seeds there is time for them to do
 * something between two faults, or none but those of planes. */
static uint32_t event_sides(void)
{
	static const uint32_t sides[] = {4, 16, 40};

	return planes ? sides[sim.seed % 3] : 8;
}

static uint32_t fault_sides(void)
{
	static const uint32_t sides[] = {40, 200, 0};

	return planes ? sides[sim.seed / 3 % 3] : 20;
}

/* Whoever is cut off is not for ever, however seldom anything goes wrong. */
static void mend(void)
{
	for (int h = 0; planes && h < HOSTS; h++) {
		if (world.hosts[h].apart && dice(100) == 0)
			world.hosts[h].apart = false;
	}
}

void fleet_run(uint64_t seed, unsigned steps)
{
	sim_begin(seed);
	sim.now_ns = &world.now;
	sim.faults = &world.faults;
	begin();
	while (sim_next(steps)) {
		advance();
		if (dice(event_sides()) == 0)
			guest_event((int)dice(GUESTS));
		if (fault_sides() && dice(fault_sides()) == 0)
			fault();
		mend();
		judge_right();
	}
	settle();
}
