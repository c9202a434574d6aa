/* SPDX-License-Identifier: Apache-2.0 */
/* Subscribers of the simulated read plane: they read when they like, and check what they are told.
 */
#include "tests/sim/read_world.h"

#include <string.h>

static char star[] = "*", a_star[] = "a*", b_star[] = "b*", a_zero[] = "a0";
static char name_all[] = "all", name_a[] = "a", name_b[] = "b";
static char *globs_all[] = {star};
static char *globs_a[] = {a_star};
static char *globs_b[] = {b_star, a_zero};
static const struct tenant tenants[TENANTS] = {
	{.name = name_all,
		.endpoints = globs_all,
		.nendpoints = 1,
		.quota = {.subscriptions = 8, .globs = 8}},
	{.name = name_a,
		.endpoints = globs_a,
		.nendpoints = 1,
		.min_guard = VMSIG_GUARD_RO_MOUNT,
		.quota = {.subscriptions = 8, .globs = 8}},
	{.name = name_b,
		.endpoints = globs_b,
		.nendpoints = 2,
		.min_guard = VMSIG_GUARD_MODE,
		.quota = {.subscriptions = 2, .globs = 2}},
};
static const char *const patterns[] = {"*", "a*", "b*", "a0", "a1", "b0", "b1", "none", "?0"};
#define PATTERNS (sizeof(patterns) / sizeof(patterns[0]))

size_t index_of(const char *name)
{
	for (size_t i = 0; i < ENDPOINTS; i++) {
		if (strcmp(names[i], name) == 0)
			return i;
	}
	broken("a delivery names '%s', which never was", name);
}

static void check_context(const struct subscriber *subscriber, struct adapter *adapter,
	const struct core_delivery *delivery)
{
	size_t i = index_of(delivery->name);
	uint64_t *told = &adapter->told[delivery->epoch % EPOCHS];

	if (delivery->pod.kcr3 != kcr3_of(adapter))
		broken("a context of another session of the guest");
	if (*told && *told != adapter->generation + 1)
		broken("R3: epoch %u of %s names two sessions of the guest", delivery->epoch,
			delivery->name);
	*told = adapter->generation + 1;
	if (delivery->guard < min_guards[i] || (int)delivery->guard < subscriber->tenant->min_guard)
		broken("a context with a weaker guard than demanded");
	if (!delivery->nfiles || delivery->ram_fds[0] <= world.last_fd)
		broken("R2: a descriptor was handed out twice");
	if (delivery->page_fd <= delivery->ram_fds[delivery->nfiles - 1])
		broken("R2: the page's descriptor was handed out twice, or is not there");
	world.last_fd = delivery->page_fd;
}

static void check_delivery(struct subscriber *subscriber, const struct core_delivery *delivery)
{
	size_t i = index_of(delivery->name);
	struct adapter *adapter = &world.adapters[i];
	const char *wrong = history_add(&subscriber->histories[i], delivery);
	const struct selector_subject subject = selector_named(delivery->name);
	bool sees = tenant_sees(subscriber->tenant, &subject);

	heard[delivery->kind]++;
	if (wrong)
		broken("%s was told: %s", subscriber->tenant->name, wrong);
	if (delivery->endpoint != adapter->id)
		broken("the name and the id are of two endpoints");
	if (delivery->state == VMSIG_STATE_GONE && !sees)
		return; /* the farewell of what the policy took away */
	if (!sees)
		broken("I14: %s heard of %s", subscriber->tenant->name, delivery->name);
	if (delivery->epoch > adapter->persisted)
		broken("R3: epoch %u was told before it was durable", delivery->epoch);
	if (delivery->kind != VMSIG_EV_MEMCTX)
		return;
	check_context(subscriber, adapter, delivery);
}

/* What reaches the subscriber, which is what the core gave unless --break spoils it. */
static void hear(struct subscriber *subscriber, struct core_delivery *delivery)
{
	struct subscriber *other = &world.subscribers[dice(SESSIONS)];

	if (flaw == FLAW_STAMP)
		delivery->pod.epoch++;
	if (flaw == FLAW_SHARED_FD && delivery->nfiles && world.last_fd)
		delivery->ram_fds[0] = world.last_fd;
	if (flaw == FLAW_LEAK && other->session)
		subscriber = other;
	if (flaw == FLAW_LOST_PANIC && delivery->kind == VMSIG_EV_ENDPOINT_STATE &&
		delivery->state == VMSIG_STATE_PANICKED)
		return;
	if (delivery->kind == VMSIG_EV_MEMCTX_INVALIDATED) {
		if (flaw == FLAW_LOST_INVALIDATION)
			return;
		if (flaw == FLAW_LATE_INVALIDATION && !subscriber->has_held) {
			subscriber->held = *delivery;
			subscriber->held.name = names[delivery->endpoint - 1];
			subscriber->has_held = true;
			return;
		}
	}
	check_delivery(subscriber, delivery);
	if (subscriber->has_held)
		check_delivery(subscriber, &subscriber->held);
	subscriber->has_held = false;
}

