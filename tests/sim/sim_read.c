/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deterministic simulation of the read plane: adapters that boot, reset, lie about epochs,
 * run out of descriptors and go away; subscribers that come late, read slowly, never
 * acknowledge and leave; a policy that changes. After every step the histories of all
 * subscribers satisfy the rules (I13) and nobody has heard of what the policy does not name
 * to him (I14); when the faults stop, everybody has the newest state.
 *
 *   sim_read [--seeds N] [--seed S] [--steps N]
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/core/core.h"
#include "tests/sim/history.h"

#define ENDPOINTS 4
#define SESSIONS 6
#define TENANTS 3
#define FIRST_FD 1000

struct adapter {
	uint32_t id;
	bool added, registered;
	bool bootstrapping;
	uint32_t epoch;      /* asked for by the core */
	uint64_t generation; /* of the guest; kcr3 is made of it */
	uint32_t persisted, revoked;
	vmsig_coherence page;
};

struct subscriber {
	struct session *session;
	const struct tenant *tenant;
	bool notified;
	struct history histories[ENDPOINTS];
};

struct world {
	uint64_t seed, random, now;
	struct core *core;
	struct adapter adapters[ENDPOINTS];
	struct subscriber subscribers[SESSIONS];
	int next_fd;
	bool faults;
	unsigned step;
};

static struct world world;

static char star[] = "*", a_star[] = "a*", b_star[] = "b*", a_zero[] = "a0";
static char name_all[] = "all", name_a[] = "a", name_b[] = "b";
static char *globs_all[] = {star};
static char *globs_a[] = {a_star};
static char *globs_b[] = {b_star, a_zero};
static const struct tenant tenants[TENANTS] = {
	{.name = name_all, .endpoints = globs_all, .nendpoints = 1, .quota = {.subscriptions = 8}},
	{.name = name_a,
		.endpoints = globs_a,
		.nendpoints = 1,
		.min_guard = VMSIG_GUARD_RO_MOUNT,
		.quota = {.subscriptions = 8}},
	{.name = name_b,
		.endpoints = globs_b,
		.nendpoints = 2,
		.min_guard = VMSIG_GUARD_MODE,
		.quota = {.subscriptions = 2}},
};
static const char *const names[ENDPOINTS] = {"a0", "a1", "b0", "b1"};
static const char *const patterns[] = {"*", "a*", "b*", "a0", "a1", "b0", "b1", "none", "?0"};

__attribute__((format(printf, 1, 2), noreturn)) static void broken(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "seed %llu, step %u: ", (unsigned long long)world.seed, world.step);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

/* xorshift64*, so that a seed means the same everywhere. */
static uint32_t dice(uint32_t sides)
{
	world.random ^= world.random >> 12;
	world.random ^= world.random << 25;
	world.random ^= world.random >> 27;
	return (uint32_t)((world.random * 0x2545f4914f6cdd1dull) >> 33) % sides;
}

/* ---- the adapters' side ---- */

static uint64_t kcr3_of(const struct adapter *adapter)
{
	return (uint64_t)adapter->id << 44 | adapter->generation << 12;
}

static void describe(
	void *ctx, vmsig_memctx *out_pod, const vmsig_memseg **out_segs, uint32_t *out_nseg)
{
	struct adapter *adapter = ctx;

	/* R3: whatever is left in epoch must be overwritten. */
	*out_pod = (vmsig_memctx){.kcr3 = kcr3_of(adapter), .epoch = dice(100)};
	*out_segs = NULL;
	*out_nseg = 0;
}

static int share_fd(void *ctx)
{
	static const int failures[] = {-EMFILE, -ENFILE, -ENOMEM, -EIO};

	if (world.faults && dice(10) == 0)
		return failures[dice(4)];
	return world.next_fd++;
}

static void invalidate(void *ctx, uint32_t epoch)
{
	struct adapter *adapter = ctx;

	adapter->bootstrapping = true;
	adapter->epoch = epoch;
}

