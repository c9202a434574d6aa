/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints: epochs, the order of what an epoch's end brings about (R6), registrations. */
#include "tests/unit/read/rig.h"

#include <errno.h>
#include <string.h>

#include "broker/adapters/memwrite_reg.h"

static void the_end_of_an_epoch_has_its_order(void **state)
{
	static const enum core_action_kind order[] = {CORE_ACT_PERSIST_EPOCH,
		CORE_ACT_WAKE_COHERENCE, CORE_ACT_REVOKE_LEASES, CORE_ACT_NOTIFY, CORE_ACT_NOTIFY,
		CORE_ACT_BOOTSTRAP};
	struct rig *rig = *state;
	struct session *one = rig_session(rig, &rig_all, 1), *two = rig_session(rig, &rig_all, 1);
	uint32_t change;

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(session_subscribe(one, "a"), 0);
	assert_int_equal(session_subscribe(two, "*"), 0);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	rig_drain(rig);
	change = rig->page.change;
	assert_int_equal(rig_reset(rig, 1), 0);
	/* Readers of the page learn of it at once, whatever the shell is doing. */
	assert_int_equal(rig->page.epoch, 2);
	assert_int_equal(rig->page.state, VMSIG_STATE_BOOTING);
	assert_true(rig->page.change > change);
	rig_drain(rig);
	assert_int_equal(rig->nactions, sizeof(order) / sizeof(order[0]));
	for (size_t i = 0; i < rig->nactions; i++)
		assert_int_equal(rig->actions[i].kind, order[i]);
	assert_int_equal(rig->asked_epoch, 2);
	session_free(one);
	session_free(two);
}

static void a_burst_of_resets_is_one_round_of_actions(void **state)
{
	struct rig *rig = *state;

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(rig_reset(rig, 1), 0);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_PERSIST_EPOCH), 1);
	assert_int_equal(rig_count(rig, CORE_ACT_BOOTSTRAP), 1);
	assert_int_equal(rig->asked_epoch, 5);
	assert_int_equal(rig_ready(rig, 1, 4), VMSIG_ERR_STALE_EPOCH);
	assert_int_equal(rig_ready(rig, 1, 6), VMSIG_ERR_STALE_EPOCH);
	assert_int_equal(rig_ready(rig, 1, 5), 0);
}

static void a_context_of_an_epoch_that_ends_is_not_announced(void **state)
{
	struct rig *rig = *state;

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	rig_ram(rig, 1, VMSIG_GUARD_SEALED, "key");
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	assert_int_equal(rig_reset(rig, 1), 0);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_READY), 0);
	assert_int_equal(rig_count(rig, CORE_ACT_PERSIST_SESSION), 0);
}

static void an_epoch_of_somebody_else_is_passed_over(void **state)
{
	struct rig *rig = *state;

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(rig_ready(rig, 1, 1), 0);
	rig_drain(rig);
	core_endpoint_raise(rig->core, 1, 4096);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_PERSIST_EPOCH), 1);
	assert_int_equal(rig_count(rig, CORE_ACT_REVOKE_LEASES), 1);
	assert_int_equal(rig->asked_epoch, 4097);
	assert_int_equal(rig_ready(rig, 1, 1), VMSIG_ERR_STALE_EPOCH);
	assert_int_equal(rig_ready(rig, 1, 4097), 0);
	/* It never goes back. */
	core_endpoint_raise(rig->core, 1, 7);
	rig_drain(rig);
	assert_int_equal(rig->asked_epoch, 4098);
	core_endpoint_raise(rig->core, 99, 7);
}

static void who_unregistered_is_not_asked_any_more(void **state)
{
	struct rig *rig = *state;

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	assert_int_equal(rig_reset(rig, 1), 0);
	rig->seam->unregister_memctx(rig->seam->core, 1);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_BOOTSTRAP), 0);
	assert_int_equal(rig_count(rig, CORE_ACT_REVOKE_LEASES), 1);
	assert_int_equal(rig->page.state, VMSIG_STATE_GONE);
	assert_int_equal(rig_ready(rig, 1, rig_epoch(rig, "a")), VMSIG_ERR_NO_SUCH_ENDPOINT);
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_BOOTING, NULL), VMSIG_ERR_NO_SUCH_ENDPOINT);
}

static int add_stored(struct rig *rig, uint32_t epoch, const char *session)
{
	const struct core_endpoint_config config = {.id = 1,
		.name = "a",
		.adapter = "test",
		.epoch = epoch,
		.session = session,
		.page = &rig->page};

	return core_endpoint_add(rig->core, &config);
}

