/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests' adapters at a host of sim_world, and its subscribers: one of each tenant, who is told of
 * what it may see and nothing else, in order, and of one life of a guest in each epoch.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/policy/selector.h"
#include "tests/sim/world_planes.h"

#define LIVES 64 /* epochs of a guest that are remembered */

/* Which life of a guest an epoch was told for, over all hosts that had it. */
static struct {
	uint32_t epoch;
	unsigned life;
} lives[GUESTS][LIVES];
static unsigned nlives[GUESTS];
static int next_fd;

void readers_reset(void)
{
	memset(lives, 0, sizeof(lives));
	memset(nlives, 0, sizeof(nlives));
	next_fd = 1000;
}

/* ---- adapters ---- */

/* A place is of one host and one guest: its address says both. */
static void place_find(const struct place *place, int *ret_h, int *ret_g)
{
	for (int h = 0; h < HOSTS; h++) {
		if (place >= seats[h].places && place < seats[h].places + GUESTS) {
			*ret_h = h;
			*ret_g = (int)(place - seats[h].places);
		}
	}
}

static void describe(
	void *ctx, vmsig_memctx *out_pod, const vmsig_memseg **out_segs, uint32_t *out_nseg)
{
	int h = 0, g = 0;

	place_find(ctx, &h, &g);
	*out_pod = (vmsig_memctx){.kcr3 = (uint64_t)guest_life_at(g, h) << 12};
	*out_segs = NULL;
	*out_nseg = 0;
}

static int share_fd(void *ctx)
{
	(void)ctx;
	return world.faults && dice(20) == 0 ? -EMFILE : next_fd++;
}

static void invalidate(void *ctx, uint32_t epoch)
{
	((struct place *)ctx)->wanted = epoch;
}

static int emit(int h, int g, uint32_t kind, const void *inln, size_t size)
{
	const vmsig_emit *seam = core_emit(seats[h].core);
	vmsig_event ev = {.kind = kind, .endpoint = planes_endpoint(g)};

	memcpy(ev.inln, inln, size);
	return seam->event(seam->core, &ev);
}

static void bootstrapped(int h, int g)
{
	struct place *place = &seats[h].places[g];
	const vmsig_emit *seam = core_emit(seats[h].core);
	vmsig_ram_facts facts = {.bytes = 4096, .owner = 7, .guard = VMSIG_GUARD_SEALED};
	vmsig_memctx pod = {.epoch = place->wanted};

	(void)seam->ram_found(seam->core, planes_endpoint(g), &facts);
	if (emit(h, g, VMSIG_EV_MEMCTX, &pod, sizeof(pod)) && place->wanted == planes_epoch(h, g))
		broken("a context of guest %d is refused", g);
	place->wanted = 0;
	place->panicked = false;
}

void readers_add(int h, int g, uint32_t epoch)
{
	struct place *place = &seats[h].places[g];
	const vmsig_emit *seam = core_emit(seats[h].core);
	struct core_endpoint_config config = {.id = planes_endpoint(g),
		.name = world.guests[g].uuid,
		.adapter = "sim",
		.epoch = epoch ? epoch - 1 : 0,
		.page = &place->page,
		.share_page = share_fd};
	vmsig_memctx_reg reg = {.endpoint = planes_endpoint(g),
		.ctx = place,
		.describe = describe,
		.share_fd = share_fd,
		.invalidate = invalidate};

	if (core_endpoint_add(seats[h].core, &config) || seam->register_memctx(seam->core, &reg))
		broken("guest %d is refused", g);
	place->there = true;
}

void readers_remove(int h, int g)
{
	struct place *place = &seats[h].places[g];
	const vmsig_emit *seam = core_emit(seats[h].core);

	seam->unregister_memctx(seam->core, planes_endpoint(g));
	planes_perform(h);
	core_endpoint_remove(seats[h].core, planes_endpoint(g));
	place->there = place->panicked = false;
	place->wanted = 0;
}

static void adapter_step(int h, int g)
{
	vmsig_endpoint_status panicked = {.state = VMSIG_STATE_PANICKED};
	struct place *place = &seats[h].places[g];

	if (place->wanted && (!world.faults || dice(3) == 0))
		bootstrapped(h, g);
	else if (place->panicked && world.guests[g].where == h && dice(40) == 0)
		guest_reboot(g);
	else if (world.faults && !place->wanted && !place->panicked && dice(4000) == 0)
		place->panicked = !emit(h, g, VMSIG_EV_ENDPOINT_STATE, &panicked, sizeof(panicked));
}

/* ---- subscribers ---- */

void readers_begin(int h)
{
	for (size_t i = 0; i < TENANTS; i++) {
		struct subscriber *subscriber = &seats[h].subscribers[i];

		memset(subscriber, 0, sizeof(*subscriber));
		if (session_new(&subscriber->session, seats[h].core, policy_of((unsigned)i), 7,
			    subscriber) ||
			session_subscribe(subscriber->session, "*"))
			broken("a subscriber is refused");
	}
}

