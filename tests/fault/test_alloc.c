/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Out of memory at every allocation, one after the other: each call either fails cleanly or
 * has worked, nothing leaks, and the object can still be used and taken down.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "broker/core/core.h"
#include "lease/lease.h"
#include "proto/physmap.h"
#include "tests/fault/alloc.h"

#define MOST 200 /* allocations of one scenario, generously */

static void describe(
	void *ctx, vmsig_memctx *out_pod, const vmsig_memseg **out_segs, uint32_t *out_nseg)
{
	*out_pod = (vmsig_memctx){.kcr3 = 0x1000};
	*out_segs = NULL;
	*out_nseg = 0;
}

static int share_fd(void *ctx)
{
	return 1000;
}

static void invalidate(void *ctx, uint32_t epoch)
{
	*(uint32_t *)ctx = epoch;
}

static bool is_clean(int r)
{
	return r == 0 || r == -ENOMEM;
}

static void drain_core(struct core *core)
{
	struct core_action action;

	while (core_next_action(core, &action)) {
		if (action.kind == CORE_ACT_BOOTSTRAP)
			action.reg.invalidate(action.reg.ctx, action.epoch);
	}
}

static void core_scenario(void)
{
	static char glob[] = "*", name[] = "tenant";
	static char *globs[] = {glob};
	const struct core_limits limits = {.endpoints = 9, .sessions = 9, .inflight = 9};
	const struct tenant tenant = {
		.name = name, .endpoints = globs, .nendpoints = 1, .quota = {.subscriptions = 9}};
	vmsig_coherence page = {0};
	uint32_t epoch = 0;
	const struct core_endpoint_config config = {
		.id = 1, .name = "vm", .adapter = "test", .page = &page};
	const vmsig_memctx_reg reg = {.endpoint = 1,
		.ctx = &epoch,
		.describe = describe,
		.share_fd = share_fd,
		.invalidate = invalidate};
	vmsig_event ready = {.kind = VMSIG_EV_MEMCTX, .endpoint = 1};
	struct core_delivery delivery;
	struct session *session = NULL;
	struct core *core = NULL;
	const vmsig_emit *seam;
	bool added;

	assert_true(is_clean(core_new(&core, &limits)));
	if (!core)
		return;
	seam = core_emit(core);
	assert_true(is_clean(session_new(&session, core, &tenant, 1, NULL)));
	if (session)
		assert_true(is_clean(session_subscribe(session, "v?")));
	added = core_endpoint_add(core, &config) == 0;
	if (added)
		assert_int_equal(seam->register_memctx(seam->core, &reg), 0);
	drain_core(core);
	((vmsig_memctx *)(void *)ready.inln)->epoch = epoch;
	if (added)
		assert_int_equal(seam->event(seam->core, &ready), 0);
	drain_core(core);
	while (session && core_session_pull(session, 0, &delivery) == 0)
		assert_int_equal(delivery.epoch, epoch);
	session_free(session);
	if (added) {
		seam->unregister_memctx(seam->core, 1);
		drain_core(core);
		core_endpoint_remove(core, 1);
	}
	drain_core(core);
	core_free(core);
}

static void lease_scenario(void)
{
	const struct lease_limits limits = {.leases = 9, .waiters = 9, .ranges = 9};
	const struct lease_terms terms = {.ttl_max_ns = 100,
		.hold_max_ns = 1000,
		.wait_max_ns = 1000,
		.leases = 9,
		.waits = 9};
	const struct lease_range ranges[] = {{0, 9}, {20, 29}};
	struct lease_request request = {.endpoint = 1,
		.tenant = "a",
		.session = 1,
		.ranges = ranges,
		.nranges = 2,
		.wait_ns = 500};
	struct lease_engine *engine = NULL;
	struct lease_action action;
	uint64_t id;

	assert_true(is_clean(lease_engine_new(&engine, &limits, 1)));
	if (!engine)
		return;
	if (lease_endpoint_ready(engine, 0, 1, 1) == 0) {
		for (unsigned i = 0; i < 4; i++) {
			request.tenant = i & 1 ? "a" : "b";
			assert_true(is_clean(lease_acquire(engine, i, &request, &terms, &id)));
		}
	}
	for (uint64_t now = 10; now < 1000; now += 50) {
		while (lease_next_action(engine, &action)) {
			if (action.kind == LEASE_ACT_STORE_GRANT)
				lease_stored(engine, now, action.lease.id, now);
		}
		lease_advance(engine, now);
	}
	lease_engine_free(engine);
}

static void physmap_scenario(void)
{
	struct physmap map = PHYSMAP_INIT;

	assert_true(is_clean(physmap_init_low(&map, 4096, 8192)));
	physmap_deinit(&map);
}

static void step_through(void (*scenario)(void))
{
	long before = alloc_balance();
	size_t n = 0;

	do {
		alloc_fail_at(++n);
		scenario();
		assert_int_equal(alloc_balance(), before);
		assert_true(n < MOST);
	} while (alloc_failed());
	alloc_fail_at(0);
	/* Fewer would mean that nothing was wrapped. */
	assert_true(n > 1);
}

static void core_survives(void **state)
{
	step_through(core_scenario);
}

static void lease_engine_survives(void **state)
{
	step_through(lease_scenario);
}

static void physmap_survives(void **state)
{
	step_through(physmap_scenario);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(core_survives),
		cmocka_unit_test(lease_engine_survives),
		cmocka_unit_test(physmap_survives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
