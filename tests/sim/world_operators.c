/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operators of sim_world: each has a connection to one host at a time, over which messages come in
 * their order and late, and those of two connections in any order. They ask for leases, renew,
 * write and release; fall silent and write when their lease has long passed on; lose their
 * connection and resume. What is applied is judged here.
 */
#include <string.h>

#include "broker/policy/selector.h"
#include "tests/sim/world_planes.h"

#define MESSAGES (OPERATORS * 16)
#define GIVEN (512 + 64 * GUESTS) /* newest leases, that are remembered */
#define SLOTS 16                  /* pieces of a guest's RAM */
#define SLOT 0x1000ull

static const struct lease_terms terms = {.ttl_min_ns = 500 * MS,
	.ttl_max_ns = LEASE_TTL,
	.hold_max_ns = 20000 * MS,
	.wait_max_ns = 40000 * MS,
	.priority_max = 1,
	.leases = 2 * GUESTS,
	.waits = 2 * GUESTS};

enum message_kind { ACQUIRE, RENEW, RESUME, WRITE, RELEASE, CUT, GRANTED, REFUSED, OVER };

struct message {
	bool used;
	enum message_kind kind;
	uint64_t due;
	int h, g;
	unsigned op, broker;
	uint64_t session, id, token;
	uint32_t epoch;
	struct lease_range range;
};

enum holding { IDLE, ASKED, HOLDS };

struct operator
{
	unsigned tenant, broker;
	int h, g; /* NOWHERE: not connected */
	uint64_t session, last_due[2];
	enum holding holding;
	uint64_t asked_at, silent_until;
	uint64_t id, token;
	uint32_t epoch;
	struct lease_range range;
};

/* A lease that was granted. */
struct given {
	int h, g;
	uint64_t id, token;
	uint32_t epoch;
	struct lease_range range;
	bool over; /* its end was acknowledged */
};

static struct message messages[MESSAGES];
static struct operator operators[OPERATORS];
static struct given given[GIVEN];
static unsigned ngiven;
static uint64_t sessions;
static uint64_t applied[GUESTS][SLOTS]; /* newest token */

void operators_reset(void)
{
	memset(messages, 0, sizeof(messages));
	memset(operators, 0, sizeof(operators));
	memset(applied, 0, sizeof(applied));
	memset(given, 0, sizeof(given));
	ngiven = 0;
	sessions = 0;
	for (unsigned i = 0; i < OPERATORS; i++)
		operators[i] = (struct operator){.tenant = i % TENANTS, .h = NOWHERE};
}

/* ---- on the way ---- */

static struct message *send(unsigned op, enum message_kind kind)
{
	struct operator* operator= & operators[op];
	uint64_t *last = &operator->last_due[kind >= GRANTED];
	uint64_t due = world.now + MS * (1 + dice(world.faults && dice(10) == 0 ? 4000 : 30));

	if (due <= *last)
		due = *last + 1;
	for (size_t i = 0; i < MESSAGES; i++) {
		if (messages[i].used)
			continue;
		*last = due;
		messages[i] = (struct message){.used = true,
			.kind = kind,
			.due = due,
			.h = operator->h,
			.g = operator->g,
			.op = op,
			.broker = operator->broker,
			.session = operator->session,
			.id = operator->id,
			.token = operator->token,
			.epoch = operator->epoch,
			.range = operator->range };
		return &messages[i];
	}
	broken("the simulator's transport is full");
}

static void lose(struct operator* operator)
{
	operator->h = NOWHERE;
	operator->holding = IDLE;
	operator->session = 0;
}

static void connect(struct operator* operator, int h)
{
	operator->h = h;
	operator->broker = seats[h].broker;
	operator->session = ++ sessions;
	memset(operator->last_due, 0, sizeof(operator->last_due));
}

/* ---- what was granted ---- */

static struct given *given_find(int h, uint64_t id)
{
	for (unsigned i = 0; i < GIVEN; i++) {
		if (given[i].id == id && given[i].h == h)
			return &given[i];
	}
	return NULL;
}

static void note_grant(int h, const struct lease_view *lease)
{
	int g = (int)lease->endpoint - 1;

	for (unsigned i = 0; i < GIVEN; i++) {
		if (given[i].id && given[i].h == h && given[i].g == g && !given[i].over &&
			lease_range_overlaps(&given[i].range, &lease->ranges[0]))
			broken("I1: two leases of guest %d at host %d", g, h);
	}
	if (given[ngiven % GIVEN].id && !given[ngiven % GIVEN].over)
		broken("more leases than the simulator can check");
	given[ngiven++ % GIVEN] = (struct given){.h = h,
		.g = g,
		.id = lease->id,
		.token = lease->token,
		.epoch = lease->epoch,
		.range = lease->ranges[0]};
	world_tallies[W_GRANTS]++;
}

static void note_end(int h, const struct lease_view *lease)
{
	struct given *was = given_find(h, lease->id);

	if (was)
		was->over = true;
	world_tallies[W_ENDED]++;
}

