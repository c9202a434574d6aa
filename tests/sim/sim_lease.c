/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deterministic simulation of the lease engine against a reference that is as simple as it
 * can be: arrays of bytes, one owner each, and plain searches. Tenants acquire, renew, write,
 * release, vanish and come back; the store is slow or fails; epochs change. Checked after
 * every step:
 *   I1   no byte has two leases          I2   tokens of an endpoint rise
 *   I3   writes are admitted exactly inside lease, deadline, token and epoch
 *   I4   nothing is admitted after the end was told
 *   I9   among equals nobody is overtaken by a later request that wants the same bytes
 *   I10  when the faults stop, every waiter gets its turn
 * and that no tenant ever holds or queues more than its terms say, however it came to it.
 *
 *   sim_lease [--seeds N] [--seed S] [--steps N]
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lease/lease.h"
#include "tests/sim/sim.h"

#define ENDPOINTS 2
#define SPACE 32 /* bytes of guest-physical space that the reference keeps apart */
#define TENANTS 3
#define LEASES 256 /* remembered by the reference */
#define MS 1000000ull

enum phase { PHASE_NONE, PHASE_ASKED, PHASE_STORING, PHASE_GRANTED, PHASE_ENDED };

struct model_lease {
	uint64_t id, token, deadline, hold_until, ttl;
	uint32_t endpoint, epoch, priority;
	unsigned tenant, arrival;
	enum phase phase;
	bool bytes[SPACE];
	bool whole; /* and everything beyond */
	unsigned applying;
};

struct model_endpoint {
	bool ready;
	uint32_t epoch;
	uint64_t last_token;
};

struct world {
	uint64_t now;
	struct lease_engine *engine;
	struct model_lease leases[LEASES];
	size_t nleases;
	unsigned arrivals;
	struct model_endpoint endpoints[ENDPOINTS];
	uint64_t sessions[TENANTS];
	uint64_t next_session;
	bool faults;
};

static struct world world;
static const char *const tenant_names[TENANTS] = {"red", "green", "blue"};

static const struct lease_limits limits = {.leases = 64,
	.waiters = 8,
	.ranges = 4,
	.preempt_grace_ns = 20 * MS,
	.resume_grace_ns = 30 * MS};
static const struct lease_terms terms = {.ttl_min_ns = 5 * MS,
	.ttl_max_ns = 100 * MS,
	.hold_max_ns = 400 * MS,
	.wait_max_ns = 10000 * MS,
	.priority_max = 2,
	.leases = 3,
	.waits = 5};

static struct model_lease *model_find(uint64_t id)
{
	for (size_t i = 0; i < world.nleases; i++) {
		if (world.leases[i].id == id)
			return &world.leases[i];
	}
	broken("lease %llu, which never was", (unsigned long long)id);
}

static struct model_lease *model_any(void)
{
	return world.nleases ? &world.leases[dice((uint32_t)world.nleases)] : NULL;
}

static bool model_overlap(const struct model_lease *a, const struct model_lease *b)
{
	for (size_t i = 0; i < SPACE; i++) {
		if (a->endpoint == b->endpoint && a->bytes[i] && b->bytes[i])
			return true;
	}
	return false;
}

static bool model_holds(const struct model_lease *lease)
{
	return lease->phase == PHASE_STORING || lease->phase == PHASE_GRANTED ||
	       (lease->phase == PHASE_ENDED && lease->applying);
}

/* ---- what the engine says ---- */

static void check_alone(const struct model_lease *lease)
{
	for (size_t i = 0; i < world.nleases; i++) {
		const struct model_lease *other = &world.leases[i];

		if (other != lease && model_holds(other) && model_overlap(lease, other))
			broken("I1: leases %llu and %llu hold the same byte",
				(unsigned long long)lease->id, (unsigned long long)other->id);
	}
}

