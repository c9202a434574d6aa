/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the real lease engine does in the world of lease.pml: one range, two clients, one write of
 * two slices under each lease, a store that remembers and a broker that crashes. Each step that
 * can be seen from outside is written down, one trace for each seed, as C for lease.pml, which then
 * has to be able to do the same: an engine that does what no run of the model does is found.
 *
 *   trace_lease [--seeds N] [--seed S] [--steps N] [--break clock|priority|end]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lease/lease.h"
#include "tests/sim/sim.h"

#define CLIENTS 2
#define CRASHES 2  /* as of lease.pml, when it is given traces */
#define LEASES 4   /* that a client gets, likewise */
#define EVENTS 250 /* of a trace, with its end */
#define SLICES 2
#define ENDPOINT 1
#define MS 1000000ull
#define TTL (50 * MS)

/* As lease.pml numbers them. */
enum event {
	TRACE_END,
	TRACE_ASK,
	TRACE_CHOSEN,
	TRACE_GRANTED,
	TRACE_WRITE,
	TRACE_DENIED,
	TRACE_SLICE,
	TRACE_CUT,
	TRACE_OUTCOME,
	TRACE_RELEASED,
	TRACE_LATE,
	TRACE_PAST,
	TRACE_ENDED,
	TRACE_CRASH,
};

enum phase { IDLE, ASKED, HOLDS };

struct client {
	enum phase phase;
	uint64_t id, token;
	bool written;
	unsigned leases;
	bool high; /* priority */
};

/* What the store has of the lease; 0: there is none. */
struct row {
	uint64_t id, token, deadline_ns;
	unsigned client;
};

static struct world {
	uint64_t now;
	struct lease_engine *engine;
	struct client clients[CLIENTS];
	struct row row;
	uint64_t storing;     /* id of a grant that is stored and not told; 0: none is */
	uint64_t last_token;  /* that the store gave out */
	uint64_t last_id;     /* of leases; durable */
	uint64_t deadline_ns; /* of the newest lease */
	uint64_t past_token;  /* newest one whose deadline was seen to pass */
	unsigned applying_by; /* client whose write is being applied */
	bool applying, cut;
	unsigned slices;
	unsigned crashes, sessions, events;
	bool released; /* told in this step */
} world;

static const struct lease_limits limits = {.leases = 16,
	.waiters = 8,
	.ranges = 1,
	.preempt_grace_ns = 20 * MS,
	.resume_grace_ns = 1000 * MS};
static const struct lease_terms terms = {.ttl_min_ns = TTL,
	.ttl_max_ns = TTL,
	.hold_max_ns = 1000 * TTL,
	.wait_max_ns = 100000 * TTL,
	.priority_max = 1,
	.leases = 4,
	.waits = 4};
static const char *const names[CLIENTS] = {"red", "green"};

/* What --break writes down wrongly, as if the engine had done it. */
static enum flaw {
	FLAW_NONE,
	FLAW_CLOCK,    /* it admits after the deadline */
	FLAW_PRIORITY, /* the lower one comes first */
	FLAW_END,      /* it gives on what has not ended */
	FLAWS,
} flaw;

static const char *const flaws[FLAWS] = {"", "clock", "priority", "end"};

static void emit(enum event event, unsigned client, uint64_t token)
{
	if (world.events == EVENTS - 1)
		broken("a trace is too long");
	world.events++;
	printf("{%u,%u,%llu},", event, client, (unsigned long long)token);
}

/* ---- what the engine says ---- */

static unsigned client_of(const struct lease_view *lease)
{
	return strcmp(lease->tenant, names[1]) == 0;
}

static void on_store_grant(const struct lease_view *lease)
{
	unsigned c = client_of(lease);

	emit(TRACE_CHOSEN, c, 0);
	world.row = (struct row){.id = lease->id,
		.token = ++world.last_token,
		.deadline_ns = world.now + TTL,
		.client = c};
	world.storing = lease->id;
}

