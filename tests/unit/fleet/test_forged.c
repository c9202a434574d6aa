/* SPDX-License-Identifier: Apache-2.0 */
/* A deed that somebody else has written in the name of the host that has the guest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/fleet/deed.h"
#include "broker/fleet/fleet.h"

#define SECOND 1000000000ull
#define CLUSTER 7u

/* A key of the store; len 0: it is not there. */
struct value {
	char text[DEED_TEXT_MAX];
	size_t len;
	int64_t changed, lease;
};

static struct scene {
	struct fleet *fleet;
	struct tenure *guest;
	uint64_t now_ns, watch;
	int64_t revision;
	struct value generation, mark, owner, baggage;
} scene;

static struct value *value_of(const struct txn_bytes *key)
{
	static const struct {
		const char *leaf;
		struct value *value;
	} values[] = {{"generation", &scene.generation}, {"mark", &scene.mark},
		{"owner", &scene.owner}, {"baggage", &scene.baggage}};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		size_t len = strlen(values[i].leaf);

		if (key->len > len && memcmp(key->data + key->len - len, values[i].leaf, len) == 0)
			return values[i].value;
	}
	return NULL;
}

static void perform(const struct txn_op *op, struct txn_result *result, struct txn_entry *entry)
{
	struct value *value = value_of(&op->key);

	*result = (struct txn_result){.kind = op->kind, .entries = entry};
	if (!value)
		return;
	if (op->kind == TXN_GET && value->len) {
		*entry = (struct txn_entry){.value = {(uint8_t *)value->text, value->len},
			.mod_revision = value->changed,
			.lease = value->lease};
		result->n = 1;
	} else if (op->kind == TXN_PUT) {
		assert_true(op->value.len <= sizeof(value->text));
		memcpy(value->text, op->value.data, op->value.len);
		value->len = op->value.len;
		value->changed = scene.revision;
		value->lease = op->lease;
	} else if (op->kind == TXN_DELETE) {
		value->len = 0;
	}
}

static int64_t number_of(const struct value *value, enum txn_what what)
{
	if (!value->len)
		return 0;
	return what == TXN_LEASE ? value->lease : value->changed;
}

static bool holds(const struct txn *txn)
{
	for (size_t i = 0; i < txn->ncompares; i++) {
		const struct txn_compare *compare = &txn->compares[i];
		const struct value *value = value_of(&compare->key);

		if (value && compare->what != TXN_VALUE &&
			number_of(value, compare->what) != compare->number)
			return false;
	}
	return true;
}

static void serve(const struct txn_request *request)
{
	const struct txn_ops *ops = &request->txn.branches[TXN_THEN];
	struct txn_result results[8];
	struct txn_entry entries[8];
	struct txn_answer answer = {.number = request->number,
		.cluster_id = CLUSTER,
		.results = results,
		.lease = request->lease,
		.ttl_s = 10};

	if (request->kind == TXN_WATCH)
		scene.watch = request->number;
	if (request->kind == TXN_WATCH || request->kind == TXN_WATCH_CANCEL)
		return;
	answer.revision = ++scene.revision;
	answer.outcome = holds(&request->txn) ? TXN_OK : TXN_GUARD_FAILED;
	for (; answer.outcome == TXN_OK && answer.n < ops->n; answer.n++)
		perform(&ops->ops[answer.n], &results[answer.n], &entries[answer.n]);
	fleet_answer(scene.fleet, scene.now_ns, &answer);
}

static void turn(void)
{
	struct fleet_action action;

	fleet_advance(scene.fleet, scene.now_ns);
	while (fleet_next_action(scene.fleet, &action)) {
		if (action.kind == FLEET_ACT_REQUEST)
			serve(action.request);
		else if (action.kind == FLEET_ACT_OWNED)
			tenure_epoch(scene.guest, scene.now_ns, action.epoch_floor + 1);
	}
}

static bool may_apply(void)
{
	return tenure_may_apply(scene.guest, scene.now_ns);
}