static void check_order(const struct model_lease *lease)
{
	for (size_t i = 0; i < world.nleases; i++) {
		const struct model_lease *other = &world.leases[i];

		if (other->phase == PHASE_ASKED && other->priority >= lease->priority &&
			other->arrival < lease->arrival && model_overlap(lease, other))
			broken("I9: lease %llu overtook %llu", (unsigned long long)lease->id,
				(unsigned long long)other->id);
	}
}

static void check_quota(unsigned tenant)
{
	unsigned held = 0, queued = 0;

	for (size_t i = 0; i < world.nleases; i++) {
		const struct model_lease *lease = &world.leases[i];

		held += lease->tenant == tenant && model_holds(lease);
		queued += lease->tenant == tenant && lease->phase == PHASE_ASKED;
	}
	if (held > terms.leases || queued > terms.waits)
		broken("tenant %u holds %u leases and waits for %u", tenant, held, queued);
}

static void on_store_grant(struct model_lease *lease, const struct lease_view *view)
{
	if (lease->phase != PHASE_ASKED)
		broken("a grant of what did not wait");
	check_order(lease);
	lease->phase = PHASE_STORING;
	lease->epoch = view->epoch;
	check_alone(lease);
}

static void on_granted(struct model_lease *lease, const struct lease_view *view)
{
	struct model_endpoint *endpoint = &world.endpoints[lease->endpoint - 1];

	if (lease->phase != PHASE_STORING)
		broken("granted before it was stored");
	if (view->token <= endpoint->last_token)
		broken("I2: token %llu after %llu", (unsigned long long)view->token,
			(unsigned long long)endpoint->last_token);
	endpoint->last_token = view->token;
	lease->token = view->token;
	lease->deadline = view->deadline_ns;
	lease->hold_until = view->granted_ns + terms.hold_max_ns;
	lease->phase = PHASE_GRANTED;
	if (lease->deadline > lease->hold_until)
		broken("a deadline beyond the hold time");
}

static void on_ended(struct model_lease *lease, const struct lease_view *view)
{
	if (lease->phase == PHASE_ENDED)
		broken("ended twice");
	if (lease->applying)
		broken("I4: the end was told while a write was applied");
	lease->phase = PHASE_ENDED;
}

static void perform(const struct lease_action *action)
{
	struct model_lease *lease = model_find(action->lease.id);

	switch (action->kind) {
	case LEASE_ACT_STORE_GRANT:
		on_store_grant(lease, &action->lease);
		break;
	case LEASE_ACT_GRANTED:
		on_granted(lease, &action->lease);
		break;
	case LEASE_ACT_ENDED:
	case LEASE_ACT_REFUSED:
		on_ended(lease, &action->lease);
		break;
	case LEASE_ACT_STORE_RENEW:
	case LEASE_ACT_NOTICE:
	case LEASE_ACT_STORE_END:
		break;
	}
}

static void perform_all(void)
{
	struct lease_action action;

	while (lease_next_action(world.engine, &action))
		perform(&action);
	for (unsigned t = 0; t < TENANTS; t++)
		check_quota(t);
}

/* ---- what the world does ---- */

static size_t ranges_roll(struct model_lease *lease, struct lease_range *ranges)
{
	size_t n = dice(3);
	uint64_t at = dice(SPACE / 2);

	for (size_t r = 0; r < n; r++) {
		ranges[r].start = at;
		ranges[r].last = at + dice(4);
		for (uint64_t i = ranges[r].start; i <= ranges[r].last; i++)
			lease->bytes[i] = true;
		at = ranges[r].last + 1 + dice(4);
	}
	lease->whole = !n;
	if (!n)
		memset(lease->bytes, true, sizeof(lease->bytes));
	return n;
}

/* Who does not want to wait does not. An engine that looks at one waiter a call may still owe it
 * the grant. */
static void check_no_wait(const struct lease_request *request, uint64_t id)
{
#ifndef SETTLE_STEPS
	struct lease_view view;

	if (request->no_wait && lease_find(world.engine, id, &view) && view.state == LEASE_WAITING)
		broken("I9: lease %llu waits, and its asker did not want to",
			(unsigned long long)id);
#endif
}