static void the_same_session_goes_on_in_its_epoch(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(add_stored(rig, 9, "key"), 0);
	rig_register(rig, 1);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_PERSIST_EPOCH), 0);
	assert_int_equal(rig->asked_epoch, 9);
	rig_ram(rig, 1, VMSIG_GUARD_SEALED, "key");
	assert_int_equal(rig_ready(rig, 1, 9), 0);
	assert_int_equal(rig_epoch(rig, "a"), 9);
	/* But a reset ends it like any other. */
	assert_int_equal(rig_reset(rig, 1), 0);
	assert_int_equal(rig_epoch(rig, "a"), 10);
}

static void another_session_gets_another_epoch(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(add_stored(rig, 9, "key"), 0);
	rig_register(rig, 1);
	rig_drain(rig);
	rig_ram(rig, 1, VMSIG_GUARD_SEALED, "another");
	assert_int_equal(rig_ready(rig, 1, 9), VMSIG_ERR_STALE_EPOCH);
	rig_drain(rig);
	assert_int_equal(rig->asked_epoch, 10);
	rig_ram(rig, 1, VMSIG_GUARD_SEALED, "another");
	assert_int_equal(rig_ready(rig, 1, 10), 0);
	rig_drain(rig);
	assert_int_equal(rig_count(rig, CORE_ACT_PERSIST_SESSION), 1);
}

static void a_broker_that_closes_leaves_the_epoch(void **state)
{
	struct rig *rig = *state;

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	core_closing(rig->core);
	rig->seam->unregister_memctx(rig->seam->core, 1);
	rig_drain(rig);
	/* Nothing but that its page says so, at once. */
	assert_int_equal(rig->nactions, 1);
	assert_int_equal(rig_count(rig, CORE_ACT_WAKE_COHERENCE), 1);
	assert_int_equal(rig->page.state, VMSIG_STATE_UNATTENDED);
	assert_int_equal(rig->page.epoch, 1);
	assert_int_equal(rig_epoch(rig, "a"), 1);
}

