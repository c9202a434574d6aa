/* SPDX-License-Identifier: Apache-2.0 */
/* Guests of sim_fleet: where each runs, what is in its memory, and how it migrates. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/fleet_world.h"

static void tell_all(int g)
{
	for (int h = 0; h < HOSTS; h++) {
		host_tell(h, g);
		host_perform(h);
	}
}

unsigned guest_life_at(int g, int h)
{
	const struct guest *guest = &world.guests[g];

	return h == guest->ghost ? guest->ghost_life : guest->life;
}

void guest_lay(int g)
{
	struct guest *guest = &world.guests[g];
	int h = guest->ghost;

	guest->ghost = NOWHERE;
	guest->trap = false;
	if (h == NOWHERE)
		return;
	host_tell(h, g);
	host_perform(h);
}

static void guest_start(int g, int h)
{
	struct guest *guest = &world.guests[g];

	if (guest->ghost == h)
		guest_lay(g);
	guest->where = h;
	guest->arrived = false;
	guest->life++;
	guest->writes = 0;
	guest->memory[h] = 0;
	if (planes)
		planes->born(g, h);
	host_tell(h, g);
	host_perform(h);
}

void guest_reset(int g)
{
	struct guest *guest = &world.guests[g];

	memset(guest, 0, sizeof(*guest));
	snprintf(guest->uuid, sizeof(guest->uuid), "guest-%d", g);
	guest->where = guest->from = guest->to = guest->left = guest->ghost = NOWHERE;
	guest->leased_by = NOWHERE;
}

/* Its leases end, and their holders hear of it where the broker can tell them. */
static void guest_stop(int g)
{
	struct guest *guest = &world.guests[g];
	int h = guest->where;

	guest->where = NOWHERE;
	guest->start_at = world.now + MS * dice(dice(2) ? 2000 : 30000);
	if (h != NOWHERE && world.hosts[h].fleet)
		guest->belief_until = 0;
}

void guest_died(int g)
{
	struct guest *guest = &world.guests[g];

	guest_stop(g);
	guest->left = NOWHERE;
	guest->from = guest->to = NOWHERE;
	tell_all(g);
}

void guest_split(int g)
{
	struct guest *guest = &world.guests[g];

	if (guest->where == NOWHERE || guest->from != NOWHERE || guest->ghost != NOWHERE ||
		guest->left != NOWHERE)
		return;
	/* As when its host is cut off, and the store drops what it has of it at once. */
	guest->trap = dice(2);
	if (!guest->trap && dice(2)) {
		world.hosts[guest->where].apart = true;
		store_revoke_any();
		store_revoke_any();
	}
	guest->ghost = guest->where;
	guest->ghost_life = guest->life;
	guest->ghost_until = world.now + MS * dice(60000);
	guest->where = NOWHERE;
	guest->start_at = world.now + MS * dice(dice(2) ? 200 : 5000);
}

/* ---- migration ---- */

static void source_quits(int g)
{
	struct guest *guest = &world.guests[g];
	int h = guest->left;

	/* The guest was offered within a moment, and is after its QEMU's end all the same. */
	if (planes && (world.hosts[h].services[g].offer_at || world.hosts[h].services[g].offers)) {
		guest->quits_at = world.now + 50 * MS;
		return;
	}
	guest->left = NOWHERE;
	host_tell(h, g);
	host_perform(h);
}

static void migration_begin(int g)
{
	struct guest *guest = &world.guests[g];
	int from = guest->where, to = (from + 1 + (int)dice(HOSTS - 1)) % HOSTS;

	/* It cannot go where its old QEMU still is. */
	if (guest->ghost == to)
		guest_lay(g);
	if (guest->left != NOWHERE)
		source_quits(g);
	if (guest->left != NOWHERE)
		return;
	guest->from = from;
	guest->to = to;
	guest->copied = false;
	guest->ends_at = world.now + MS * (10 + dice(planes ? 4000 : 15000));
	host_tell(to, g);
	host_perform(to);
	host_tell(from, g);
	host_perform(from);
}

static void copy(int g)
{
	struct guest *guest = &world.guests[g];

	guest->memory[guest->to] = guest->memory[guest->from];
	if (planes)
		planes->copied(g, guest->from, guest->to);
}