static int setup(void **state)
{
	const struct fleet_options options = {.fleet = "f",
		.host = "h",
		.boot = "b",
		.nonce = 1,
		.ttl_s = 10,
		.timeout_ms = 1000};

	(void)state;
	scene = (struct scene){.now_ns = SECOND, .revision = 10};
	assert_int_equal(fleet_new(&scene.fleet, scene.now_ns, &options), 0);
	turn();
	assert_int_equal(fleet_guest_add(scene.fleet, "guest", 0, &scene, &scene.guest), 0);
	tenure_runs(scene.guest, scene.now_ns);
	for (unsigned i = 0; i < 40 && !may_apply(); i++) {
		scene.now_ns += SECOND;
		turn();
	}
	assert_true(may_apply());
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fleet_free(scene.fleet);
	return 0;
}

/* And the watch tells of it. */
static void tell(bool deleted)
{
	struct txn_event event = {.deleted = deleted};
	struct txn_notice notice = {.number = scene.watch, .events = &event, .n = 1};
	char key[] = "/vmsig/f/vm/guest/mark";

	scene.mark.changed = ++scene.revision;
	event.entry = (struct txn_entry){
		.key = {(uint8_t *)key, strlen(key)}, .mod_revision = scene.revision};
	fleet_notice(scene.fleet, scene.now_ns, &notice);
}

/* NULL: it is deleted. */
static void forge(const struct deed *deed)
{
	scene.mark.len = deed ? deed_write(deed, scene.mark.text) : 0;
	tell(!deed);
}

static void read_mark(struct deed *ret_deed)
{
	assert_true(deed_read(ret_deed, scene.mark.text, scene.mark.len));
}

/* It is taken back, and until that is known nothing is applied. */
static void an_offer_that_it_did_not_make(void **state)
{
	struct tenure_view view;
	struct deed deed;

	(void)state;
	read_mark(&deed);
	deed.status = DEED_OFFERED;
	forge(&deed);
	turn();
	read_mark(&deed);
	assert_int_equal(deed.status, DEED_HELD);
	assert_string_equal(deed.holder.host, "h");
	scene.now_ns += 4 * SECOND;
	turn();
	assert_true(may_apply());
	tenure_look(scene.guest, &view);
	assert_int_equal(view.state, TENURE_OWNED);
}

/* In a tenure of its own, above what it has used: what it had is over. */
static void is_claimed_anew(uint32_t epoch)
{
	struct tenure_view view;
	struct deed deed;

	for (unsigned i = 0; i < 40 && !may_apply(); i++) {
		scene.now_ns += SECOND;
		turn();
	}
	assert_true(may_apply());
	read_mark(&deed);
	assert_true(deed.floor >= epoch);
	tenure_look(scene.guest, &view);
	assert_int_equal(view.state, TENURE_OWNED);
}

/* And is deleted by whoever has found it so; the owner key is still there. */
static void that_makes_no_sense(void **state)
{
	struct tenure_view view;
	struct deed deed;

	(void)state;
	read_mark(&deed);
	scene.mark.text[0]++;
	tell(false);
	for (unsigned i = 0; i < 40; i++) {
		turn();
		scene.now_ns += SECOND;
	}
	tenure_look(scene.guest, &view);
	assert_true(view.damaged);
	assert_int_equal(view.state, TENURE_FOREIGN);
	assert_false(may_apply());
	forge(NULL);
	turn();
	is_claimed_anew(deed.floor + 1);
}

static void that_it_has_given_it_up(void **state)
{
	struct deed deed;

	(void)state;
	read_mark(&deed);
	deed.status = DEED_RELEASED;
	forge(&deed);
	assert_true(may_apply());
	turn();
	is_claimed_anew(deed.floor + 1);
}

/* Another host's, and then none: this one has used nothing of it, but has seen it. */
static void that_is_deleted_brings_no_epochs_back(void **state)
{
	struct deed deed;

	(void)state;
	read_mark(&deed);
	snprintf(deed.holder.host, sizeof(deed.holder.host), "x");
	snprintf(deed.holder.nonce, sizeof(deed.holder.nonce), "x.1");
	deed.reserved = 100000;
	forge(&deed);
	turn();
	assert_false(may_apply());
	forge(NULL);
	is_claimed_anew(100000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_offer_that_it_did_not_make, setup, teardown),
		cmocka_unit_test_setup_teardown(that_it_has_given_it_up, setup, teardown),
		cmocka_unit_test_setup_teardown(that_makes_no_sense, setup, teardown),
		cmocka_unit_test_setup_teardown(
			that_is_deleted_brings_no_epochs_back, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
