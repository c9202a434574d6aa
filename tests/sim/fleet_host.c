/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host of sim_fleet: a clock that runs too fast or too slow, and a broker, which is the real core
 * with as little around it as does what its actions say. What a broker made durable outlives it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/fleet_world.h"

#define PPM 1000000

uint64_t host_clock(const struct host *host)
{
	uint64_t ran = world.now - host->boot_at;

	return host->offset + (uint64_t)((__int128)ran * (PPM + host->rate_ppm) / PPM);
}

uint64_t host_real(const struct host *host, uint64_t local_ns)
{
	if (local_ns <= host->offset)
		return 0;
	return host->boot_at +
	       (uint64_t)((__int128)(local_ns - host->offset) * PPM / (PPM + host->rate_ppm));
}

/* ---- starting ---- */

static int64_t rate_roll(void)
{
	static const int64_t rates[] = {-RHO_PPM, RHO_PPM, -RHO_PPM, RHO_PPM, 0, RHO_PPM / 2};

	return rates[dice(sizeof(rates) / sizeof(*rates))];
}

void host_boot(int h)
{
	struct host *host = &world.hosts[h];

	host->boots++;
	host->boot_at = world.now;
	host->offset = MS * (1 + dice(100000));
	host->rate_ppm = rate_roll();
}

void host_broker_start(int h)
{
	struct host *host = &world.hosts[h];
	char boot[32];
	struct fleet_options options = {.fleet = "sim",
		.host = host->name,
		.boot = boot,
		.ttl_s = TTL_S,
		.rho_ppm = RHO_PPM,
		.margin_ns = MARGIN,
		.timeout_ms = TIMEOUT_MS,
		.memory = host->memory};

	snprintf(boot, sizeof(boot), "boot%u", host->boots);
	host->brokers++;
	host->watch = 0;
	host->bumps = false;
	options.nonce = ((uint64_t)h + 1) << 32 | host->brokers << 8;
	if (fleet_new(&host->fleet, host_clock(host), &options))
		broken("the core does not start");
	for (int g = 0; g < GUESTS; g++) {
		struct service *service = &host->services[g];

		service->owned = false;
		service->offer_at = 0;
		service->offers = false;
		service->token_floor = 0;
		if (fleet_guest_add(host->fleet, world.guests[g].uuid, service->epoch,
			    (void *)(uintptr_t)(g + 1), &service->tenure))
			broken("the core takes no guest");
		host_tell(h, g);
	}
	if (planes)
		planes->broker_started(h);
	host_perform(h);
}

void host_broker_end(int h)
{
	struct host *host = &world.hosts[h];

	if (planes && host->fleet)
		planes->broker_ended(h);
	host->fleet = fleet_free(host->fleet);
	host->parts_at = 0;
	for (int g = 0; g < GUESTS; g++) {
		host->services[g].tenure = NULL;
		host->services[g].owned = host->services[g].offers = false;
	}
}

void host_broker_part(int h)
{
	struct host *host = &world.hosts[h];

	host->parts_at = world.now + MS * dice(1500);
	for (int g = 0; g < GUESTS; g++) {
		host->services[g].offer_at = 0;
		tenure_pauses(host->services[g].tenure, host_clock(host));
	}
	host_perform(h);
}

/* The read plane sees another guest than the one that its epoch is of. */
static void look_at_guest(int h, int g)
{
	const struct guest *guest = &world.guests[g];
	struct service *service = &world.hosts[h].services[g];

	if (guest->where != h || guest->arrived || service->life == guest->life)
		return;
	service->life = guest->life;
	memset(&service->luggage, 0, sizeof(service->luggage));
	tenure_epoch(service->tenure, host_clock(&world.hosts[h]), ++service->epoch);
}

void host_tell_session(int h, int g)
{
	const struct guest *guest = &world.guests[g];
	struct host *host = &world.hosts[h];
	char session[32] = "";

	if (guest->where == h || guest->left == h || guest->ghost == h)
		snprintf(session, sizeof(session), "life%u", guest_life_at(g, h));
	if (host->services[g].tenure &&
		tenure_session(host->services[g].tenure, host_clock(host), session))
		broken("a session is refused");
}