static void emit(struct adapter *adapter, uint32_t kind, const void *inln, size_t size)
{
	const vmsig_emit *seam = core_emit(world.core);
	vmsig_event ev = {.kind = kind, .endpoint = adapter->id};

	memcpy(ev.inln, inln, size);
	if (dice(3) == 0) {
		ev.payload.data = "for a reason";
		ev.payload.len = dice(13);
	}
	(void)seam->event(seam->core, &ev);
}

static void emit_state(struct adapter *adapter, enum vmsig_endpoint_state state)
{
	vmsig_endpoint_status status = {.state = state};

	emit(adapter, VMSIG_EV_ENDPOINT_STATE, &status, sizeof(status));
}

static void emit_ready(struct adapter *adapter, uint32_t epoch)
{
	const vmsig_emit *seam = core_emit(world.core);
	vmsig_ram_facts facts = {.bytes = 4096, .owner = 7};
	vmsig_memctx pod = {.epoch = epoch};

	facts.guard = dice(4);
	snprintf(facts.session, sizeof(facts.session), "%llu",
		(unsigned long long)adapter->generation);
	(void)seam->ram_found(seam->core, adapter->id, &facts);
	emit(adapter, VMSIG_EV_MEMCTX, &pod, sizeof(pod));
}

static void adapter_add(struct adapter *adapter, size_t i)
{
	struct core_endpoint_config config = {.id = adapter->id,
		.name = names[i],
		.adapter = "sim",
		.epoch = adapter->persisted,
		.page = &adapter->page};

	if (core_endpoint_add(world.core, &config))
		broken("endpoint %s was refused", names[i]);
	adapter->added = true;
}

static void adapter_register(struct adapter *adapter)
{
	const vmsig_emit *seam = core_emit(world.core);
	vmsig_memctx_reg reg = {.endpoint = adapter->id,
		.ctx = adapter,
		.describe = describe,
		.share_fd = share_fd,
		.invalidate = invalidate};

	if (seam->register_memctx(seam->core, &reg))
		broken("registration was refused");
	adapter->registered = true;
}

static void adapter_unregister(struct adapter *adapter)
{
	const vmsig_emit *seam = core_emit(world.core);

	if (!adapter->registered)
		return;
	seam->unregister_memctx(seam->core, adapter->id);
	adapter->registered = adapter->bootstrapping = false;
}

static void adapter_step(struct adapter *adapter, size_t i)
{
	vmsig_memctx_inv inv = {0};

	if (!adapter->added) {
		if (dice(4) == 0)
			adapter_add(adapter, i);
		return;
	}
	if (!adapter->registered) {
		if (dice(3) == 0) {
			adapter_register(adapter);
		} else if (world.faults && dice(8) == 0) {
			core_endpoint_remove(world.core, adapter->id);
			adapter->added = false;
		}
		return;
	}
	switch (dice(world.faults ? 12 : 4)) {
	case 0:
	case 1:
	case 2:
		if (adapter->bootstrapping)
			emit_ready(adapter, adapter->epoch);
		adapter->bootstrapping = false;
		break;
	case 4:
		adapter->generation++;
		emit(adapter, VMSIG_EV_MEMCTX_INVALIDATED, &inv, sizeof(inv));
		break;
	case 5: /* a stale bootstrap, or one of the future */
		emit_ready(adapter, adapter->epoch + dice(5) - 2u + (dice(5) ? 0 : 1));
		break;
	case 6:
		emit_state(adapter, dice(2) ? VMSIG_STATE_GONE : VMSIG_STATE_BOOTING);
		break;
	case 7:
		adapter_unregister(adapter);
		break;
	default:
		break;
	}
}

/* ---- the subscribers' side ---- */

static size_t index_of(const char *name)
{
	for (size_t i = 0; i < ENDPOINTS; i++) {
		if (strcmp(names[i], name) == 0)
			return i;
	}
	broken("a delivery names '%s', which never was", name);
}

