/* SPDX-License-Identifier: Apache-2.0 */
/* What has to hold in sim_fleet, whatever happens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/fleet/deed.h"
#include "tests/sim/fleet_world.h"

typedef unsigned long long ull;

/* ---- one host at a time ---- */

/* From when to when this host may store bytes of the guest, in real time, if it hears of nothing
 * more. */
static bool right(int h, int g, uint64_t *ret_from, uint64_t *ret_until)
{
	const struct host *host = &world.hosts[h];
	uint64_t from, until;

	if (!host->fleet || !host->services[g].tenure ||
		!tenure_right(host->services[g].tenure, &from, &until))
		return false;
	*ret_from = host_real(host, from);
	*ret_until = host_real(host, until) + PAUSE;
	if (*ret_from < world.now)
		*ret_from = world.now;
	return *ret_from < *ret_until;
}

static void judge_pair(int g, int a, int b)
{
	uint64_t from_a, until_a, from_b, until_b;

	if (!right(a, g, &from_a, &until_a) || !right(b, g, &from_b, &until_b))
		return;
	if (from_a < until_b && from_b < until_a)
		broken("I15: hosts %d and %d may both write to guest %d: %llu to %llu ms and %llu "
		       "to %llu ms, and it is %llu",
			a, b, g, (ull)(from_a / MS), (ull)(until_a / MS), (ull)(from_b / MS),
			(ull)(until_b / MS), (ull)(world.now / MS));
}

/* Whoever has a lease renews it whenever that goes, and believes in it for as long. */
static void prolong(int h, int g)
{
	const struct host *host = &world.hosts[h];
	const struct service *service = &host->services[g];
	struct guest *guest = &world.guests[g];

	if (!host->fleet || !service->tenure || !service->luggage.token || guest->leased_by != h ||
		(guest->where != h && guest->ghost != h) ||
		!tenure_may_prolong(service->tenure, host_clock(host)))
		return;
	guest->belief_until = world.now + LEASE_TTL;
}

void judge_right(void)
{
	for (int g = 0; g < GUESTS; g++) {
		for (int h = 0; h < HOSTS; h++)
			prolong(h, g);
		for (int a = 0; a < HOSTS; a++) {
			for (int b = a + 1; b < HOSTS; b++)
				judge_pair(g, a, b);
		}
	}
}

/* ---- what rises ---- */

void judge_epoch(int h, int g, uint32_t epoch)
{
	struct guest *guest = &world.guests[g];

	if (epoch < guest->epoch)
		broken("I15: epoch %u of guest %d at host %d after epoch %u", epoch, g, h,
			guest->epoch);
	if (epoch == guest->epoch && guest->epoch_life != guest_life_at(g, h))
		broken("I15: epoch %u of guest %d at host %d comes back", epoch, g, h);
	guest->epoch = epoch;
	guest->epoch_life = guest_life_at(g, h);
}

void judge_granted(int h, int g, uint64_t token)
{
	struct guest *guest = &world.guests[g];

	if (token <= guest->token)
		broken("I15: token %llu of guest %d at host %d after token %llu", (ull)token, g, h,
			(ull)guest->token);
	if (guest->leased_by != h && world.now < guest->belief_until)
		broken("I1: a lease of guest %d at host %d, whose holder at host %d believes in "
		       "its own",
			g, h, guest->leased_by);
	if (world.untrusted)
		broken("I15: a lease of guest %d at host %d from a store that was restored", g, h);
	guest->token = token;
	guest->leased_by = h;
	guest->belief_until = world.now + LEASE_TTL;
}

/* ---- migrations ---- */

void judge_owned(int h, int g, const struct fleet_action *action)
{
	struct guest *guest = &world.guests[g];
	const struct luggage *luggage = &world.hosts[h].services[g].luggage;

	if (guest->ghost == h)
		return;
	if (guest->where != h)
		broken("host %d has guest %d, which runs at %d", h, g, guest->where);
	if (action->adopted && luggage->writes != guest->writes)
		broken("I16: host %d goes on with %llu writes of guest %d, and %llu were "
		       "acknowledged",
			h, (ull)luggage->writes, g, (ull)guest->writes);
	if (action->epoch_kept && !action->adopted && !action->baggage)
		broken("I16: guest %d goes on at host %d without what was offered with it", g, h);
	if (!action->baggage || !luggage->known)
		return;
	if (luggage->token != guest->offered.token || luggage->writes != guest->offered.writes)
		broken("I16: what host %d got of guest %d is not what was offered last", h, g);
	if (luggage->writes != guest->writes)
		broken("I16: %llu writes of guest %d came to host %d, and %llu were acknowledged",
			(ull)luggage->writes, g, h, (ull)guest->writes);
	/* Its source may have begun another one since bytes were changed last; and so may this
	 * host, before it has stored what came along. */
	if (action->epoch_kept &&
		(action->epoch_kept < guest->epoch ||
			(action->epoch_kept != guest->offered_epoch &&
				!(action->adopted &&
					action->epoch_kept == world.hosts[h].services[g].epoch))))
		broken("I16: guest %d goes on at host %d in epoch %u, was in %u and offered in %u",
			g, h, action->epoch_kept, guest->epoch, guest->offered_epoch);
	guest->leased_by = h;
}