void operators_told(int h, const struct lease_action *action)
{
	const struct lease_view *lease = &action->lease;
	struct operator* operator= lease->user;
	bool hears = operator&& operator->session == lease->session && operator->h == h;
	struct message *message;
	enum message_kind kind = OVER;

	if (action->kind == LEASE_ACT_GRANTED)
		kind = GRANTED, note_grant(h, lease);
	else if (action->kind == LEASE_ACT_ENDED)
		note_end(h, lease);
	else if (action->kind == LEASE_ACT_REFUSED)
		kind = REFUSED;
	else
		return;
	if (action->kind == LEASE_ACT_GRANTED)
		lease_told(seats[h].engine, lease->id);
	if (!hears)
		return;
	message = send((unsigned)(operator- operators), kind);
	message->g = (int)lease->endpoint - 1;
	message->range = lease->ranges[0];
	message->id = lease->id;
	message->token = lease->token;
	message->epoch = lease->epoch;
}

/* Leases end with the broker here. */
void operators_cut(int h)
{
	for (unsigned i = 0; i < GIVEN; i++) {
		if (given[i].h == h)
			given[i].over = true;
	}
	for (size_t i = 0; i < OPERATORS; i++) {
		if (operators[i].h == h)
			lose(&operators[i]);
	}
}

/* ---- arriving at a host ---- */

static void arrive_acquire(const struct message *message)
{
	struct seat *seat = &seats[message->h];
	struct operator* operator= & operators[message->op];
	struct lease_request request = {.endpoint = planes_endpoint(message->g),
		.tenant = tenants[operator->tenant].name,
		.uid = 1000 + operator->tenant,
		.session = message->session,
		.ranges = &message->range,
		.nranges = 1,
		.ttl_ns = LEASE_TTL,
		.wait_ns = 30000 * MS,
		.priority = dice(8) == 0,
		.no_wait = dice(6) == 0,
		.user = operator};
	uint64_t id;

	if (operator->session != message->session)
		return;
	if (lease_acquire(
		    seat->engine, host_clock(&world.hosts[message->h]), &request, &terms, &id)) {
		world_tallies[W_REFUSED]++;
		(void)send(message->op, REFUSED);
		return;
	}
	if (id > seat->next_id)
		seat->next_id = id;
}

static void apply(const struct message *message)
{
	const struct given *lease = given_find(message->h, message->id);
	size_t slot = message->range.start / SLOT;

	if (!lease || lease->token != message->token || lease->g != message->g)
		broken("I3: bytes of guest %d at host %d under lease %llu, which was not granted",
			message->g, message->h, (unsigned long long)message->id);
	if (lease->over)
		broken("I4: bytes of guest %d change under token %llu, whose end was acknowledged",
			message->g, (unsigned long long)message->token);
	if (lease->epoch != world.guests[message->g].epoch)
		broken("I3: bytes of guest %d in epoch %u, which is in %u", message->g,
			lease->epoch, world.guests[message->g].epoch);
	if (message->token < applied[message->g][slot])
		broken("I3: token %llu of guest %d after token %llu",
			(unsigned long long)message->token, message->g,
			(unsigned long long)applied[message->g][slot]);
	applied[message->g][slot] = message->token;
	judge_write(message->h, message->g);
	world_tallies[W_WRITES]++;
}

static bool may_apply(const struct message *message)
{
	const struct host *host = &world.hosts[message->h];
	const struct tenure *tenure = host->services[message->g].tenure;

	return tenure && tenure_may_apply(tenure, host_clock(host));
}

static void arrive_write(const struct message *message)
{
	const char *tenant = tenants[operators[message->op].tenant].name;
	uint64_t now = host_clock(&world.hosts[message->h]);

	if ((world_flaw != WORLD_NO_RIGHT && !may_apply(message)) ||
		(world_flaw != WORLD_NO_FENCE &&
			lease_admit(seats[message->h].engine, now, tenant, message->id,
				message->token, message->epoch, &message->range)))
		world_tallies[W_REFUSED]++;
	else
		apply(message);
}

/* Only who may apply renews: who takes over waits for what was counted on until then. */
static void arrive_renew(const struct message *message)
{
	const char *tenant = tenants[operators[message->op].tenant].name;
	uint64_t now = host_clock(&world.hosts[message->h]), deadline;
	struct guest *guest = &world.guests[message->g];

	if (!may_apply(message) || lease_renew(seats[message->h].engine, now, tenant, message->id,
					   message->token, &deadline))
		return;
	if (guest->leased_by == message->h && guest->belief_until < world.now + LEASE_TTL)
		guest->belief_until = world.now + LEASE_TTL;
}