void host_tell(int h, int g)
{
	const struct guest *guest = &world.guests[g];
	struct host *host = &world.hosts[h];
	struct service *service = &host->services[g];
	uint64_t now = host_clock(host);

	if (!service->tenure || host->parts_at)
		return;
	if (guest->where != h && guest->left != h && guest->ghost != h)
		service->life = service->had = 0;
	if (guest->where != h && guest->left != h && guest->ghost != h)
		service->owned = false;
	look_at_guest(h, g);
	if (guest->where == h || guest->left == h || guest->ghost == h)
		host_tell_session(h, g);
	if ((guest->where == h && guest->from == h) || guest->left == h) {
		tenure_leaves(service->tenure, now);
		service->offer_at = world.now + MS * (1 + dice(3000));
		service->offer_until = 0;
	} else if (guest->where == h) {
		if (guest->arrived)
			tenure_incoming(service->tenure, now);
		tenure_runs(service->tenure, now);
	} else if (guest->ghost == h) {
		tenure_runs(service->tenure, now);
	} else if (guest->to == h) {
		tenure_incoming(service->tenure, now);
	} else {
		/* Its leases end, and holders hear of it. */
		if (guest->leased_by == h)
			world.guests[g].belief_until = 0;
		tenure_gone(service->tenure, now);
		host_tell_session(h, g);
	}
	if (planes)
		planes->changed(h, g);
}

/* ---- what the core wants ---- */

static void on_owned(int h, int g, const struct fleet_action *action)
{
	struct service *service = &world.hosts[h].services[g];
	uint64_t now = host_clock(&world.hosts[h]);

	/* What an earlier process of this host made durable. */
	if (!action->adopted || service->had != guest_life_at(g, h)) {
		memset(&service->luggage, 0, sizeof(service->luggage));
		service->luggage.writes = world.guests[g].writes;
	}
	if (action->baggage && action->baggage_len >= sizeof(service->luggage))
		memcpy(&service->luggage, action->baggage, sizeof(service->luggage));
	/* Of a source that had nothing it knows nothing. */
	if (action->baggage && !service->luggage.known)
		service->luggage.writes = world.guests[g].writes;
	service->token_floor = action->token_floor;
	if (service->token < action->token_floor)
		service->token = action->token_floor;
	judge_owned(h, g, action);
	/* Its leases of an epoch that is over have ended, as on a host without a fleet. */
	if (!action->adopted && world.guests[g].leased_by == h)
		world.guests[g].belief_until = 0;
	if (action->epoch_kept && action->epoch_kept >= service->epoch)
		service->epoch = action->epoch_kept;
	else if (service->epoch <= action->epoch_floor)
		service->epoch = action->epoch_floor + 1;
	service->life = service->had = guest_life_at(g, h);
	judge_epoch(h, g, service->epoch);
	service->owned = true;
	world.guests[g].awaited = dice(2);
	world.owned++;
	world.taken += action->baggage != NULL;
	tenure_epoch(service->tenure, now, service->epoch);
	/* What planes have to store of it is theirs to settle. */
	if (action->baggage && !planes)
		tenure_settled(service->tenure, now);
}

static void on_granted(int h, int g, const struct fleet_action *action)
{
	struct service *service = &world.hosts[h].services[g];

	judge_granted(h, g, action->token);
	service->token = action->token;
	service->luggage.token = action->token;
}

static void perform_of_guest(int h, int g, const struct fleet_action *action)
{
	struct service *service = &world.hosts[h].services[g];

	service->offers = service->offers && (action->kind == FLEET_ACT_GRANTED ||
						     action->kind == FLEET_ACT_NOT_GRANTED);
	switch (action->kind) {
	case FLEET_ACT_OWNED:
		on_owned(h, g, action);
		break;
	case FLEET_ACT_GRANTED:
		on_granted(h, g, action);
		break;
	case FLEET_ACT_MOVED:
		world.migrated++;
		service->owned = false;
		service->life = service->had = 0;
		break;
	case FLEET_ACT_LOST:
		service->life = service->had = 0;
		service->owned = false;
		break;
	case FLEET_ACT_RELEASED:
		service->owned = false;
		break;
	default:
		break;
	}
	if (planes)
		planes->told(h, g, action);
}

static void perform(int h, const struct fleet_action *action)
{
	struct host *host = &world.hosts[h];

	if (action->kind == FLEET_ACT_REQUEST)
		net_send(h, action->request);
	else if (action->kind == FLEET_ACT_REMEMBER)
		host->memory = action->memory;
	else if (action->kind == FLEET_ACT_BUMPED)
		host->bumps = false;
	else if (action->tenure)
		perform_of_guest(h, (int)(uintptr_t)action->user - 1, action);
}