void judge_write(int h, int g)
{
	struct guest *guest = &world.guests[g];
	struct service *service = &world.hosts[h].services[g];

	if (guest->where != h && guest->ghost != h)
		broken("I15: host %d writes to guest %d, which runs at %d", h, g, guest->where);
	if (service->epoch != guest->epoch)
		broken("I3: host %d writes to guest %d in epoch %u, which is in %u", h, g,
			service->epoch, guest->epoch);
	/* Its holder renews as well. */
	if (service->luggage.token && guest->leased_by == h)
		guest->belief_until = world.now + LEASE_TTL;
	if (guest->ghost == h)
		return;
	guest->writes++;
	guest->memory[h]++;
	service->luggage.writes++;
}

/* ---- the store ---- */

/* The host that a value names. */
static void host_of(const struct txn_bytes *value, char ret_host[static 64])
{
	const char *line = strstr((const char *)value->data, "\nhost ");

	ret_host[0] = '\0';
	if (line)
		sscanf(line + 6, "%63s", ret_host);
}

/* Whoever is alive, and has offered nothing, loses nothing. */
static void judge_owner(
	const struct txn_bytes *old, const struct txn_bytes *new, const struct txn_bytes *mark)
{
	char before[64], after[64];
	struct deed deed;

	if (!old || !mark || !deed_read(&deed, mark->data, mark->len))
		return;
	host_of(old, before);
	host_of(new, after);
	if (strcmp(before, after) != 0 && deed.status != DEED_OFFERED)
		broken("guard: %s takes from %s what it has", after, before);
}

static void judge_deed(const struct txn_bytes *old, const struct txn_bytes *new)
{
	struct deed before = {0}, after;

	if (!deed_read(&after, new->data, new->len) ||
		(old && !deed_read(&before, old->data, old->len)))
		broken("guard: a deed makes no sense");
	if (after.change != before.change + 1)
		broken("guard: change %llu of a deed after %llu", (ull)after.change,
			(ull)before.change);
	if (after.token < before.token || after.reserved < before.reserved ||
		after.floor < before.floor)
		broken("guard: a deed goes back");
}

/* Nobody goes on in an epoch that the guest was never in: it is its source's, or one that came with
 * it and goes on with it. */
static void judge_offer(
	int host, const char *key, const struct txn_bytes *old, const struct txn_bytes *new)
{
	const char *number = strstr(key, "guest-");
	struct deed deed, before = {0};
	int g;

	if (!number || !deed_read(&deed, new->data, new->len) || deed.status != DEED_OFFERED)
		return;
	g = (int)strtol(number + strlen("guest-"), NULL, 10);
	if (old && !deed_read(&before, old->data, old->len))
		broken("guard: a deed makes no sense");
	if (deed.epoch > world.hosts[host].services[g].epoch && deed.epoch != before.epoch)
		broken("I16: host %d offers guest %d in epoch %u, which it has not begun", host, g,
			deed.epoch);
	world.guests[g].offered_epoch = deed.epoch;
}

static void judge_generation(const struct txn_bytes *old, const struct txn_bytes *new)
{
	struct deed_generation before = {0}, after;

	if (!deed_read_generation(&after, new->data, new->len) ||
		(old && !deed_read_generation(&before, old->data, old->len)))
		broken("guard: a generation makes no sense");
	if (after.number <= before.number)
		broken("guard: generation %llu after %llu", (ull)after.number, (ull)before.number);
	world.untrusted = false;
}

void judge_put(int host, const char *key, const struct txn_bytes *old, const struct txn_bytes *new,
	const struct txn_bytes *mark)
{
	const char *leaf = strrchr(key, '/') + 1;

	say("host %d puts %s", host, key);
	if (strcmp(leaf, "mark") == 0)
		say("%s", (const char *)new->data);
	if (strcmp(leaf, "owner") == 0)
		judge_owner(old, new, mark);
	else if (strcmp(leaf, "mark") == 0)
		judge_deed(old, new), judge_offer(host, key, old, new);
	else if (strcmp(leaf, "generation") == 0)
		judge_generation(old, new);
}

/* ---- the end ---- */

void judge_end(void)
{
	for (int g = 0; g < GUESTS; g++) {
		int h = world.guests[g].where;
		const struct host *host = &world.hosts[h];

		if (tenure_may_apply(host->services[g].tenure, host_clock(host)))
			continue;
		struct tenure_view view;

		tenure_look(host->services[g].tenure, &view);
		broken("I10: everything is well for long, and host %d does not have guest %d: %s%s",
			h, g, tenure_state_name(view.state),
			fleet_frozen(host->fleet) ? ", frozen" : "");
	}
}