static void arrive_other(const struct message *message)
{
	struct operator* operator= & operators[message->op];
	struct lease_engine *engine = seats[message->h].engine;
	const char *tenant = tenants[operator->tenant].name;
	uint64_t now = host_clock(&world.hosts[message->h]);

	if (message->kind == CUT)
		lease_disconnect(engine, now, message->session);
	else if (message->kind == RELEASE)
		(void)!lease_release(engine, now, tenant, message->id, message->token);
	else if (operator->session == message->session &&
		 lease_resume(engine, now, tenant, 1000 + operator->tenant, message->id,
			 message->token, message->session, operator))
		lose(operator);
}

static void arrive_at_host(const struct message *message)
{
	struct operator* operator= & operators[message->op];

	if (!seats[message->h].engine || seats[message->h].broker != message->broker) {
		if (operator->session == message->session)
			lose(operator);
		return;
	}
	if (message->kind == ACQUIRE)
		arrive_acquire(message);
	else if (message->kind == WRITE)
		arrive_write(message);
	else if (message->kind == RENEW)
		arrive_renew(message);
	else
		arrive_other(message);
	planes_perform(message->h);
	host_perform(message->h);
}

static void arrive_at_operator(const struct message *message)
{
	struct operator* operator= & operators[message->op];

	if (operator->session != message->session)
		return;
	if (message->kind == GRANTED && operator->holding == ASKED) {
		operator->holding = HOLDS;
		operator->id = message->id;
		operator->token = message->token;
		operator->epoch = message->epoch;
		operator->g = message->g;
		operator->range = message->range;
	} else if (message->kind == REFUSED && operator->holding == ASKED) {
		operator->holding = IDLE;
	} else if (message->kind == OVER && operator->holding == HOLDS && operator->id ==
					    message->id) {
		operator->holding = IDLE;
	}
}

static void deliver(void)
{
	for (size_t i = 0; i < MESSAGES; i++) {
		struct message message = messages[i];

		if (!message.used || message.due > world.now)
			continue;
		messages[i].used = false;
		if (message.kind >= GRANTED)
			arrive_at_operator(&message);
		else
			arrive_at_host(&message);
	}
}

/* ---- what they do ---- */

static bool sees(const struct operator* operator, int g)
{
	const struct selector_subject subject = selector_named(world.guests[g].uuid);

	return tenant_sees(&tenants[operator->tenant], &subject);
}

static void ask(unsigned op)
{
	struct operator* operator= & operators[op];
	int g = (int)dice(GUESTS), h = world.guests[g].where;
	unsigned slot = dice(SLOTS);

	if (world.faults && dice(8) == 0)
		h = (int)dice(HOSTS);
	if (h == NOWHERE || !seats[h].engine || !sees(operator, g))
		return;
	if (operator->h != h)
		connect(operator, h);
	operator->g = g;
	operator->id = operator->token = 0;
	operator->range =(struct lease_range){
		.start = slot * SLOT, .last = (slot + 1 + dice(SLOTS - slot)) * SLOT - 1};
	operator->holding = ASKED;
	operator->asked_at = world.now;
	(void)send(op, ACQUIRE);
}

/* The host hears of it later; what was sent before comes all the same. */
static void reconnect(unsigned op)
{
	struct operator* operator= & operators[op];
	int h = operator->h;
	bool held = operator->holding == HOLDS;

	(void)send(op, CUT);
	lose(operator);
	if (!held || !seats[h].engine || dice(3) == 0)
		return;
	connect(operator, h);
	operator->holding = HOLDS;
	(void)send(op, RESUME);
}

static void hold(unsigned op)
{
	struct operator* operator= & operators[op];
	struct message *message;

	switch (dice(world.faults ? 12 : 8)) {
	case 0:
		(void)send(op, RELEASE);
		operator->holding = IDLE;
		break;
	case 1:
	case 2:
		(void)send(op, RENEW);
		break;
	case 8:
		operator->silent_until = world.now + MS * dice(8000);
		break;
	case 9:
		reconnect(op);
		break;
	default:
		message = send(op, WRITE);
		message->range.start +=
			dice((uint32_t)((message->range.last + 1 - message->range.start) / SLOT)) *
			SLOT;
		message->range.last = message->range.start + 7;
	}
}

static void operator_step(unsigned op)
{
	struct operator* operator= & operators[op];

	if (operator->silent_until> world.now && world.faults)
		return;
	if (operator->holding == HOLDS)
		hold(op);
	else if (operator->holding == IDLE)
		ask(op);
	else if (world.faults && dice(40) == 0)
		reconnect(op);
}

void operators_step(void)
{
	deliver();
	for (unsigned i = 0; i < OPERATORS / (world.faults ? 8 : 16); i++)
		operator_step(dice(OPERATORS));
}

void operators_settled(void)
{
	for (unsigned i = 0; i < OPERATORS; i++) {
		const struct operator* operator= & operators[i];

		if (operator->holding == ASKED && world.now> operator->asked_at + 100000 * MS)
			broken("I10: operator %u waits for a lease of guest %d at host %d",
				i, operator->g, operator->h);
	}
}