static void on_granted(const struct lease_view *lease)
{
	struct client *client = &world.clients[client_of(lease)];

	emit(TRACE_GRANTED, client_of(lease), lease->token);
	world.deadline_ns = lease->deadline_ns;
	client->phase = HOLDS;
	client->id = lease->id;
	client->token = lease->token;
	client->written = false;
	client->leases++;
}

static void on_ended(const struct lease_view *lease)
{
	bool released = lease->reason == VMSIG_ERR_OK;

	world.released |= released;
	if (flaw != FLAW_END || released)
		emit(released ? TRACE_RELEASED : TRACE_ENDED, client_of(lease), lease->token);
}

static void perform(const struct lease_action *action)
{
	const struct lease_view *lease = &action->lease;

	if (action->kind == LEASE_ACT_STORE_GRANT)
		on_store_grant(lease);
	else if (action->kind == LEASE_ACT_GRANTED)
		on_granted(lease);
	else if (action->kind == LEASE_ACT_STORE_END && world.row.id == lease->id)
		world.row = (struct row){0};
	else if (action->kind == LEASE_ACT_ENDED)
		on_ended(lease);
	else if (action->kind == LEASE_ACT_REFUSED)
		broken("a request of the trace is refused");
}

static void perform_all(void)
{
	struct lease_action action;

	while (lease_next_action(world.engine, &action))
		perform(&action);
}

/* ---- what clients do ---- */

static void ask(unsigned c)
{
	struct client *client = &world.clients[c];
	struct lease_request request = {.endpoint = ENDPOINT,
		.tenant = names[c],
		.session = ++world.sessions,
		.ttl_ns = TTL,
		.wait_ns = terms.wait_max_ns,
		.priority = client->high};

	if (client->leases == LEASES)
		return;
	if (lease_acquire(world.engine, world.now, &request, &terms, &world.last_id))
		broken("a request of the trace is refused");
	emit(TRACE_ASK, c, 0);
	client->phase = ASKED;
}

static bool admitted(unsigned c)
{
	static const struct lease_range range = {0, 7};
	const struct client *client = &world.clients[c];

	return !lease_admit(
		world.engine, world.now, names[c], client->id, client->token, 1, &range);
}

static void write_once(unsigned c)
{
	struct client *client = &world.clients[c];

	if (client->written)
		return;
	client->written = true;
	if (!admitted(c) || lease_write_begin(world.engine, client->id)) {
		emit(TRACE_DENIED, c, client->token);
		return;
	}
	emit(TRACE_WRITE, c, client->token);
	world.applying = true;
	world.applying_by = c;
	world.cut = false;
	world.slices = 0;
}

static void release(unsigned c)
{
	struct client *client = &world.clients[c];

	client->phase = IDLE;
	(void)!lease_release(world.engine, world.now, names[c], client->id, client->token);
	perform_all();
	/* It was over before. */
	if (!world.released)
		emit(TRACE_LATE, c, client->token);
}

static void client_step(unsigned c)
{
	struct client *client = &world.clients[c];

	if (world.applying && world.applying_by == c)
		return;
	if (client->phase == IDLE)
		ask(c);
	else if (client->phase == HOLDS && dice(2))
		write_once(c);
	else if (client->phase == HOLDS && dice(2))
		release(c);
	else if (client->phase == HOLDS && dice(4) == 0)
		client->phase = IDLE; /* falls silent */
}

/* ---- what the broker does ---- */

static void apply(void)
{
	const struct client *client = &world.clients[world.applying_by];

	if (!world.cut && world.slices < SLICES) {
		world.cut = !admitted(world.applying_by);
		world.slices += !world.cut;
		emit(world.cut ? TRACE_CUT : TRACE_SLICE, world.applying_by, client->token);
		return;
	}
	emit(TRACE_OUTCOME, world.applying_by, client->token);
	world.applying = false;
	lease_write_end(world.engine, world.now, client->id);
}

