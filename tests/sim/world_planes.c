/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host's planes in sim_world, bound to its part of the fleet as the broker binds them: the fleet
 * says who has a guest and above which epochs and tokens; the read core counts epochs; the engine
 * grants what the fleet has recorded, for as long as the fleet says that bytes may be changed.
 */
#include <stdio.h>
#include <string.h>

#include "tests/sim/world_planes.h"

struct seat seats[HOSTS];
unsigned long long world_tallies[W_TALLIES];
enum world_flaw world_flaw;

static const struct lease_limits limits = {.leases = 16 * GUESTS,
	.waiters = 8,
	.ranges = 4,
	.preempt_grace_ns = 200 * MS,
	.resume_grace_ns = 300 * MS};

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

/* ---- leases ---- */

/* Leases may be had as long as this host has the guest, which runs, in an epoch that both planes
 * and the fleet know. */
static bool is_writable(int h, int g)
{
	const struct service *service = &world.hosts[h].services[g];
	struct core_endpoint_info info;

	return seats[h].places[g].there && service->owned &&
	       !core_endpoint_find(seats[h].core, NULL, world.guests[g].uuid, &info) &&
	       info.state == VMSIG_STATE_READY && info.epoch == service->epoch;
}

static void follow_leases(int h, int g)
{
	struct seat *seat = &seats[h];
	struct place *place = &seat->places[g];
	uint32_t epoch = is_writable(h, g) ? world.hosts[h].services[g].epoch : 0;

	if (epoch == place->writable || (world_flaw == WORLD_STALE_LEASES && place->writable))
		return;
	if (!epoch)
		lease_endpoint_down(seat->engine, host_clock(&world.hosts[h]), planes_endpoint(g),
			VMSIG_ERR_GONE);
	else if (lease_endpoint_ready(
			 seat->engine, host_clock(&world.hosts[h]), planes_endpoint(g), epoch))
		broken("the engine takes no endpoint");
	place->writable = epoch;
}

static void store_grant(int h, const struct lease_view *lease)
{
	struct service *service = &world.hosts[h].services[lease->endpoint - 1];
	uint64_t now = host_clock(&world.hosts[h]);
	struct tenure_lease record = {.id = lease->id,
		.token = service->token + 1,
		.ttl_ns = LEASE_TTL,
		.record = lease->tenant,
		.record_len = strlen(lease->tenant)};

	if (world_flaw == WORLD_OWN_TOKENS)
		lease_stored(seats[h].engine, now, lease->id, ++service->token);
	else if (!service->tenure || tenure_grant(service->tenure, now, &record))
		lease_store_failed(seats[h].engine, now, lease->id, VMSIG_ERR_NOT_READY);
}

static void perform_lease(int h, const struct lease_action *action)
{
	struct service *service = &world.hosts[h].services[action->lease.endpoint - 1];

	if (action->kind == LEASE_ACT_STORE_GRANT)
		store_grant(h, &action->lease);
	else if (action->kind == LEASE_ACT_STORE_END && service->tenure)
		tenure_end(service->tenure, host_clock(&world.hosts[h]), action->lease.id,
			action->lease.token);
	operators_told(h, action);
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
	if (is_there(h, g) && !place->there)
		readers_add(h, g, world.hosts[h].services[g].epoch);
	else if (!is_there(h, g) && place->there)
		readers_remove(h, g);
	follow_epoch(h, g);
	follow_leases(h, g);
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
	struct lease_action lease;

	while (seat->core && core_next_action(seat->core, &read))
		perform_read(h, &read);
	while (seat->core && lease_next_action(seat->engine, &lease))
		perform_lease(h, &lease);
}

/* ---- what the host's part of the fleet says ---- */

static void changed(int h, int g)
{
	follow(h, g);
	planes_perform(h);
}

static void told(int h, int g, const struct fleet_action *action)
{
	uint64_t now = host_clock(&world.hosts[h]);
	struct lease_engine *engine = seats[h].engine;

	if (!engine)
		return;
	if (action->kind == FLEET_ACT_GRANTED)
		lease_stored(engine, now, action->lease, action->token);
	else if (action->kind == FLEET_ACT_NOT_GRANTED)
		lease_store_failed(engine, now, action->lease, VMSIG_ERR_NOT_READY);
	changed(h, g);
}

static void broker_started(int h)
{
	static const struct core_limits core_limits = {.endpoints = GUESTS,
		.sessions = TENANTS,
		.inflight = 2 * TENANTS,
		.take_timeout_ns = UINT64_MAX / 4};
	struct seat *seat = &seats[h];

	if (core_new(&seat->core, &core_limits) ||
		lease_engine_new(&seat->engine, &limits, seat->next_id + 1))
		broken("out of memory");
	seat->broker = world.hosts[h].brokers;
	readers_begin(h);
	for (int g = 0; g < GUESTS; g++)
		changed(h, g);
}

/* Nothing of it is left but what was durable. */
static void broker_ended(int h)
{
	struct seat *seat = &seats[h];
	struct core_action action;

	core_closing(seat->core);
	for (int g = 0; g < GUESTS; g++) {
		if (seat->places[g].there)
			readers_remove(h, g);
		seat->places[g].writable = 0;
	}
	readers_end(h);
	while (core_next_action(seat->core, &action))
		;
	seat->core = core_free(seat->core);
	seat->engine = lease_engine_free(seat->engine);
	operators_cut(h);
}

/* ---- steps ---- */

static void begin(void)
{
	memset(seats, 0, sizeof(seats));
	readers_reset();
	operators_reset();
}

static void step(void)
{
	for (int h = 0; h < HOSTS; h++) {
		uint64_t now = host_clock(&world.hosts[h]);

		if (!seats[h].core)
			continue;
		core_advance(seats[h].core, now);
		lease_advance(seats[h].engine, now);
		readers_step(h);
		planes_perform(h);
		for (int g = 0; g < GUESTS; g++)
			follow(h, g);
		planes_perform(h);
		host_perform(h);
		readers_check(h);
	}
	operators_step();
}

static void settled(void)
{
	for (int h = 0; h < HOSTS; h++)
		readers_settle(h);
	operators_settled();
}

const struct planes world_planes = {.begin = begin,
	.broker_started = broker_started,
	.broker_ended = broker_ended,
	.changed = changed,
	.told = told,
	.step = step,
	.settled = settled,
	.end = operators_reset};
