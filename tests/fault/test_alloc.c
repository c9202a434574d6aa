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
#include <stdio.h>
#include <string.h>

#include "broker/read/core.h"
#include "lease/lease.h"
#include "proto/guest/physmap.h"
#include "tests/fault/alloc.h"

#define MOST 900 /* allocations of one scenario, generously */

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

static unsigned disconnects; /* of the present scenario */

static void drain_core(struct core *core)
{
	struct core_action action;

	while (core_next_action(core, &action)) {
		disconnects += action.kind == CORE_ACT_DISCONNECT;
		if (action.kind == CORE_ACT_BOOTSTRAP)
			action.reg.invalidate(action.reg.ctx, action.epoch);
	}
}

/* Enough endpoints that the tables of names, ids and subscriptions have to grow. */
#define ENDPOINTS 40

struct core_lab {
	struct core *core;
	const vmsig_emit *seam;
	bool added[ENDPOINTS + 1]; /* by id */
	uint32_t epochs[ENDPOINTS + 1];
	vmsig_coherence pages[ENDPOINTS + 1];
};

static void lab_add(struct core_lab *lab, uint32_t id)
{
	char name[16];
	const struct core_endpoint_config config = {
		.id = id, .name = name, .adapter = "test", .page = &lab->pages[id]};
	const vmsig_memctx_reg reg = {.endpoint = id,
		.ctx = &lab->epochs[id],
		.describe = describe,
		.share_fd = share_fd,
		.invalidate = invalidate};
	struct core_endpoint_info info;
	int r;

	snprintf(name, sizeof(name), "vm%u", id);
	r = core_endpoint_add(lab->core, &config);
	assert_true(is_clean(r));
	lab->added[id] = r == 0;
	/* There altogether, or not at all. */
	assert_int_equal(core_endpoint_find(lab->core, NULL, name, &info),
		r ? VMSIG_ERR_NO_SUCH_ENDPOINT : 0);
	if (!r)
		assert_int_equal(lab->seam->register_memctx(lab->seam->core, &reg), 0);
}

static void lab_ready(struct core_lab *lab, uint32_t id)
{
	vmsig_event ready = {.kind = VMSIG_EV_MEMCTX, .endpoint = id};
	const vmsig_memctx pod = {.epoch = lab->epochs[id]};

	memcpy(ready.inln, &pod, sizeof(pod));
	if (lab->added[id])
		assert_int_equal(lab->seam->event(lab->seam->core, &ready), 0);
}

static void lab_remove(struct core_lab *lab, uint32_t id)
{
	if (!lab->added[id])
		return;
	lab->seam->unregister_memctx(lab->seam->core, id);
	drain_core(lab->core);
	core_endpoint_remove(lab->core, id);
	lab->added[id] = false;
}

/* Pulls all there is; each endpoint's context has to come, in its epoch. */
static void lab_pull(struct core_lab *lab, struct session *session, bool complete)
{
	struct core_delivery delivery;
	unsigned contexts = 0, expected = 0;
	int r;

	/* What failed for lack of memory goes on where it was. */
	while ((r = core_session_pull(session, 0, &delivery)) == 0 || r == -ENOMEM) {
		if (r)
			continue;
		assert_true(delivery.endpoint >= 1 && delivery.endpoint <= ENDPOINTS);
		if (delivery.kind != VMSIG_EV_MEMCTX)
			continue;
		assert_int_equal(delivery.epoch, lab->epochs[delivery.endpoint]);
		assert_int_equal(core_session_taken(session), 0);
		contexts++;
	}
	for (uint32_t id = 1; id <= ENDPOINTS; id++)
		expected += lab->added[id];
	if (complete)
		assert_int_equal(contexts, expected);
}

static struct session *lab_session(struct core_lab *lab, const struct tenant *tenant)
{
	struct session *session = NULL;

	assert_true(is_clean(session_new(&session, lab->core, tenant, 1, NULL)));
	return session;
}

static bool subscribe(struct session *session, const char *pattern)
{
	int r = session ? session_subscribe(session, pattern) : -ENOMEM;

	assert_true(is_clean(r));
	/* What failed left nothing behind, and can be tried again. */
	if (session && r)
		assert_int_equal(session_unsubscribe(session, pattern), VMSIG_ERR_NO_SUCH_ENDPOINT);
	if (session && r)
		assert_int_equal(session_subscribe(session, pattern), 0);
	return session != NULL;
}

static void core_scenario(void)
{
	static char glob[] = "*", name[] = "tenant";
	static char *globs[] = {glob};
	const struct core_limits limits = {.endpoints = ENDPOINTS, .sessions = 9, .inflight = 9};
	const struct tenant tenant = {.name = name,
		.endpoints = globs,
		.nendpoints = 1,
		.quota = {.subscriptions = 9, .globs = 9}};
	const struct tenant nobody = {.name = name, .quota = {.subscriptions = 9, .globs = 9}};
	struct core_lab lab = {.core = NULL};
	struct session *early, *late;
	bool complete;

	assert_true(is_clean(core_new(&lab.core, &limits)));
	if (!lab.core)
		return;
	disconnects = 0;
	lab.seam = core_emit(lab.core);
	early = lab_session(&lab, &tenant);
	subscribe(early, "v*");
	for (uint32_t id = 1; id <= ENDPOINTS; id++)
		lab_add(&lab, id);
	late = lab_session(&lab, &tenant);
	complete = subscribe(late, "vm*");
	drain_core(lab.core);
	for (uint32_t id = 1; id <= ENDPOINTS; id++)
		lab_ready(&lab, id);
	drain_core(lab.core);
	/* Whom a new endpoint could not be told to is disconnected instead. */
	if (early)
		lab_pull(&lab, early, !disconnects);
	if (late)
		lab_pull(&lab, late, complete);
	if (late) {
		session_set_tenant(late, &nobody);
		lab_pull(&lab, late, false);
		session_set_tenant(late, &tenant);
		drain_core(lab.core);
		lab_pull(&lab, late, complete && !disconnects);
	}
	lab_remove(&lab, 1);
	lab_add(&lab, 1);
	drain_core(lab.core);
	session_free(early);
	for (uint32_t id = 1; id <= ENDPOINTS; id++)
		lab_remove(&lab, id);
	session_free(late);
	drain_core(lab.core);
	core_free(lab.core);
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