static void check_delivery(struct subscriber *subscriber, const struct core_delivery *delivery)
{
	size_t i = index_of(delivery->name);
	struct adapter *adapter = &world.adapters[i];
	const char *wrong = history_add(&subscriber->histories[i], delivery);

	if (wrong)
		broken("%s was told: %s", subscriber->tenant->name, wrong);
	if (delivery->endpoint != adapter->id)
		broken("the name and the id are of two endpoints");
	if (delivery->state == VMSIG_STATE_GONE && !tenant_sees(subscriber->tenant, delivery->name))
		return; /* the farewell of what the policy took away */
	if (!tenant_sees(subscriber->tenant, delivery->name))
		broken("I14: %s heard of %s", subscriber->tenant->name, delivery->name);
	if (delivery->epoch > adapter->persisted)
		broken("R3: epoch %u was told before it was durable", delivery->epoch);
	if (delivery->kind != VMSIG_EV_MEMCTX)
		return;
	if (delivery->pod.kcr3 != kcr3_of(adapter))
		broken("a context of another session of the guest");
	if ((int)delivery->guard < subscriber->tenant->min_guard)
		broken("a context with a weaker guard than demanded");
}

static void pull_all(struct subscriber *subscriber, unsigned most)
{
	struct core_delivery delivery;

	while (most-- && core_session_pull(subscriber->session, world.now, &delivery) == 0)
		check_delivery(subscriber, &delivery);
}

static void subscriber_leave(struct subscriber *subscriber)
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

static void subscriber_step(struct subscriber *subscriber)
{
	const char *pattern = patterns[dice(sizeof(patterns) / sizeof(patterns[0]))];

	if (!subscriber->session) {
		if (dice(2))
			subscriber_enter(subscriber);
		return;
	}
	switch (dice(world.faults ? 14 : 8)) {
	case 0:
	case 1:
		(void)!session_subscribe(subscriber->session, pattern);
		break;
	case 2:
		if (session_unsubscribe(subscriber->session, pattern) == 0)
			memset(subscriber->histories, 0, sizeof(subscriber->histories));
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
		(void)!core_session_taken(subscriber->session);
		break;
	default:
		pull_all(subscriber, dice(4));
	}
}

/* ---- the shell ---- */

static struct adapter *adapter_of(uint32_t id)
{
	for (size_t i = 0; i < ENDPOINTS; i++) {
		if (world.adapters[i].id == id)
			return &world.adapters[i];
	}
	broken("an action names endpoint %u, which never was", id);
}

static void perform(const struct core_action *action)
{
	struct subscriber *subscriber;
	struct adapter *adapter;

	switch (action->kind) {
	case CORE_ACT_PERSIST_EPOCH:
		adapter = adapter_of(action->endpoint);
		if (action->epoch <= adapter->persisted)
			broken("R3: epoch %u after %u", action->epoch, adapter->persisted);
		adapter->persisted = action->epoch;
		break;
	case CORE_ACT_REVOKE_LEASES:
		adapter_of(action->endpoint)->revoked = action->epoch;
		break;
	case CORE_ACT_NOTIFY:
		((struct subscriber *)session_user(action->session))->notified = true;
		break;
	case CORE_ACT_DISCONNECT:
		subscriber = session_user(action->session);
		subscriber_leave(subscriber);
		break;
	case CORE_ACT_BOOTSTRAP:
		adapter = adapter_of(action->endpoint);
		if (adapter->persisted != action->epoch || adapter->revoked != action->epoch)
			broken("R6: the bootstrap came before the epoch was stored and leases "
			       "revoked");
		action->reg.invalidate(action->reg.ctx, action->epoch);
		break;
	case CORE_ACT_PERSIST_SESSION:
	case CORE_ACT_WAKE_COHERENCE:
	case CORE_ACT_READY:
		break;
	}
}

static void perform_all(void)
{
	struct core_action action;
	unsigned n = 0;

	while (core_next_action(world.core, &action)) {
		perform(&action);
		if (++n > 10000)
			broken("the actions do not end");
	}
}

static void check_pages(void)
{
	struct core_endpoint_info info;

	for (size_t i = 0; i < ENDPOINTS; i++) {
		struct adapter *adapter = &world.adapters[i];

		if (!adapter->added || core_endpoint_find(world.core, NULL, names[i], &info))
			continue;
		if (adapter->page.epoch != info.epoch ||
			adapter->page.state != (uint32_t)info.state)
			broken("the coherence page of %s lags behind", names[i]);
	}
}

