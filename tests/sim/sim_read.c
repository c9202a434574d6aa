/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deterministic simulation of the read plane: adapters that boot, reset, lie about epochs,
 * run out of descriptors and go away; subscribers that come late, read slowly, never
 * acknowledge and leave; a policy that changes; brokers that restart and crash. After every
 * step the histories of all subscribers satisfy the rules (I13) and nobody has heard of what
 * the policy does not name to him (I14); when the faults stop, everybody has the newest state.
 *
 *   sim_read [--seeds N] [--seed S] [--steps N] [--break WHAT]
 *
 * --break spoils what goes between the core and the checks in one way, which has to be found:
 * a simulator that passes it sees nothing.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/read_world.h"

static const char *const flaws[FLAWS] = {"none", "late-persist", "lost-invalidation",
	"late-invalidation", "stamp", "leak", "lost-notify", "shared-fd", "lost-panic",
	"repeated-epoch"};

struct world world;
enum flaw flaw;
unsigned long long heard[VMSIG_EV_ENDPOINT_STATE + 1];
const enum vmsig_guard min_guards[ENDPOINTS] = {
	VMSIG_GUARD_NONE, VMSIG_GUARD_MODE, VMSIG_GUARD_SEALED, VMSIG_GUARD_NONE};
const char *const names[ENDPOINTS] = {"a0", "a1", "b0", "b1"};

/* ---- the shell ---- */

static struct adapter *adapter_of(uint32_t id)
{
	for (size_t i = 0; i < ENDPOINTS; i++) {
		if (world.adapters[i].id == id)
			return &world.adapters[i];
	}
	broken("an action names endpoint %u, which never was", id);
}

static void perform_persist(const struct core_action *action)
{
	struct adapter *adapter = adapter_of(action->endpoint);

	if (action->epoch <= adapter->persisted)
		broken("R3: epoch %u after %u", action->epoch, adapter->persisted);
	if (action->epoch >= EPOCHS)
		broken("more epochs than the simulator can check");
	adapter->persisted = action->epoch;
	adapter->session[0] = '\0';
}

static void perform_bootstrap(const struct core_action *action)
{
	struct adapter *adapter = adapter_of(action->endpoint);

	if (!adapter->registered)
		broken("a bootstrap of an endpoint that has unregistered");
	if (adapter->persisted != action->epoch)
		broken("R6: the bootstrap came before the epoch was stored");
	/* An epoch that goes on after a restart was not raised, so there was nothing to revoke. */
	if (!adapter->session[0] && adapter->revoked != action->epoch)
		broken("R6: the bootstrap came before leases were revoked");
	for (size_t i = 0; i < SESSIONS; i++) {
		const struct subscriber *subscriber = &world.subscribers[i];
		const struct history *history = &subscriber->histories[action->endpoint - 1];

		if (subscriber->session && history->context_epoch && !history->invalidated &&
			history->context_epoch != action->epoch && !subscriber->owed)
			broken("R6: the bootstrap came before %s was notified",
				subscriber->tenant->name);
	}
	action->reg.invalidate(action->reg.ctx, action->epoch);
}

static void perform(const struct core_action *action)
{
	struct subscriber *subscriber;
	struct adapter *adapter;

	switch (action->kind) {
	case CORE_ACT_PERSIST_EPOCH:
		perform_persist(action);
		break;
	case CORE_ACT_PERSIST_SESSION:
		adapter = adapter_of(action->endpoint);
		if (action->epoch != adapter->persisted)
			broken("the session of epoch %u is to be stored in %u", action->epoch,
				adapter->persisted);
		snprintf(adapter->session, sizeof(adapter->session), "%s", action->fingerprint);
		break;
	case CORE_ACT_REVOKE_LEASES:
		adapter_of(action->endpoint)->revoked = action->epoch;
		break;
	case CORE_ACT_NOTIFY:
		if (flaw == FLAW_LOST_NOTIFY && dice(4) == 0)
			break;
		((struct subscriber *)session_user(action->session))->owed = true;
		break;
	case CORE_ACT_DISCONNECT:
		subscriber = session_user(action->session);
		subscriber_leave(subscriber);
		break;
	case CORE_ACT_BOOTSTRAP:
		perform_bootstrap(action);
		break;
	case CORE_ACT_WAKE_COHERENCE:
	case CORE_ACT_READY:
		break;
	}
}

void perform_all(void)
{
	struct core_action action, late = {.endpoint = 0};
	unsigned n = 0;

	while (core_next_action(world.core, &action)) {
		if (++n > 10000)
			broken("the actions do not end");
		if (world.crashing)
			continue;
		if (flaw == FLAW_LATE_PERSIST && action.kind == CORE_ACT_PERSIST_EPOCH)
			late = action;
		else
			perform(&action);
	}
	if (late.kind)
		perform(&late);
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
		if (core_state_is_readable(info.state) && !adapter->registered)
			broken("%s is ready without an adapter", names[i]);
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
			subscriber_take(&world.subscribers[i]);
			perform_all();
			if (world.subscribers[i].owed)
				subscriber_pull(&world.subscribers[i], 100);
		}
		perform_all();
	}
}

