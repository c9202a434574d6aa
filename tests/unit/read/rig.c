/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/read/rig.h"

#include "broker/adapters/memfiles_reg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char star[] = "*", a_star[] = "a*", name[] = "tenant";
static char *all[] = {star}, *only_a[] = {a_star};

const struct tenant rig_all = {
	.name = name, .endpoints = all, .nendpoints = 1, .quota = {.subscriptions = 4, .globs = 4}};
const struct tenant rig_a = {.name = name,
	.endpoints = only_a,
	.nendpoints = 1,
	.quota = {.subscriptions = 4, .globs = 4}};
const struct tenant rig_strict = {.name = name,
	.endpoints = all,
	.nendpoints = 1,
	.min_guard = VMSIG_GUARD_RO_MOUNT,
	.quota = {.subscriptions = 4, .globs = 4}};

void rig_limit(struct rig *rig, uint32_t inflight)
{
	const struct core_limits limits = {
		.endpoints = 3, .sessions = 8, .inflight = inflight, .take_timeout_ns = 1000000000};

	rig->core = core_free(rig->core);
	assert_int_equal(core_new(&rig->core, &limits), 0);
	rig->seam = core_emit(rig->core);
}

int rig_setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->kcr3 = 0x1000;
	rig->next_fd = 100;
	rig_limit(rig, 4);
	*state = rig;
	return 0;
}

int rig_teardown(void **state)
{
	struct rig *rig = *state;
	struct core_endpoint_info info;
	size_t cursor = 0;

	while (core_endpoint_next(rig->core, NULL, &cursor, &info)) {
		rig_remove(rig, info.id);
		cursor = 0;
	}
	core_free(rig->core);
	free(rig);
	return 0;
}

/* ---- the adapter ---- */

static void describe(
	void *ctx, vmsig_memctx *out_pod, const vmsig_memseg **out_segs, uint32_t *out_nseg)
{
	static const vmsig_memseg segs[] = {{0, 4096, 0}, {1ull << 32, 4096, 4096}};
	struct rig *rig = ctx;

	rig->described++;
	/* The core has to overwrite the epoch (R3). */
	*out_pod = (vmsig_memctx){.kcr3 = rig->kcr3, .low = 4096, .epoch = 4711};
	*out_segs = segs;
	*out_nseg = 2;
}

static int share_fd(void *ctx)
{
	struct rig *rig = ctx;

	return rig->share_error ? rig->share_error : rig->next_fd++;
}

static int share_files(void *ctx, int ret_fds[static VMSIG_MEMFILES_MAX],
	uint64_t ret_sizes[static VMSIG_MEMFILES_MAX])
{
	struct rig *rig = ctx;

	if (rig->share_error)
		return rig->share_error;
	for (uint32_t i = 0; i < rig->nfiles; i++) {
		ret_fds[i] = rig->next_fd++;
		ret_sizes[i] = 4096 * (i + 1);
	}
	return (int)rig->nfiles;
}

static int share_page(void *ctx)
{
	struct rig *rig = ctx;

	return rig->page_error ? rig->page_error : rig->next_fd++;
}

static void invalidate(void *ctx, uint32_t epoch)
{
	((struct rig *)ctx)->asked_epoch = epoch;
}

void rig_add(struct rig *rig, uint32_t id, const char *endpoint_name)
{
	const struct core_endpoint_config config = {.id = id,
		.name = endpoint_name,
		.adapter = "test",
		.page = id == 1 ? &rig->page : &rig->other_page,
		.share_page = share_page,
		.page_ctx = rig};

	assert_int_equal(core_endpoint_add(rig->core, &config), 0);
}

void rig_register(struct rig *rig, uint32_t id)
{
	const vmsig_memctx_reg reg = {.endpoint = id,
		.source = VMSIG_SRC_MEMCTX,
		.ctx = rig,
		.describe = describe,
		.share_fd = share_fd,
		.invalidate = invalidate};

	const vmsig_memfiles_reg files = {
		.endpoint = id, .ctx = rig, .share = share_files, .share_writable = share_files};

	assert_int_equal(rig->seam->register_memctx(rig->seam->core, &reg), 0);
	if (rig->nfiles)
		assert_int_equal(rig->seam->register_memfiles(rig->seam->core, &files), 0);
}