static void store(void)
{
	uint64_t id = world.storing;

	world.storing = 0;
	lease_stored(world.engine, world.now, id, world.row.token);
}

static void start(void)
{
	const struct row *row = &world.row;
	const struct lease_view view = {.id = row->id,
		.token = row->token,
		.endpoint = ENDPOINT,
		.epoch = 1,
		.tenant = names[row->client],
		.priority = world.clients[row->client].high,
		.ttl_ns = TTL,
		.granted_ns = 1,
		.deadline_ns = row->deadline_ns,
		.hold_until_ns = world.now + terms.hold_max_ns,
		.ranges = &(struct lease_range){0, UINT64_MAX},
		.nranges = 1};

	if (lease_engine_new(&world.engine, &limits, world.last_id + 1) ||
		lease_endpoint_ready(world.engine, world.now, ENDPOINT, 1) ||
		(row->id && lease_restore(world.engine, world.now, &view)))
		broken("the engine does not start");
}

/* The deadline of the lease that was given out last is seen to pass. */
static void look_at_clock(void)
{
	uint64_t early_ns = flaw == FLAW_CLOCK ? TTL / 2 : 0;

	if (world.past_token == world.last_token || !world.row.id || world.storing ||
		world.deadline_ns > world.now + early_ns)
		return;
	world.past_token = world.last_token;
	emit(TRACE_PAST, 0, world.past_token);
}

static void crash(void)
{
	world.crashes++;
	emit(TRACE_CRASH, 0, 0);
	world.engine = lease_engine_free(world.engine);
	world.storing = 0;
	world.applying = false;
	for (unsigned c = 0; c < CLIENTS; c++) {
		if (world.clients[c].phase == ASKED)
			world.clients[c].phase = IDLE;
	}
	world.deadline_ns = world.row.deadline_ns;
	look_at_clock();
	start();
}

/* ---- steps ---- */

static void step(void)
{
	world.released = false;
	world.now += dice(6) * MS;
	look_at_clock();
	switch (dice(8)) {
	case 0:
	case 1:
	case 2:
		client_step(dice(CLIENTS));
		break;
	case 3:
	case 4:
		if (world.applying)
			apply();
		break;
	case 5:
		if (world.storing)
			store();
		break;
	case 6:
		if (world.crashes < CRASHES && dice(12) == 0)
			crash();
		break;
	default:
		lease_advance(world.engine, world.now);
	}
	perform_all();
}

static void trace(uint64_t seed, unsigned steps)
{
	memset(&world, 0, sizeof(world));
	sim_begin(seed);
	world.now = MS;
	for (unsigned c = 0; c < CLIENTS; c++)
		world.clients[c].high = dice(3) == 0;
	start();
	printf("{{%u,%u},{", world.clients[0].high != (flaw == FLAW_PRIORITY),
		world.clients[1].high != (flaw == FLAW_PRIORITY));
	while (sim_next(steps))
		step();
	printf("{%u,0,0}}},\n", TRACE_END);
	lease_engine_free(world.engine);
}

static bool take(const char *option, const char *value)
{
	for (unsigned i = 0; i < FLAWS && strcmp(option, "--break") == 0; i++) {
		if (strcmp(value, flaws[i]) != 0)
			continue;
		flaw = i;
		return true;
	}
	return false;
}

int main(int argc, char **argv)
{
	struct sim_options options = {.first = 1, .seeds = 40, .steps = 250};

	sim_options(&options, argc, argv, " [--break clock|priority|end]", take);
	printf("static const struct {\n\tunsigned char priors[%u];\n\tunsigned char steps[%u][3];\n"
	       "} traces[] = {\n",
		CLIENTS, EVENTS);
	for (uint64_t i = 0; i < options.seeds; i++)
		trace(options.first + i, options.steps);
	printf("};\nstatic unsigned char trace_seen[sizeof(traces) / sizeof(*traces)];\n");
	return 0;
}