static void do_acquire(void)
{
	struct model_lease lease = {.tenant = dice(TENANTS), .endpoint = 1 + dice(ENDPOINTS)};
	struct lease_range ranges[4];
	struct lease_request request = {.endpoint = lease.endpoint,
		.tenant = tenant_names[lease.tenant],
		.session = world.sessions[lease.tenant],
		.ranges = ranges,
		.ttl_ns = dice(200) * MS,
		.wait_ns = 10000 * MS,
		.priority = dice(3),
		.no_wait = dice(6) == 0};

	if (world.nleases == LEASES)
		return;
	request.nranges = ranges_roll(&lease, ranges);
	if (lease_acquire(world.engine, world.now, &request, &terms, &lease.id))
		return;
	check_no_wait(&request, lease.id);
	lease.priority = request.priority;
	lease.arrival = world.arrivals++;
	lease.phase = PHASE_ASKED;
	world.leases[world.nleases++] = lease;
}

/* The store answers whatever waits for it, or fails. */
static void do_store(void)
{
	static uint64_t token;

	for (size_t i = 0; i < world.nleases; i++) {
		struct model_lease *lease = &world.leases[i];

		if (lease->phase != PHASE_STORING || dice(2))
			continue;
		if (world.faults && dice(8) == 0)
			lease_store_failed(world.engine, world.now, lease->id, VMSIG_ERR_IO);
		else
			lease_stored(world.engine, world.now, lease->id, ++token);
		perform_all();
	}
}

static void do_renew(struct model_lease *lease)
{
	uint64_t deadline;

	if (lease_renew(world.engine, world.now, tenant_names[lease->tenant], lease->id,
		    lease->token, &deadline))
		return;
	if (lease->phase != PHASE_GRANTED || world.now >= lease->deadline)
		broken("a lease that is over was renewed");
	lease->deadline = deadline;
}

/* I3 and I4: the engine's answer is exactly the reference's. */
static void do_admit(struct model_lease *lease)
{
	struct lease_range range = {.start = dice(SPACE)};
	uint32_t epoch = lease->epoch + (dice(10) == 0);
	uint64_t token = lease->token + (dice(10) == 0);
	unsigned tenant = dice(10) ? lease->tenant : dice(TENANTS);
	int r;

	range.last = range.start + dice(3);
	r = lease_admit(
		world.engine, world.now, tenant_names[tenant], lease->id, token, epoch, &range);
	if (r)
		return;
	if (lease->phase != PHASE_GRANTED || token != lease->token || tenant != lease->tenant)
		broken("I3/I4: admitted without the lease");
	if (world.now >= lease->deadline)
		broken("I3: admitted after the deadline");
	if (epoch != lease->epoch || epoch != world.endpoints[lease->endpoint - 1].epoch)
		broken("I3: admitted in another epoch");
	for (uint64_t i = range.start; i <= range.last; i++) {
		if (i < SPACE ? !lease->bytes[i] : !lease->whole)
			broken("I3: admitted outside the ranges");
	}
	if (dice(4) == 0 && lease_write_begin(world.engine, lease->id) == 0)
		lease->applying++;
}

static void do_write_end(struct model_lease *lease)
{
	if (!lease->applying)
		return;
	lease->applying--;
	lease_write_end(world.engine, world.now, lease->id);
}

static void do_epoch(uint32_t id)
{
	struct model_endpoint *endpoint = &world.endpoints[id - 1];

	if (dice(3) == 0) {
		lease_endpoint_down(world.engine, world.now, id, VMSIG_ERR_GONE);
		endpoint->ready = false;
		return;
	}
	endpoint->epoch++;
	endpoint->ready = true;
	if (lease_endpoint_ready(world.engine, world.now, id, endpoint->epoch))
		broken("out of memory");
}