/* A context: it is acknowledged later, or could not be sent at all. */
static void carry(struct subscriber *subscriber, struct core_delivery *delivery)
{
	unsigned outstanding = 0;

	if (subscriber->outstanding)
		broken("a second context before the first was acknowledged");
	if (world.faults && dice(8) == 0) {
		core_session_put_back(subscriber->session, delivery->endpoint);
		subscriber->owed = true;
		return;
	}
	subscriber->outstanding = true;
	for (size_t i = 0; i < SESSIONS; i++)
		outstanding += world.subscribers[i].outstanding;
	if (outstanding > INFLIGHT)
		broken("%u contexts are in flight", outstanding);
	hear(subscriber, delivery);
}

void subscriber_pull(struct subscriber *subscriber, unsigned most)
{
	struct core_delivery delivery;
	int r = 0;

	while (most--) {
		r = core_session_pull(subscriber->session, world.now, &delivery);
		if (r == VMSIG_ERR_WOULD_BLOCK)
			subscriber->owed = false;
		if (r)
			return;
		if (delivery.kind == VMSIG_EV_MEMCTX)
			carry(subscriber, &delivery);
		else
			hear(subscriber, &delivery);
	}
	subscriber->owed = true;
}

void subscriber_take(struct subscriber *subscriber)
{
	int r = core_session_taken(subscriber->session);

	if (r != (subscriber->outstanding ? 0 : VMSIG_ERR_PROTOCOL))
		broken("an acknowledgement got %d", r);
	subscriber->outstanding = false;
}

void subscriber_leave(struct subscriber *subscriber)
{
	session_free(subscriber->session);
	memset(subscriber, 0, sizeof(*subscriber));
}

static void subscriber_enter(struct subscriber *subscriber)
{
	subscriber->tenant = &tenants[dice(TENANTS)];
	if (session_new(
		    &subscriber->session, world.core, subscriber->tenant, dice(3) * 7, subscriber))
		subscriber->session = NULL;
}

static bool looks_at(const struct subscriber *subscriber, const char *name)
{
	const struct selector_subject subject = selector_named(name);

	for (unsigned i = 0; i < PATTERNS; i++) {
		if (subscriber->patterns & 1u << i && selector_matches(patterns[i], &subject))
			return true;
	}
	return false;
}

static void subscriber_subscribe(struct subscriber *subscriber, unsigned pattern)
{
	if (session_subscribe(subscriber->session, patterns[pattern]) == 0)
		subscriber->patterns |= 1u << pattern;
}

/* What another pattern names is looked at as before. */
static void subscriber_unsubscribe(struct subscriber *subscriber, unsigned pattern)
{
	if (session_unsubscribe(subscriber->session, patterns[pattern]))
		return;
	subscriber->patterns &= ~(1u << pattern);
	for (size_t i = 0; i < ENDPOINTS; i++) {
		if (!looks_at(subscriber, names[i]))
			memset(&subscriber->histories[i], 0, sizeof(subscriber->histories[i]));
	}
}

void subscriber_step(struct subscriber *subscriber)
{
	unsigned pattern = dice(PATTERNS);

	if (!subscriber->session) {
		if (dice(2))
			subscriber_enter(subscriber);
		return;
	}
	switch (dice(world.faults ? 14 : 8)) {
	case 0:
	case 1:
		subscriber_subscribe(subscriber, pattern);
		break;
	case 2:
		subscriber_unsubscribe(subscriber, pattern);
		break;
	case 8:
		subscriber_leave(subscriber);
		break;
	case 9:
		subscriber->tenant = &tenants[dice(TENANTS)];
		session_set_tenant(subscriber->session, subscriber->tenant);
		break;
	case 3:
	case 10:
		subscriber_take(subscriber);
		break;
	default:
		subscriber_pull(subscriber, dice(4));
	}
}
