/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host's planes in sim_world, bound to its part of the fleet as the broker binds them: the fleet
 * says who has a guest and above which epochs and tokens; the read core counts epochs; the engine
 * grants what the fleet has recorded, for as long as the fleet says that bytes may be changed.
 */
#include <stdio.h>
#include <string.h>

#include "tests/sim/world_planes.h"
#include "vmsig/vmsig_error.h"

#define WALL_NS (1ull << 60) /* some day in 2006 */

struct seat seats[HOSTS];
unsigned long long world_tallies[W_TALLIES];
enum world_flaw world_flaw;

uint32_t planes_endpoint(int g)
{
	return (uint32_t)g + 1;
}

uint32_t planes_epoch(int h, int g)
{
	struct core_endpoint_info info;

	if (!seats[h].core || !seats[h].places[g].there ||
		core_endpoint_find(seats[h].core, NULL, world.guests[g].uuid, &info))
		return 0;
	return info.epoch;
}

uint64_t planes_clock(int h)
{
	struct seat *seat = &seats[h];

	seat->now_ns = host_clock(&world.hosts[h]);
	seat->wall_ns = WALL_NS + world.now + seat->ahead_ns;
	return seat->now_ns;
}

static uint64_t wall_us(int h)
{
	(void)planes_clock(h);
	return seats[h].wall_ns / 1000;
}

/* ---- leases ---- */

/* Leases may be had as long as this host has the guest, which runs, in an epoch that both planes
 * and the fleet know. */
static bool is_writable(int h, int g)
{
	const struct service *service = &world.hosts[h].services[g];
	struct core_endpoint_info info;

	return seats[h].places[g].there && service->owned && !seats[h].places[g].brings &&
	       !core_endpoint_find(seats[h].core, NULL, world.guests[g].uuid, &info) &&
	       info.state == VMSIG_STATE_READY && info.epoch == service->epoch;
}

static void desk_over(int h, int g)
{
	struct place *place = &seats[h].places[g];

	place->away = false;
	place->writable = 0;
	desk_endpoint_over(seats[h].desk, planes_clock(h), planes_endpoint(g));
}

/* Its leases stay as they are: they go along. */
static void desk_leave(int h, int g)
{
	struct place *place = &seats[h].places[g];

	place->away = true;
	place->writable = 0;
	desk_endpoint_leave(seats[h].desk, planes_clock(h), planes_endpoint(g));
}

static void desk_ready(int h, int g, uint32_t epoch)
{
	struct place *place = &seats[h].places[g];

	place->away = false;
	place->writable = epoch;
	desk_endpoint_ready(
		seats[h].desk, planes_clock(h), planes_endpoint(g), epoch, &place->page);
}

static bool is_leaving(int h, int g)
{
	return world.guests[g].from == h || world.guests[g].left == h;
}

/* Whether leases of it are here that go along, also those of an earlier process. */
static bool had(int h, int g)
{
	const struct service *service = &world.hosts[h].services[g];
	struct tenure_view view;

	if (!service->tenure || service->had != guest_life_at(g, h))
		return false;
	tenure_look(service->tenure, &view);
	return service->owned || view.adopted;
}

static void follow_desk(int h, int g)
{
	struct place *place = &seats[h].places[g];
	uint32_t epoch = is_writable(h, g) ? world.hosts[h].services[g].epoch : 0;

	if (seats[h].ghost || (world_flaw == WORLD_STALE_LEASES && place->writable))
		return;
	if (world.guests[g].left == h && !place->away && had(h, g)) {
		desk_leave(h, g);
		return;
	}
	/* What has left is waited for; it may stay after all. */
	if (place->away && (is_leaving(h, g) || !epoch))
		return;
	if (epoch == place->writable)
		return;
	if (epoch)
		desk_ready(h, g, epoch);
	else
		desk_over(h, g);
}

/* ---- epochs ---- */

static void follow_epoch(int h, int g)
{
	struct service *service = &world.hosts[h].services[g];
	uint32_t epoch = planes_epoch(h, g);

	if (epoch && epoch < service->epoch)
		core_endpoint_raise(seats[h].core, planes_endpoint(g), service->epoch - 1);
}

