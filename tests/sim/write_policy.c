/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may do what. "red" has a strict rule for one endpoint and a lax one for the others,
 * "green" one lease at a time in the lower half of RAM, and "blue" may have others go. In the
 * other versions some of that is gone.
 */
#include "tests/sim/write_world.h"

#include <string.h>

#define STRICT 5
#define LAX 100000

static char star[] = "*", w1[] = "w1", w2[] = "w2";
static char blue[] = "blue", green[] = "green", red[] = "red";
static char *all[] = {star}, *first[] = {w1}, *second[] = {w2};
static uint32_t uids[TENANTS] = {1001, 1002, 1003};
static struct grant_range lower = {.gpa = 0, .len = RAM / 2};

const struct lease_limits lease_limits = {.leases = 64,
	.waiters = 8,
	.ranges = 4,
	.preempt_grace_ns = PREEMPT_NS,
	.resume_grace_ns = RESUME_NS};

#define TIMES                                                                                      \
	.ttl_min_ns = TTL_MIN_NS, .ttl_max_ns = TTL_MAX_NS, .hold_max_ns = HOLD_NS,                \
	.wait_max_ns = WAIT_NS, .bytes_rate = 1ull << 30

static struct grant_rule red_rules[] = {
	{.endpoints = first,
		.nendpoints = 1,
		TIMES,
		.priority_max = 1,
		.leases = 2,
		.waits = 3,
		.writes_rate = STRICT,
		.bulk_max = RAM},
	{.endpoints = all,
		.nendpoints = 1,
		TIMES,
		.priority_max = 1,
		.leases = 2,
		.waits = 3,
		.writes_rate = LAX,
		.bulk_max = RAM,
		.quiesce_max_ms = 20,
		.keep_bytes = true},
};

static struct grant_rule green_rules[] = {
	{.endpoints = all,
		.nendpoints = 1,
		.ranges = &lower,
		.nranges = 1,
		TIMES,
		.leases = 1,
		.waits = 4,
		.writes_rate = LAX,
		.bulk_max = RAM,
		.quiesce_max_ms = 20},
};

static struct grant_rule blue_rules[] = {
	{.endpoints = all,
		.nendpoints = 1,
		TIMES,
		.priority_max = 2,
		.leases = 3,
		.waits = 3,
		.writes_rate = LAX,
		.bulk_max = RAM / 4},
};

/* What is taken away. */
static struct grant_rule red_less[] = {
	{.endpoints = first,
		.nendpoints = 1,
		TIMES,
		.leases = 2,
		.waits = 3,
		.writes_rate = STRICT},
	{.endpoints = second,
		.nendpoints = 1,
		.ranges = &lower,
		.nranges = 1,
		TIMES,
		.leases = 2,
		.waits = 3,
		.writes_rate = LAX},
};

static struct grant_rule green_less[] = {
	{.endpoints = second,
		.nendpoints = 1,
		TIMES,
		.leases = 1,
		.waits = 4,
		.writes_rate = LAX,
		.bulk_max = RAM},
};

#define TENANT(NAME, UID, RULES_OF, COUNT)                                                         \
	{                                                                                          \
		.tenant = {.name = (NAME),                                                         \
			.endpoints = all,                                                          \
			.nendpoints = 1,                                                           \
			.quota = {.connections = 8,                                                \
				.subscriptions = 8,                                                \
				.globs = 8,                                                        \
				.pending = 16}},                                                   \
		.role = IDENTITY_OPERATOR, .uids = (UID), .nuids = 1, .queued_max = 4u << 20,      \
		.rules = (RULES_OF), .nrules = (COUNT)                                             \
	}

static struct grant_tenant tenants[POLICIES][TENANTS] = {
	{TENANT(blue, &uids[0], blue_rules, 1), TENANT(green, &uids[1], green_rules, 1),
		TENANT(red, &uids[2], red_rules, 2)},
	{TENANT(blue, &uids[0], blue_rules, 1), TENANT(green, &uids[1], green_less, 1),
		TENANT(red, &uids[2], red_less, 2)},
	{TENANT(green, &uids[1], green_rules, 1), TENANT(red, &uids[2], red_rules, 2)},
};

static const size_t counts[POLICIES] = {3, 3, 2};
static const struct grant_tenant *by_identity[POLICIES][TENANTS];
static struct config configs[POLICIES];
static char state_dir[] = "/nowhere";

const char *const tenant_names[TENANTS] = {blue, green, red};

const struct config *policy_config(unsigned policy)
{
	struct config *config = &configs[policy];

	*config = (struct config){.state_dir = state_dir,
		.leases = lease_limits,
		/* Of a tenant it is half: less than some commands have, and than some have
		   together. */
		.bulk_old = RAM,
		.audit = {.size_max = 1ull << 30, .age_max_ms = UINT64_MAX},
		.tenants = tenants[policy],
		.ntenants = counts[policy],
		.by_identity = by_identity[policy]};
	for (size_t i = 0; i < counts[policy]; i++)
		by_identity[policy][i] = &tenants[policy][i];
	return config;
}

const struct grant_tenant *policy_tenant(unsigned policy, unsigned tenant)
{
	for (size_t i = 0; i < counts[policy]; i++) {
		if (strcmp(tenants[policy][i].tenant.name, tenant_names[tenant]) == 0)
			return &tenants[policy][i];
	}
	return NULL;
}

static bool rule_is_for(const struct grant_rule *rule, unsigned site)
{
	return rule->endpoints[0][0] == '*' ||
	       strcmp(rule->endpoints[0], site == 0 ? "w1" : "w2") == 0;
}

const struct grant_rule *policy_rule(unsigned policy, unsigned tenant, unsigned site)
{
	const struct grant_tenant *entry = policy_tenant(policy, tenant);

	for (size_t i = 0; entry && i < entry->nrules; i++) {
		if (rule_is_for(&entry->rules[i], site))
			return &entry->rules[i];
	}
	return NULL;
}

bool policy_allows(unsigned policy, const struct model_lease *lease)
{
	const struct grant_rule *rule = policy_rule(policy, lease->tenant, lease->site);

	if (!rule || lease->priority > rule->priority_max)
		return false;
	for (size_t i = 0; rule->nranges && i < lease->nranges; i++) {
		if (lease->ranges[i].last >= rule->ranges[0].len)
			return false;
	}
	return true;
}