void guest_migration_end(int g, bool arrived)
{
	struct guest *guest = &world.guests[g];
	int from = guest->from, to = guest->to;

	if (arrived && !guest->copied)
		copy(g);
	guest->from = guest->to = NOWHERE;
	if (arrived) {
		guest->where = to;
		guest->arrived = true;
		/* What was acknowledged at the source is there. */
		if (guest->memory[to] != guest->writes)
			broken("I16: %llu writes were acknowledged, and the guest has %llu after "
			       "its migration",
				(unsigned long long)guest->writes,
				(unsigned long long)guest->memory[to]);
		if (planes)
			planes->arrived(g, from, to);
		host_tell(to, g);
		host_perform(to);
		/* The source's QEMU stays for a while. */
		guest->left = from;
		guest->quits_at = world.now + MS * dice(dice(2) ? 100 : 20000);
		return;
	}
	/* A broker that is about to end hears of nothing any more. */
	if (world.hosts[from].services[g].tenure && !world.hosts[from].parts_at)
		tenure_stays(world.hosts[from].services[g].tenure, host_clock(&world.hosts[from]));
	host_perform(from);
	host_tell(to, g);
	host_perform(to);
}

/* ---- events ---- */

/* A reset is another life of the guest, and another epoch. */
void guest_reboot(int g)
{
	struct guest *guest = &world.guests[g];
	int h = guest->where;
	struct service *service;

	if (h == NOWHERE || guest->from != NOWHERE)
		return;
	service = &world.hosts[h].services[g];
	if (!service->tenure || !service->owned)
		return;
	service->life = service->had = ++guest->life;
	service->epoch++;
	/* Leases end with the epoch, and their holders are told. */
	service->luggage.token = 0;
	if (guest->leased_by == h)
		guest->belief_until = 0;
	/* One that is cut off goes on with epochs that are its own, and others may have come after
	 * them. */
	if (service->epoch > guest->epoch)
		judge_epoch(h, g, service->epoch);
	host_tell_session(h, g);
	tenure_epoch(service->tenure, host_clock(&world.hosts[h]), service->epoch);
	if (planes)
		planes->changed(h, g);
	host_perform(h);
}

/* Whether it was asked for. */
static bool grant(int g)
{
	int h = world.guests[g].where;
	struct service *service = &world.hosts[h].services[g];
	struct tenure_lease lease = {.id = dice(1000) + 1,
		.token = service->token + 1,
		.ttl_ns = LEASE_TTL,
		.record = "record",
		.record_len = 6};
	uint64_t now = host_clock(&world.hosts[h]);
	int r;

	if (planes || !service->tenure || !service->owned ||
		!tenure_may_apply(service->tenure, now))
		return false;
	r = tenure_grant(service->tenure, now, &lease);
	if (r == -ENOMEM)
		return false;
	if (r)
		broken("a grant is refused, where writes are not");
	if (service->luggage.token && dice(3) == 0)
		tenure_end(service->tenure, now, 0, service->luggage.token);
	host_perform(h);
	return true;
}

void guest_tick(int g)
{
	struct guest *guest = &world.guests[g];

	if (guest->where == NOWHERE && guest->start_at <= world.now)
		guest_start(g, (int)dice(HOSTS));
	if (guest->ghost != NOWHERE && guest->ghost_until <= world.now)
		guest_lay(g);
	if (guest->left != NOWHERE && guest->quits_at <= world.now)
		source_quits(g);
	if (guest->awaited && guest->where != NOWHERE && grant(g))
		guest->awaited = false;
	if (guest->from == NOWHERE)
		return;
	if (!guest->copied && dice(3) == 0) {
		copy(g);
		guest->copied = true;
	}
	if (guest->ends_at <= world.now)
		guest_migration_end(g, dice(4) != 0);
}

void guest_event(int g)
{
	struct guest *guest = &world.guests[g];

	if (guest->where == NOWHERE)
		return;
	switch (dice(8)) {
	case 0:
		if (guest->from == NOWHERE)
			migration_begin(g);
		break;
	case 1:
		/* Where there are planes it lives long enough for them to do something. */
		if (planes && dice(12))
			break;
		if (dice(3) == 0)
			guest_died(g);
		else if (dice(3) == 0)
			guest_split(g);
		break;
	case 2:
		if (guest->from != NOWHERE)
			guest_migration_end(g, false);
		break;
	case 3:
		guest_reboot(g);
		break;
	default:
		(void)grant(g);
	}
}