void readers_end(int h)
{
	for (size_t i = 0; i < TENANTS; i++)
		seats[h].subscribers[i].session = session_free(seats[h].subscribers[i].session);
}

static int guest_named(const char *name)
{
	int g = (int)strtol(name + strlen("guest-"), NULL, 10);

	if (g >= 0 && g < GUESTS && strcmp(world.guests[g].uuid, name) == 0)
		return g;
	broken("a delivery names '%s', which never was", name);
}

/* Where bytes may be changed all see the same life of the guest in an epoch. */
static void check_life(int h, int g, uint32_t epoch, unsigned life)
{
	const struct service *service = &world.hosts[h].services[g];

	if (!service->tenure || !tenure_may_apply(service->tenure, host_clock(&world.hosts[h])) ||
		epoch != service->epoch)
		return;
	for (size_t i = 0; i < LIVES; i++) {
		if (lives[g][i].epoch == epoch && lives[g][i].life != life)
			broken("R3: epoch %u of guest %d is of its lives %u and %u", epoch, g,
				lives[g][i].life, life);
		if (lives[g][i].epoch == epoch)
			return;
	}
	lives[g][nlives[g] % LIVES].epoch = epoch;
	lives[g][nlives[g]++ % LIVES].life = life;
}

static void hear(int h, size_t i, const struct core_delivery *delivery)
{
	size_t to = world_flaw == WORLD_LEAK ? dice(TENANTS) : i;
	int g = guest_named(delivery->name);
	const struct selector_subject subject = selector_named(delivery->name);
	const char *wrong = NULL;

	if (world_flaw != WORLD_LOST_INVALIDATION || delivery->kind != VMSIG_EV_MEMCTX_INVALIDATED)
		wrong = history_add(&seats[h].subscribers[i].histories[g], delivery);
	if (wrong)
		broken("I13: %s was told at host %d of guest %d: %s", policy_of((unsigned)i)->name,
			h, g, wrong);
	if (!tenant_sees(policy_of((unsigned)to), &subject))
		broken("I14: %s heard of %s", policy_of((unsigned)to)->name, delivery->name);
	if (delivery->kind != VMSIG_EV_MEMCTX)
		return;
	world_tallies[W_CONTEXTS]++;
	seats[h].subscribers[i].outstanding = true;
	if (delivery->pod.kcr3 != (uint64_t)guest_life_at(g, h) << 12)
		broken("R3: a context of another life of guest %d", g);
	check_life(h, g, delivery->epoch, guest_life_at(g, h));
}

static void pull(int h, size_t i, unsigned most)
{
	struct subscriber *subscriber = &seats[h].subscribers[i];
	struct core_delivery delivery;
	int r = 0;

	if (subscriber->outstanding && core_session_taken(subscriber->session))
		broken("an acknowledgement is refused");
	subscriber->outstanding = false;
	while (subscriber->owed && most--) {
		r = core_session_pull(subscriber->session, host_clock(&world.hosts[h]), &delivery);
		if (r == VMSIG_ERR_WOULD_BLOCK)
			subscriber->owed = false;
		if (r)
			return;
		hear(h, i, &delivery);
	}
}

void readers_step(int h)
{
	for (int g = 0; g < GUESTS; g++) {
		if (seats[h].places[g].there)
			adapter_step(h, g);
	}
	planes_perform(h);
	for (size_t i = 0; i < TENANTS; i++) {
		if (dice(4) == 0 || !world.faults)
			pull(h, i, world.faults ? dice(6) : 2 * GUESTS);
	}
}

void readers_settle(int h)
{
	for (int g = 0; g < GUESTS; g++) {
		const struct history *history = &seats[h].subscribers[0].histories[g];
		struct core_endpoint_info info;

		if (!seats[h].places[g].there ||
			core_endpoint_find(seats[h].core, NULL, world.guests[g].uuid, &info))
			continue;
		if (!core_state_is_readable(info.state))
			broken("I10: guest %d at host %d is never ready", g, h);
		if (history->context_epoch != info.epoch || history->invalidated)
			broken("I10: nobody was told of epoch %u of guest %d at host %d",
				info.epoch, g, h);
	}
}

void readers_check(int h)
{
	for (int g = 0; g < GUESTS; g++) {
		const struct place *place = &seats[h].places[g];

		if (place->there && place->page.epoch != planes_epoch(h, g))
			broken("the coherence page of guest %d at host %d lags behind", g, h);
		if (place->there && place->page.epoch != world.hosts[h].services[g].epoch)
			broken("R3: host %d has guest %d in epoch %u, and the fleet in %u", h, g,
				place->page.epoch, world.hosts[h].services[g].epoch);
	}
}