static void do_vanish(unsigned tenant)
{
	uint64_t old = world.sessions[tenant];

	world.sessions[tenant] = ++world.next_session;
	lease_disconnect(world.engine, world.now, old);
	perform_all();
	for (size_t i = 0; i < world.nleases; i++) {
		struct model_lease *lease = &world.leases[i];

		if (lease->tenant == tenant && lease->phase == PHASE_GRANTED && dice(2))
			(void)!lease_resume(world.engine, world.now, tenant_names[tenant], 0,
				lease->id, lease->token, world.sessions[tenant], NULL);
	}
}

static void do_step(void)
{
	static const char *const names[24] = {[0 ... 3] = "acquire",
		[4 ... 6] = "renew",
		[7 ... 18] = "admit",
		[19] = "end of a write",
		[20] = "release",
		[21] = "revoke",
		[22] = "vanish",
		[23] = "epoch"};
	struct model_lease *lease = model_any();
	unsigned what = dice(world.faults ? 24 : 12);

	say("%s, lease %llu", names[what], lease ? (unsigned long long)lease->id : 0);
	if (what < 4)
		do_acquire();
	else if (what == 23)
		do_epoch(1 + dice(ENDPOINTS));
	else if (what == 22)
		do_vanish(dice(TENANTS));
	else if (!lease)
		return;
	else if (what == 21)
		(void)!lease_revoke(world.engine, world.now, lease->id, VMSIG_ERR_LEASE_REVOKED);
	else if (what == 20)
		(void)!lease_release(world.engine, world.now, tenant_names[lease->tenant],
			lease->id, lease->token);
	else if (what == 19)
		do_write_end(lease);
	else if (what < 7)
		do_renew(lease);
	else
		do_admit(lease);
}

/* No new requests, no renewals: everybody who waits gets a turn within the bounds (I10). */
static void settle(void)
{
	uint64_t bound = world.now +
			 (terms.hold_max_ns + limits.preempt_grace_ns + MS) * (world.nleases + 1);

	world.faults = false;
	for (size_t i = 0; i < world.nleases; i++) {
		while (world.leases[i].applying)
			do_write_end(&world.leases[i]);
	}
	perform_all();
	while (lease_deadline(world.engine) != UINT64_MAX) {
		do_store();
		if (lease_deadline(world.engine) > world.now)
			world.now += MS;
		lease_advance(world.engine, world.now);
		perform_all();
		if (world.now > bound)
			broken("I10: somebody still waits after every lease has ended");
	}
	for (size_t i = 0; i < world.nleases; i++) {
		if (world.leases[i].phase != PHASE_ENDED)
			broken("I10: lease %llu never came to an end",
				(unsigned long long)world.leases[i].id);
	}
}

static void run(uint64_t seed, unsigned steps)
{
	memset(&world, 0, sizeof(world));
	sim_begin(seed);
	sim.faults = &world.faults;
	sim.now_ns = &world.now;
	world.faults = true;
	if (lease_engine_new(&world.engine, &limits, 1))
		broken("out of memory");
	for (unsigned t = 0; t < TENANTS; t++)
		world.sessions[t] = ++world.next_session;
	for (uint32_t id = 1; id <= ENDPOINTS; id++) {
		world.endpoints[id - 1] = (struct model_endpoint){.ready = true, .epoch = 1};
		if (lease_endpoint_ready(world.engine, 0, id, 1))
			broken("out of memory");
	}
	while (sim_next(steps)) {
		/* Time jumps ahead of the wake-ups: they are hints. */
		world.now += dice(8) * MS;
		do_step();
		perform_all();
		do_store();
		if (dice(3) == 0)
			lease_advance(world.engine, world.now);
		perform_all();
	}
	settle();
	lease_engine_free(world.engine);
}

int main(int argc, char **argv)
{
	struct sim_options options = {.first = 1, .seeds = 500, .steps = 400};

	sim_options(&options, argc, argv, "", NULL);
	for (uint64_t i = 0; i < options.seeds; i++)
		run(options.first + i, options.steps);
	printf("%llu seeds of %u steps: I1-I4, I9, I10 hold\n", (unsigned long long)options.seeds,
		options.steps);
	return 0;
}