/* Actions are borrowed until the core is called again, and some call it. */
void host_perform(int h)
{
	struct host *host = &world.hosts[h];
	struct fleet_action action;

	while (host->fleet && fleet_next_action(host->fleet, &action))
		perform(h, &action);
}

/* ---- time ---- */

#define PATIENCE (2000 * MS) /* with what is under way when a guest leaves */

/* What planes have, behind the luggage. VMSIG_ERR_BUSY: it is tried again. */
static int pack(int h, int g, struct luggage *luggage, uint8_t **ret_data, size_t *ret_len)
{
	struct service *service = &world.hosts[h].services[g];
	uint8_t *more = NULL;
	size_t len = 0;
	int r = 0;

	if (!service->offer_until)
		service->offer_until = world.now + PATIENCE;
	/* A broker that was restarted meanwhile has to find what it had. */
	if (planes && luggage->known)
		r = planes->pack(h, g, service->offer_until <= world.now, &more, &len);
	else if (planes && service->offer_until > world.now)
		r = VMSIG_ERR_BUSY;
	else if (planes)
		planes->lost(h, g);
	if (!r) {
		*ret_data = malloc(sizeof(*luggage) + len);
		if (!*ret_data)
			broken("out of memory");
		memcpy(*ret_data, luggage, sizeof(*luggage));
		if (len)
			memcpy(*ret_data + sizeof(*luggage), more, len);
		*ret_len = sizeof(*luggage) + len;
	}
	free(more);
	return r;
}

static void offer_packed(
	int h, int g, const struct luggage *luggage, const uint8_t *data, size_t len)
{
	const struct guest *guest = &world.guests[g];
	struct service *service = &world.hosts[h].services[g];
	int r = tenure_offer(service->tenure, host_clock(&world.hosts[h]),
		world.hosts[guest->from == h ? guest->to : guest->where].name, data, len);

	if (r == -ENOMEM) {
		service->offer_at = world.now + MS;
		return;
	}
	if (r)
		broken("an offer is refused");
	if (luggage->known)
		world.guests[g].offered = *luggage;
	service->offers = true;
	host_perform(h);
}

static void offer(int h, int g)
{
	const struct guest *guest = &world.guests[g];
	struct service *service = &world.hosts[h].services[g];
	struct luggage luggage = service->luggage;
	struct tenure_view view;
	uint8_t *data;
	size_t len;

	service->offer_at = 0;
	if (guest->from != h && guest->left != h)
		return;
	tenure_look(service->tenure, &view);
	luggage.known = service->had == guest->life && (service->owned || view.adopted);
	if (!luggage.known)
		memset(&luggage, 0, sizeof(luggage));
	if (pack(h, g, &luggage, &data, &len)) {
		service->offer_at = world.now + 20 * MS;
		return;
	}
	offer_packed(h, g, &luggage, data, len);
	free(data);
}

void host_tick(int h)
{
	struct host *host = &world.hosts[h];

	if (host->parts_at && host->parts_at <= world.now) {
		host_broker_end(h);
		host->broker_at = world.now + MS * dice(3000);
	}
	if (!host->fleet && host->broker_at <= world.now)
		host_broker_start(h);
	if (!host->fleet)
		return;
	for (int g = 0; g < GUESTS; g++) {
		if (host->services[g].offer_at && host->services[g].offer_at <= world.now)
			offer(h, g);
	}
	if (host_real(host, fleet_deadline(host->fleet)) + host->late_ns <= world.now) {
		host->late_ns = world.faults && dice(5) == 0 ? MS * dice(1000) : 0;
		fleet_advance(host->fleet, host_clock(host));
		host_perform(h);
	}
}

uint64_t host_next(int h)
{
	const struct host *host = &world.hosts[h];
	uint64_t next, deadline;

	if (!host->fleet)
		return host->broker_at;
	deadline = fleet_deadline(host->fleet);
	next = deadline == UINT64_MAX ? deadline : host_real(host, deadline) + MS + host->late_ns;
	if (host->parts_at && host->parts_at < next)
		next = host->parts_at;
	for (int g = 0; g < GUESTS; g++) {
		if (host->services[g].offer_at && host->services[g].offer_at < next)
			next = host->services[g].offer_at;
	}
	return next;
}