static bool is_there(int h, int g)
{
	const struct guest *guest = &world.guests[g];

	return guest->where == h || guest->left == h || guest->ghost == h;
}

static void follow(int h, int g)
{
	struct place *place = &seats[h].places[g];

	if (!seats[h].core)
		return;
	if (is_there(h, g) && !place->there) {
		readers_add(h, g, world.hosts[h].services[g].epoch);
		place->came_ns = planes_clock(h);
	}
	if (!is_there(h, g) && place->there)
		readers_remove(h, g);
	follow_epoch(h, g);
	follow_desk(h, g);
}

/* ---- actions ---- */

/* Durable, and known to the fleet, before anybody hears of it. */
static void persist_epoch(int h, int g, uint32_t epoch)
{
	struct service *service = &world.hosts[h].services[g];

	if (epoch <= service->epoch || world_flaw == WORLD_FORGOTTEN_EPOCH)
		return;
	service->epoch = epoch;
	if (service->owned && is_there(h, g))
		judge_epoch(h, g, epoch);
	if (service->tenure)
		tenure_epoch(service->tenure, host_clock(&world.hosts[h]), epoch);
}

static void perform_read(int h, const struct core_action *action)
{
	struct place *place = &seats[h].places[action->endpoint ? action->endpoint - 1 : 0];

	if (action->kind == CORE_ACT_PERSIST_EPOCH)
		persist_epoch(h, (int)action->endpoint - 1, action->epoch);
	else if (action->kind == CORE_ACT_REVOKE_LEASES && place->writable && !seats[h].ghost &&
		 world_flaw != WORLD_STALE_LEASES)
		desk_over(h, (int)action->endpoint - 1);
	else if (action->kind == CORE_ACT_NOTIFY)
		((struct subscriber *)session_user(action->session))->owed = true;
	else if (action->kind == CORE_ACT_BOOTSTRAP)
		place->wanted = action->epoch;
	else if (action->kind == CORE_ACT_DISCONNECT)
		broken("a subscriber is told to go");
}

void planes_perform(int h)
{
	struct seat *seat = &seats[h];
	struct core_action read;

	while (seat->core && core_next_action(seat->core, &read))
		perform_read(h, &read);
	desks_turn(h);
}

/* ---- what the host's part of the fleet says ---- */

static void changed(int h, int g)
{
	follow(h, g);
	planes_perform(h);
}

static void told_of_guest(int h, int g, const struct fleet_action *action)
{
	struct place *place = &seats[h].places[g];
	struct desk *desk = seats[h].desk;
	uint64_t now = planes_clock(h);

	if (action->kind == FLEET_ACT_GRANTED)
		desk_lease_stored(desk, now, action->lease, action->token);
	else if (action->kind == FLEET_ACT_NOT_GRANTED)
		desk_lease_failed(desk, now, action->lease, VMSIG_ERR_BUSY);
	else if (action->kind == FLEET_ACT_LOST || action->kind == FLEET_ACT_RELEASED) {
		place->brings = false;
		if (place->writable || place->away)
			desk_over(h, g);
	} else if (action->kind == FLEET_ACT_MOVED) {
		place->brings = place->away = false;
		place->writable = 0;
		desk_endpoint_moved(desk, now, planes_endpoint(g), action->host);
	} else if (action->kind == FLEET_ACT_OWNED) {
		place->brings = action->baggage;
		place->brought = 0;
		place->brought_at = 0;
	}
}

static void told(int h, int g, const struct fleet_action *action)
{
	if (!seats[h].desk)
		return;
	if (!seats[h].ghost)
		told_of_guest(h, g, action);
	changed(h, g);
}

