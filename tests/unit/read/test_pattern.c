/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What patterns cost, counted in matches: linear in what the one request is about, whatever
 * else the session has set up. fnmatch(3) is wrapped, so every match in the core is counted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/read/core.h"

#define ENDPOINTS 1000u
#define GLOBS 16u

int __wrap_fnmatch(const char *pattern, const char *name, int flags);
int __real_fnmatch(const char *pattern, const char *name, int flags);

static unsigned long matches;

int __wrap_fnmatch(const char *pattern, const char *name, int flags)
{
	matches++;
	return __real_fnmatch(pattern, name, flags);
}

static char star[] = "*", tenant_name[] = "tenant";
static char *all[] = {star};
static const struct tenant tenant = {.name = tenant_name,
	.endpoints = all,
	.nendpoints = 1,
	.quota = {.subscriptions = 256, .globs = GLOBS}};
static vmsig_coherence page;
static struct core *core;
static struct session *session;

static void add_endpoint(uint32_t id)
{
	char name[16];
	const struct core_endpoint_config config = {
		.id = id, .name = name, .adapter = "test", .page = &page};

	snprintf(name, sizeof(name), "vm%u", id);
	assert_int_equal(core_endpoint_add(core, &config), 0);
}

static void drain(void)
{
	struct core_delivery delivery;
	struct core_action action;

	while (core_next_action(core, &action))
		;
	while (core_session_pull(session, 0, &delivery) == 0)
		;
}

static int setup(void **state)
{
	const struct core_limits limits = {.endpoints = 2 * ENDPOINTS,
		.sessions = 1,
		.inflight = 1,
		.take_timeout_ns = 1000000000};

	assert_int_equal(core_new(&core, &limits), 0);
	assert_int_equal(session_new(&session, core, &tenant, 1, NULL), 0);
	for (uint32_t id = 1; id <= ENDPOINTS; id++)
		add_endpoint(id);
	drain();
	matches = 0;
	return 0;
}

static int teardown(void **state)
{
	struct core_action action;

	session_free(session);
	for (uint32_t id = 1; id <= 2 * ENDPOINTS; id++)
		core_endpoint_remove(core, id);
	while (core_next_action(core, &action))
		;
	core_free(core);
	return 0;
}

static void subscribe_globs(unsigned n)
{
	char glob[16];

	for (unsigned i = 0; i < n; i++) {
		snprintf(glob, sizeof(glob), "vm*%u*", i);
		assert_int_equal(session_subscribe(session, glob), 0);
	}
}

/* One glob more: a match for each endpoint, and the policy's for those that match, whose new
 * subscriptions ask the other globs once. */
static void a_glob_costs_a_match_for_each_endpoint(void **state)
{
	subscribe_globs(GLOBS - 1);
	drain();
	matches = 0;
	assert_int_equal(session_subscribe(session, "v*"), 0);
	assert_in_range(matches, 1, (GLOBS + 3) * ENDPOINTS);
	matches = 0;
	assert_int_equal(session_unsubscribe(session, "v*"), 0);
	assert_in_range(matches, 1, ENDPOINTS);
}

static void names_cost_no_match_but_the_policys(void **state)
{
	char name[16];

	for (unsigned i = 1; i <= 200; i++) {
		snprintf(name, sizeof(name), "vm%u", i);
		assert_int_equal(session_subscribe(session, name), 0);
	}
	assert_in_range(matches, 0, 200);
	matches = 0;
	for (unsigned i = 1; i <= 200; i++) {
		snprintf(name, sizeof(name), "vm%u", i);
		assert_int_equal(session_unsubscribe(session, name), 0);
	}
	assert_int_equal(matches, 0);
}

/* A reload costs nothing for who is not pulled, and each session its globs once. */
static void new_endpoints_are_matched_when_the_session_is_pulled(void **state)
{
	subscribe_globs(GLOBS);
	drain();
	matches = 0;
	for (uint32_t id = ENDPOINTS + 1; id <= 2 * ENDPOINTS; id++)
		add_endpoint(id);
	assert_int_equal(matches, 0);
	drain();
	assert_in_range(matches, ENDPOINTS, (2 * GLOBS + 1) * ENDPOINTS);
	matches = 0;
	session_set_tenant(session, &tenant);
	assert_int_equal(matches, 0);
	drain();
	assert_in_range(matches, ENDPOINTS, (GLOBS + 2) * 2 * ENDPOINTS);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_glob_costs_a_match_for_each_endpoint),
		T(names_cost_no_match_but_the_policys),
		T(new_endpoints_are_matched_when_the_session_is_pulled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