void rig_ram(struct rig *rig, uint32_t id, enum vmsig_guard guard, const char *session)
{
	vmsig_ram_facts facts = {
		.bytes = 8192, .guard = (uint32_t)guard, .owner = 7, .files = rig->nfiles};

	snprintf(facts.session, sizeof(facts.session), "%s", session);
	assert_int_equal(rig->seam->ram_found(rig->seam->core, id, &facts), 0);
}

void rig_boot(struct rig *rig, uint32_t id, const char *endpoint_name, enum vmsig_guard guard)
{
	rig_add(rig, id, endpoint_name);
	rig_register(rig, id);
	rig_ram(rig, id, guard, "");
	rig_drain(rig);
}

static int emit(struct rig *rig, vmsig_event *ev, const void *inln, size_t size)
{
	memcpy(ev->inln, inln, size);
	return rig->seam->event(rig->seam->core, ev);
}

int rig_ready(struct rig *rig, uint32_t id, uint32_t epoch)
{
	vmsig_event ev = {.kind = VMSIG_EV_MEMCTX, .endpoint = id};
	const vmsig_memctx pod = {.epoch = epoch};

	return emit(rig, &ev, &pod, sizeof(pod));
}

int rig_reset(struct rig *rig, uint32_t id)
{
	vmsig_event ev = {.kind = VMSIG_EV_MEMCTX_INVALIDATED, .endpoint = id};
	const vmsig_memctx_inv inv = {.endpoint = id};

	return emit(rig, &ev, &inv, sizeof(inv));
}

int rig_state(struct rig *rig, uint32_t id, uint32_t state, const char *why)
{
	vmsig_event ev = {.kind = VMSIG_EV_ENDPOINT_STATE, .endpoint = id};
	const vmsig_endpoint_status status = {.endpoint = id, .state = state};

	if (why) {
		ev.payload.data = why;
		ev.payload.len = strlen(why);
	}
	return emit(rig, &ev, &status, sizeof(status));
}

void rig_remove(struct rig *rig, uint32_t id)
{
	rig->seam->unregister_memctx(rig->seam->core, id);
	rig_drain(rig);
	core_endpoint_remove(rig->core, id);
}

/* ---- the shell ---- */

void rig_drain(struct rig *rig)
{
	struct core_action action;

	rig->nactions = 0;
	while (core_next_action(rig->core, &action)) {
		assert_true(rig->nactions < RIG_ACTIONS);
		rig->actions[rig->nactions++] = action;
		if (action.kind == CORE_ACT_BOOTSTRAP)
			action.reg.invalidate(action.reg.ctx, action.epoch);
	}
}

unsigned rig_count(const struct rig *rig, enum core_action_kind kind)
{
	unsigned n = 0;

	for (size_t i = 0; i < rig->nactions; i++)
		n += rig->actions[i].kind == kind;
	return n;
}

bool rig_notified(const struct rig *rig, const struct session *session)
{
	for (size_t i = 0; i < rig->nactions; i++) {
		if (rig->actions[i].kind == CORE_ACT_NOTIFY && rig->actions[i].session == session)
			return true;
	}
	return false;
}

struct session *rig_session(struct rig *rig, const struct tenant *tenant, uint32_t uid)
{
	struct session *session;

	assert_int_equal(session_new(&session, rig->core, tenant, uid, rig), 0);
	return session;
}

struct core_delivery rig_expect(
	struct rig *rig, struct session *session, uint32_t kind, uint32_t epoch)
{
	struct core_delivery delivery = {.kind = 0};

	assert_int_equal(core_session_pull(session, rig->now, &delivery), 0);
	assert_int_equal(delivery.kind, kind);
	assert_int_equal(delivery.epoch, epoch);
	return delivery;
}

void rig_expect_nothing(struct rig *rig, struct session *session)
{
	struct core_delivery delivery;

	assert_int_equal(core_session_pull(session, rig->now, &delivery), VMSIG_ERR_WOULD_BLOCK);
}

uint32_t rig_epoch(struct rig *rig, const char *endpoint_name)
{
	struct core_endpoint_info info;

	assert_int_equal(core_endpoint_find(rig->core, NULL, endpoint_name, &info), 0);
	return info.epoch;
}