static void broker_started(int h)
{
	static const struct core_limits core_limits = {.endpoints = GUESTS,
		.sessions = TENANTS,
		.inflight = 2 * TENANTS,
		.take_timeout_ns = UINT64_MAX / 4};
	struct seat *seat = &seats[h];

	if (core_new(&seat->core, &core_limits))
		broken("out of memory");
	seat->broker = world.hosts[h].brokers;
	if (!seat->disk)
		desks_make(h);
	desks_start(h);
	readers_begin(h);
	for (int g = 0; g < GUESTS; g++)
		changed(h, g);
}

/* Nothing of it is left but what was durable. */
static void broker_ended(int h)
{
	struct seat *seat = &seats[h];
	struct core_action action;

	seat->ghost = true;
	core_closing(seat->core);
	for (int g = 0; g < GUESTS; g++) {
		struct place *place = &seat->places[g];

		if (place->there)
			readers_remove(h, g);
		place->writable = 0;
		place->away = place->brings = false;
	}
	readers_end(h);
	while (core_next_action(seat->core, &action))
		;
	seat->core = core_free(seat->core);
	desks_end(h);
}

static void power_cut(int h)
{
	seats[h].power = true;
}

static int pack(int h, int g, bool last, uint8_t **ret_data, size_t *ret_len)
{
	if (seats[h].ghost)
		return VMSIG_ERR_BUSY;
	if (!seats[h].places[g].away)
		desk_leave(h, g);
	return luggage_pack(h, g, last, ret_data, ret_len);
}

/* Whoever is connected is told, and who is not waits no longer than for the grace. */
static void lost(int h, int g)
{
	if (world.guests[g].leased_by == h)
		world.guests[g].belief_until = 0;
	if (!seats[h].ghost && (seats[h].places[g].away || seats[h].places[g].writable))
		desk_over(h, g);
}

/* ---- steps ---- */

static void begin(void)
{
	memset(seats, 0, sizeof(seats));
	policy_make();
	memory_make();
	model_reset();
	wires_reset();
	readers_reset();
	operators_reset();
}

/* A ghost has a moment until it is gone. */
static void bury(int h)
{
	struct host *host = &world.hosts[h];

	if (!seats[h].core || !seats[h].ghost)
		return;
	host_broker_end(h);
	host->broker_at = world.now + MS * dice(dice(2) ? 1000 : 20000);
}

static void step_host(int h)
{
	if (!seats[h].core)
		return;
	core_advance(seats[h].core, planes_clock(h));
	readers_step(h);
	desks_step(h);
	planes_perform(h);
	for (int g = 0; g < GUESTS; g++) {
		if (seats[h].places[g].brings)
			luggage_step(h, g);
		follow(h, g);
	}
	planes_perform(h);
	host_perform(h);
	if (!seats[h].ghost)
		readers_check(h);
}

static void step(void)
{
	static unsigned looked;

	for (int h = 0; h < HOSTS; h++) {
		step_host(h);
		bury(h);
	}
	operators_step();
	for (int h = 0; h < HOSTS; h++)
		bury(h);
	looked = (looked + 1) % (GUESTS * HOSTS);
	memory_check((int)(looked % GUESTS), (int)(looked / GUESTS));
}

static void calm(void)
{
	for (int h = 0; h < HOSTS; h++) {
		seats[h].kill_in = 0;
		disk_heal(seats[h].disk);
	}
}

static void settled(void)
{
	for (int h = 0; h < HOSTS; h++)
		readers_settle(h);
	operators_settled();
	for (int g = 0; g < GUESTS; g++) {
		for (int h = 0; h < HOSTS; h++)
			memory_check(g, h);
	}
}

static void end(void)
{
	for (int h = 0; h < HOSTS; h++)
		desks_free(h);
	memory_free();
	model_reset();
	wires_reset();
}

const struct planes world_planes = {.begin = begin,
	.broker_started = broker_started,
	.broker_ended = broker_ended,
	.changed = changed,
	.told = told,
	.wall_us = wall_us,
	.power_cut = power_cut,
	.born = memory_born,
	.copied = memory_copied,
	.arrived = memory_arrived,
	.pack = pack,
	.lost = lost,
	.step = step,
	.calm = calm,
	.settled = settled,
	.end = end};
