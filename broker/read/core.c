/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core as a whole: its limits, its clock, and where endpoints that come meet the sessions.
 */
#include "broker/read/state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/metrics/metrics.h"

static const struct account_kind kind = {.owner = "broker",
	.is_shared = true,
	.slots = {[CORE_ENDPOINTS] = {"endpoints", "limits.endpoints",
			  "take some out of the configuration, or raise it"},
		[CORE_SESSIONS] = {"connections", "limits.connections",
			"try again later; the administrator can raise it"},
		[CORE_INFLIGHT] = {"contexts that were not taken", "limits.inflight_contexts",
			"wait for a turn"}}};

int core_new(struct core **ret_core, const struct core_limits *limits)
{
	struct core *core = calloc(1, sizeof(*core));

	if (!core)
		return -ENOMEM;
	account_init(&core->account, &kind, "");
	core_set_limits(core, limits);
	endpoint_emit_init(core);
	*ret_core = core;
	return 0;
}

void core_set_limits(struct core *core, const struct core_limits *limits)
{
	core->take_timeout_ns = limits->take_timeout_ns;
	account_set_limit(&core->account, CORE_ENDPOINTS, limits->endpoints);
	account_set_limit(&core->account, CORE_SESSIONS, limits->sessions);
	account_set_limit(&core->account, CORE_INFLIGHT, limits->inflight);
	inflight_set_limit(core);
}

void core_closing(struct core *core)
{
	core->closing = true;
}

struct core *core_free(struct core *core)
{
	if (!core)
		return NULL;
	assert(!core->inflight.outstanding && !core->inflight.turns && !core->inflight.tenants);
	account_deinit(&core->account);
	free(core);
	return NULL;
}

const vmsig_emit *core_emit(struct core *core)
{
	return &core->emit;
}

const struct account_refusal *core_refusal(const struct core *core)
{
	return &core->refusal;
}

static const char *const states[] = {
	[VMSIG_STATE_BOOTING] = "booting",
	[VMSIG_STATE_READY] = "ready",
	[VMSIG_STATE_INVALID] = "invalid",
	[VMSIG_STATE_GONE] = "gone",
	[VMSIG_STATE_UNATTENDED] = "unattended",
	[VMSIG_STATE_UNREACHABLE] = "unreachable",
	[VMSIG_STATE_PANICKED] = "panicked",
	[VMSIG_STATE_MOVED] = "moved",
};
#define STATES (sizeof(states) / sizeof(states[0]))

void core_stats(struct core *core, struct metrics *metrics)
{
	uint64_t counts[STATES] = {0}, subscribers = 0;
	const struct endpoint *endpoint;

	DL_FOREACH (core->ages, endpoint) {
		if ((size_t)endpoint->state < STATES)
			counts[endpoint->state]++;
		subscribers += endpoint->nsubscriptions;
	}
	for (size_t i = 0; i < STATES; i++) {
		if (states[i])
			metrics_add(metrics, METRICS_ENDPOINTS, states[i], counts[i]);
	}
	metrics_add(metrics, METRICS_SUBSCRIBERS, "", subscribers);
	metrics_add(metrics, METRICS_EPOCHS, "", core->epochs);
	metrics_add(metrics, METRICS_CONTEXTS, "", core->contexts);
	metrics_add(metrics, METRICS_INVALIDATIONS, "", core->invalidations);
	metrics_add(metrics, METRICS_INFLIGHT, "", account_used(&core->account, CORE_INFLIGHT));
}

int core_endpoint_add(struct core *core, const struct core_endpoint_config *config)
{
	struct session *session;
	int r = endpoint_new(core, config);

	if (r)
		return r;
	DL_FOREACH (core->sessions, session)
		session_announce(session);
	return 0;
}

bool core_is_crowded(const struct core *core)
{
	return core->inflight.waiting > 0;
}

uint64_t core_take_timeout(const struct core *core)
{
	return core->take_timeout_ns;
}

void core_advance(struct core *core, uint64_t now_ns)
{
	core->now_ns = now_ns;
	inflight_advance(core, now_ns);
}

uint64_t core_deadline(const struct core *core)
{
	for (size_t q = 0; q < QUEUES; q++) {
		if (core->queues[q])
			return 0;
	}
	return inflight_deadline(core);
}