/* Everybody reads and acknowledges until there is nothing more to tell. */
static void settle(void)
{
	world.faults = false;
	for (unsigned round = 0; round < 400; round++) {
		for (size_t i = 0; i < ENDPOINTS; i++)
			adapter_step(&world.adapters[i], i);
		perform_all();
		for (size_t i = 0; i < SESSIONS; i++) {
			if (!world.subscribers[i].session)
				continue;
			/* Only who was notified pulls: a lost wake-up would show. */
			(void)!core_session_taken(world.subscribers[i].session);
			perform_all();
			if (world.subscribers[i].notified) {
				world.subscribers[i].notified = false;
				pull_all(&world.subscribers[i], 100);
			}
		}
		perform_all();
	}
}

static void check_settled(const struct subscriber *subscriber)
{
	struct core_endpoint_info info;
	size_t cursor = 0;

	while (core_endpoint_next(world.core, subscriber->session, &cursor, &info)) {
		const struct history *history = &subscriber->histories[index_of(info.name)];

		if (!history->last_epoch)
			continue; /* not subscribed */
		if (history->last_epoch != info.epoch)
			broken("%s was last told of epoch %u of %s, which is in %u",
				subscriber->tenant->name, history->last_epoch, info.name,
				info.epoch);
		if (info.state == VMSIG_STATE_READY &&
			(int)info.guard >= subscriber->tenant->min_guard &&
			(history->context_epoch != info.epoch || history->invalidated))
			broken("%s has no context of %s, which is ready", subscriber->tenant->name,
				info.name);
	}
}

static void run(uint64_t seed, unsigned steps)
{
	const struct core_limits limits = {
		.endpoints = ENDPOINTS, .sessions = SESSIONS, .inflight = 2, .take_timeout_ns = 40};

	memset(&world, 0, sizeof(world));
	world.seed = seed;
	world.random = seed * 0x9e3779b97f4a7c15ull + 1;
	world.faults = true;
	world.next_fd = FIRST_FD;
	if (core_new(&world.core, &limits))
		broken("out of memory");
	for (size_t i = 0; i < ENDPOINTS; i++)
		world.adapters[i].id = (uint32_t)i + 1;
	for (world.step = 0; world.step < steps; world.step++) {
		size_t endpoint = dice(ENDPOINTS);

		world.now += dice(10);
		adapter_step(&world.adapters[endpoint], endpoint);
		if (dice(2))
			perform_all();
		subscriber_step(&world.subscribers[dice(SESSIONS)]);
		core_advance(world.core, world.now);
		perform_all();
		check_pages();
	}
	/* Subscribers that were notified before are owed a pull. */
	for (size_t i = 0; i < SESSIONS; i++)
		world.subscribers[i].notified = world.subscribers[i].session != NULL;
	settle();
	for (size_t i = 0; i < SESSIONS; i++) {
		if (world.subscribers[i].session)
			check_settled(&world.subscribers[i]);
	}
	for (size_t i = 0; i < SESSIONS; i++)
		subscriber_leave(&world.subscribers[i]);
	for (size_t i = 0; i < ENDPOINTS; i++) {
		adapter_unregister(&world.adapters[i]);
		if (world.adapters[i].added)
			core_endpoint_remove(world.core, world.adapters[i].id);
	}
	core_free(world.core);
}

int main(int argc, char **argv)
{
	uint64_t first = 1, seeds = 500;
	unsigned steps = 600;

	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t value = strtoull(argv[i + 1], NULL, 0);

		if (strcmp(argv[i], "--seeds") == 0) {
			seeds = value;
		} else if (strcmp(argv[i], "--seed") == 0) {
			first = value;
			seeds = 1;
		} else if (strcmp(argv[i], "--steps") == 0) {
			steps = (unsigned)value;
		} else {
			fprintf(stderr, "usage: sim_read [--seeds N] [--seed S] [--steps N]\n");
			return 2;
		}
	}
	for (uint64_t seed = first; seed < first + seeds; seed++)
		run(seed, steps);
	printf("%llu seeds of %u steps: every history satisfies R1-R6 and I14\n",
		(unsigned long long)seeds, steps);
	return 0;
}