static void nonsense_of_adapters_is_refused(void **state)
{
	struct rig *rig = *state;
	vmsig_memctx_reg reg = {.endpoint = 1, .ctx = rig};
	vmsig_ram_facts facts = {.guard = 77};
	vmsig_event ev = {.kind = VMSIG_CMD_MEMWRITE, .endpoint = 1};

	assert_int_equal(
		rig->seam->register_memctx(rig->seam->core, &reg), VMSIG_ERR_NO_SUCH_ENDPOINT);
	rig_add(rig, 1, "a");
	assert_int_equal(rig->seam->register_memctx(rig->seam->core, &reg), VMSIG_ERR_BAD_REQUEST);
	rig_register(rig, 1);
	assert_int_equal(rig->seam->ram_found(rig->seam->core, 1, &facts), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(rig->seam->event(rig->seam->core, &ev), VMSIG_ERR_UNSUPPORTED);
	assert_int_equal(rig_state(rig, 1, VMSIG_STATE_READY, NULL), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(rig_state(rig, 2, VMSIG_STATE_GONE, NULL), VMSIG_ERR_NO_SUCH_ENDPOINT);
}

/* As long as the context, and no longer. */
static void what_runs_in_a_guest_is_told(void **state)
{
	struct rig *rig = *state;
	vmsig_ram_facts facts = {.bytes = 8192,
		.guard = VMSIG_GUARD_SEALED,
		.system = {.os = VMSIG_OS_LINUX, .proof = VMSIG_PROOF_VMCOREINFO}};
	struct core_endpoint_info info;
	struct core_delivery delivery;
	struct session *session;

	rig_boot(rig, 1, "a", VMSIG_GUARD_SEALED);
	session = rig_session(rig, &rig_all, 0);
	assert_int_equal(session_subscribe(session, "a"), 0);
	rig_drain(rig);
	memset(facts.system.release, 'r', sizeof(facts.system.release));
	assert_int_equal(rig->seam->ram_found(rig->seam->core, 1, &facts), 0);
	assert_int_equal(rig_ready(rig, 1, rig_epoch(rig, "a")), 0);
	rig_drain(rig);
	assert_int_equal(core_endpoint_find(rig->core, session, "a", &info), 0);
	assert_int_equal(info.system->os, VMSIG_OS_LINUX);
	assert_int_equal(info.system->proof, VMSIG_PROOF_VMCOREINFO);
	assert_int_equal(strlen(info.system->release), VMSIG_RELEASE_MAX - 1);
	delivery = rig_expect(rig, session, VMSIG_EV_MEMCTX, rig_epoch(rig, "a"));
	assert_int_equal(delivery.system.proof, VMSIG_PROOF_VMCOREINFO);
	assert_int_equal(rig_reset(rig, 1), 0);
	assert_int_equal(core_endpoint_find(rig->core, session, "a", &info), 0);
	assert_int_equal(info.system->proof, VMSIG_PROOF_NONE);
	assert_string_equal(info.system->release, "");
	session_free(session);
}

static void ids_and_names_are_taken_once(void **state)
{
	struct rig *rig = *state;
	struct core_endpoint_config config = {
		.id = 1, .name = "a", .adapter = "test", .page = &rig->page};

	rig_add(rig, 1, "a");
	assert_int_equal(core_endpoint_add(rig->core, &config), VMSIG_ERR_BAD_REQUEST);
	config.id = 2;
	assert_int_equal(core_endpoint_add(rig->core, &config), VMSIG_ERR_BAD_REQUEST);
	config.id = 0;
	config.name = "b";
	assert_int_equal(core_endpoint_add(rig->core, &config), VMSIG_ERR_BAD_REQUEST);
	rig_add(rig, 2, "b");
	rig_add(rig, 3, "c");
	config.id = 4;
	config.name = "d";
	assert_int_equal(core_endpoint_add(rig->core, &config), VMSIG_ERR_QUOTA);
}

static int no_descriptor(void *ctx)
{
	return -ENODEV;
}

static int always(void *ctx, const char **ret_why)
{
	return 0;
}

static void a_write_path_comes_and_goes(void **state)
{
	struct rig *rig = *state;
	const vmsig_memwrite_reg reg = {.endpoint = 1,
		.source = VMSIG_SRC_MEMWRITE,
		.share_writable = no_descriptor,
		.may_write = always};
	const vmsig_memwrite_reg lame = {.endpoint = 1, .source = VMSIG_SRC_MEMWRITE};
	struct core_endpoint_info info;

	assert_int_equal(
		rig->seam->register_memwrite(rig->seam->core, &reg), VMSIG_ERR_NO_SUCH_ENDPOINT);
	rig_add(rig, 1, "a");
	assert_null(core_endpoint_memwrite(rig->core, 1));
	assert_int_equal(
		rig->seam->register_memwrite(rig->seam->core, &lame), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(rig->seam->register_memwrite(rig->seam->core, &reg), 0);
	assert_ptr_equal(core_endpoint_memwrite(rig->core, 1)->share_writable, no_descriptor);
	assert_int_equal(
		rig->seam->register_memwrite(rig->seam->core, &reg), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(core_endpoint_find(rig->core, NULL, "a", &info), 0);
	assert_true(info.writable);
	rig->seam->unregister_memwrite(rig->seam->core, 1);
	assert_null(core_endpoint_memwrite(rig->core, 1));
	assert_int_equal(core_endpoint_find(rig->core, NULL, "a", &info), 0);
	assert_false(info.writable);
}

static void lists_are_in_the_order_of_names(void **state)
{
	static const char *const names[] = {"a", "b", "c"};
	struct rig *rig = *state;
	struct core_endpoint_info info;
	size_t cursor = 0;

	rig_add(rig, 2, "c");
	rig_add(rig, 3, "a");
	rig_add(rig, 1, "b");
	for (size_t i = 0; i < 3; i++) {
		assert_true(core_endpoint_next(rig->core, NULL, &cursor, &info));
		assert_string_equal(info.name, names[i]);
	}
	assert_false(core_endpoint_next(rig->core, NULL, &cursor, &info));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(the_end_of_an_epoch_has_its_order),
		T(a_burst_of_resets_is_one_round_of_actions),
		T(a_context_of_an_epoch_that_ends_is_not_announced),
		T(an_epoch_of_somebody_else_is_passed_over),
		T(who_unregistered_is_not_asked_any_more),
		T(the_same_session_goes_on_in_its_epoch),
		T(another_session_gets_another_epoch),
		T(a_broker_that_closes_leaves_the_epoch),
		T(nonsense_of_adapters_is_refused),
		T(what_runs_in_a_guest_is_told),
		T(ids_and_names_are_taken_once),
		T(a_write_path_comes_and_goes),
		T(lists_are_in_the_order_of_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