static void check_settled(const struct subscriber *subscriber)
{
	struct core_endpoint_info info;
	size_t cursor = 0;

	while (core_endpoint_next(world.core, subscriber->session, &cursor, &info)) {
		size_t i = index_of(info.name);
		const struct history *history = &subscriber->histories[i];

		if (!history->last_epoch)
			continue; /* not subscribed */
		if (history->last_epoch != info.epoch)
			broken("%s was last told of epoch %u of %s, which is in %u",
				subscriber->tenant->name, history->last_epoch, info.name,
				info.epoch);
		if (core_state_is_readable(info.state) &&
			(int)info.guard >= subscriber->tenant->min_guard &&
			info.guard >= min_guards[i] &&
			(history->context_epoch != info.epoch || history->invalidated))
			broken("%s has no context of %s, which is ready", subscriber->tenant->name,
				info.name);
		/* What is not served is told as a state of its own. */
		if (info.state == VMSIG_STATE_PANICKED && history->last_state != info.state)
			broken("%s was not told that %s has panicked", subscriber->tenant->name,
				info.name);
	}
}

static void broker_start(void)
{
	const struct core_limits limits = {.endpoints = ENDPOINTS,
		.sessions = SESSIONS,
		.inflight = INFLIGHT,
		.take_timeout_ns = TAKE_NS};

	if (core_new(&world.core, &limits))
		broken("out of memory");
}

static void broker_stop(void)
{
	for (size_t i = 0; i < SESSIONS; i++)
		subscriber_leave(&world.subscribers[i]);
	for (size_t i = 0; i < ENDPOINTS; i++) {
		adapter_unregister(&world.adapters[i]);
		if (world.adapters[i].added)
			adapter_remove(&world.adapters[i]);
	}
	perform_all();
	core_free(world.core);
}

/* After a crash nothing is known but what was stored. */
static void broker_restart(bool crash)
{
	world.crashing = crash;
	core_closing(world.core);
	broker_stop();
	world.crashing = false;
	if (flaw == FLAW_REPEATED_EPOCH) {
		for (size_t i = 0; i < ENDPOINTS; i++) {
			world.adapters[i].persisted -= world.adapters[i].persisted > 0;
			world.adapters[i].session[0] = '\0';
		}
	}
	broker_start();
}

static void run(uint64_t seed, unsigned steps)
{
	memset(&world, 0, sizeof(world));
	sim_begin(seed);
	sim.faults = &world.faults;
	world.faults = true;
	world.next_fd = FIRST_FD;
	broker_start();
	for (size_t i = 0; i < ENDPOINTS; i++)
		world.adapters[i].id = (uint32_t)i + 1;
	while (sim_next(steps)) {
		size_t endpoint = dice(ENDPOINTS);

		world.now += dice(10);
		adapter_step(&world.adapters[endpoint], endpoint);
		if (dice(2))
			perform_all();
		subscriber_step(&world.subscribers[dice(SESSIONS)]);
		core_advance(world.core, world.now);
		if (dice(4))
			perform_all();
		check_pages();
		if (dice(200) == 0)
			broker_restart(dice(2));
	}
	settle();
	for (size_t i = 0; i < SESSIONS; i++) {
		if (world.subscribers[i].session)
			check_settled(&world.subscribers[i]);
	}
	broker_stop();
}

static enum flaw flaw_named(const char *name)
{
	for (size_t i = 0; i < FLAWS; i++) {
		if (strcmp(flaws[i], name) == 0)
			return (enum flaw)i;
	}
	fprintf(stderr, "sim_read: there is no flaw '%s'\n", name);
	exit(2);
}

static bool take_flaw(const char *option, const char *value)
{
	if (strcmp(option, "--break") != 0)
		return false;
	flaw = flaw_named(value);
	return true;
}

int main(int argc, char **argv)
{
	struct sim_options options = {.first = 1, .seeds = 500, .steps = 600};

	sim_options(&options, argc, argv, " [--break WHAT]", take_flaw);
	for (uint64_t i = 0; i < options.seeds; i++)
		run(options.first + i, options.steps);
	printf("%llu seeds of %u steps, %llu contexts, %llu invalidations, %llu states: every "
	       "history satisfies R1-R6 and I14\n",
		(unsigned long long)options.seeds, options.steps, heard[VMSIG_EV_MEMCTX],
		heard[VMSIG_EV_MEMCTX_INVALIDATED], heard[VMSIG_EV_ENDPOINT_STATE]);
	/* What has heard of nothing has checked nothing. */
	return heard[VMSIG_EV_MEMCTX] && heard[VMSIG_EV_MEMCTX_INVALIDATED] ? 0 : 1;
}
