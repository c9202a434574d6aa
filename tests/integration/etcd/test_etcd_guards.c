/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each transaction of a fleet against a real etcd, before it is done: with each of its compares
 * turned round it must not be. A field that etcd does not know it drops without a word, and a
 * compare that was dropped would guard nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/etcd/etcd.h"
#include "broker/fleet/state.h"
#include "tests/support/cluster.h"
#include "vmsig/vmsig_error.h"

#define SECOND 1000000000ull
#define TTL_S 60u /* real etcd's too, while the test's time passes as it likes */
#define PATIENCE_MS 60000u
#define COMPARES_MAX 4u
#define GENERATION "/vmsig/f/generation"
#define OWNER "/vmsig/f/vm/guest/owner"

struct host {
	const char *name;
	struct fleet *fleet;
	struct tenure *guest;
	uint32_t epoch; /* that it remembers */
	bool loses;     /* the next claim's answer */
};

static struct scene {
	struct cluster *cluster;
	uv_loop_t loop;
	struct etcd *etcd;
	uint64_t number, now_ns;
	bool answered, closed;
	enum txn_outcome outcome;
	const struct txn_request *asked; /* by the host, who gets the answer; NULL: by the test */
	struct host *asker;
	struct host here, there;
	uint64_t nonces;
	unsigned turned[BID_KINDS]; /* compares that were */
} scene;

/* ---- etcd ---- */

static void on_answered(void *arg, const struct txn_answer *answer)
{
	struct txn_answer told = *answer;

	(void)arg;
	assert_int_equal(answer->number, scene.number);
	scene.outcome = answer->outcome;
	scene.answered = true;
	if (!scene.asked)
		return;
	told.number = scene.asked->number;
	fleet_answer(scene.asker->fleet, scene.now_ns, &told);
}

static void on_noticed(void *arg, const struct txn_notice *notice)
{
}

/* `asked`: whose answer it is; NULL: the test's own. */
static enum txn_outcome commit(const struct txn_request *request, const struct txn_request *asked)
{
	struct txn_request copy = *request;

	copy.number = ++scene.number;
	copy.timeout_ms = PATIENCE_MS;
	scene.asked = asked;
	scene.answered = false;
	assert_int_equal(etcd_send(scene.etcd, &copy), 0);
	while (!scene.answered)
		assert_true(uv_run(&scene.loop, UV_RUN_ONCE) || scene.answered);
	return scene.outcome;
}

static void put(const char *key, const char *value)
{
	struct txn_request request = {.kind = TXN_COMMIT};

	txn_put(&request.txn, TXN_THEN, key, value, strlen(value), 0);
	assert_int_equal(commit(&request, NULL), TXN_OK);
	txn_deinit(&request.txn);
}

static void drop(const char *key)
{
	struct txn_request request = {.kind = TXN_COMMIT};

	txn_delete(&request.txn, TXN_THEN, key);
	assert_int_equal(commit(&request, NULL), TXN_OK);
	txn_deinit(&request.txn);
}

/* ---- compares ---- */

/* The same ones, and nothing done. */
static bool holds(const struct txn_request *request)
{
	struct txn_request probe = {.kind = TXN_COMMIT};
	enum txn_outcome outcome;

	txn_get(&probe.txn, TXN_THEN, GENERATION);
	probe.txn.compares = request->txn.compares;
	probe.txn.ncompares = request->txn.ncompares;
	outcome = commit(&probe, NULL);
	probe.txn.compares = NULL;
	probe.txn.ncompares = 0;
	txn_deinit(&probe.txn);
	return outcome == TXN_OK;
}

static void turn_round(const struct txn_request *request, enum bid_kind bid)
{
	struct txn_compare compares[COMPARES_MAX];
	struct txn_request copy = *request;

	assert_true(request->txn.ncompares <= COMPARES_MAX);
	for (size_t i = 0; i < request->txn.ncompares; i++) {
		memcpy(compares, request->txn.compares, request->txn.ncompares * sizeof(*compares));
		assert_int_equal(compares[i].relation, TXN_EQUAL);
		compares[i].relation = TXN_NOT_EQUAL;
		copy.txn.compares = compares;
		if (commit(&copy, NULL) != TXN_GUARD_FAILED)
			fail_msg("bid %d is done with its compare %zu turned round", (int)bid, i);
	}
	scene.turned[bid] += (unsigned)request->txn.ncompares;
}

static void serve(struct host *host, const struct txn_request *request)
{
	/* The first member of what the fleet has of it. */
	enum bid_kind bid = ((const struct fleet_request *)(const void *)request)->bid;
	struct txn_answer lost = {.number = request->number, .outcome = TXN_UNKNOWN};

	if (request->kind == TXN_WATCH || request->kind == TXN_WATCH_CANCEL)
		return;
	if (host->loses && bid == BID_CLAIM) {
		host->loses = false;
		fleet_answer(host->fleet, scene.now_ns, &lost);
		return;
	}
	scene.asker = host;
	if (request->kind == TXN_COMMIT && request->txn.ncompares && holds(request))
		turn_round(request, bid);
	(void)commit(request, request);
}

/* ---- hosts ---- */

static void turn(struct host *host)
{
	struct fleet_action action;

	if (!host->fleet)
		return;
	fleet_advance(host->fleet, scene.now_ns);
	while (fleet_next_action(host->fleet, &action)) {
		if (action.kind == FLEET_ACT_REQUEST)
			serve(host, action.request);
		else if (action.kind == FLEET_ACT_OWNED && action.epoch_floor >= host->epoch) {
			host->epoch = action.epoch_floor + 1;
			tenure_epoch(host->guest, scene.now_ns, host->epoch);
		} else if (action.kind == FLEET_ACT_OWNED && action.baggage) {
			tenure_settled(host->guest, scene.now_ns);
		}
	}
}

static void pass(unsigned seconds)
{
	for (unsigned i = 0; i < seconds; i++) {
		scene.now_ns += SECOND;
		turn(&scene.here);
		turn(&scene.there);
	}
}

/* Of this boot again, if there was one before. */
static void start(struct host *host, const char *name)
{
	const struct fleet_options options = {.fleet = "f",
		.host = name,
		.boot = name,
		.nonce = ++scene.nonces,
		.ttl_s = TTL_S,
		.timeout_ms = 1000};

	host->name = name;
	assert_int_equal(fleet_new(&host->fleet, scene.now_ns, &options), 0);
	turn(host);
	assert_int_equal(fleet_guest_add(host->fleet, "guest", host->epoch, host, &host->guest), 0);
	assert_int_equal(tenure_session(host->guest, scene.now_ns, "kernel"), 0);
}

static bool has(const struct host *host)
{
	struct tenure_view view;

	tenure_look(host->guest, &view);
	return view.state == TENURE_OWNED;
}

static void await(const struct host *host)
{
	for (unsigned i = 0; i < 5 * TTL_S && !has(host); i++)
		pass(1);
	assert_true(has(host));
}

/* ---- one after the other ---- */

static void it_is_claimed_renewed_and_recorded(void)
{
	const struct tenure_lease lease = {
		.id = 1, .token = 1, .ttl_ns = SECOND, .record = "r", .record_len = 1};

	start(&scene.here, "here");
	tenure_runs(scene.here.guest, scene.now_ns);
	await(&scene.here);
	assert_int_equal(tenure_grant(scene.here.guest, scene.now_ns, &lease), 0);
	pass(TTL_S);
	/* Its key is gone, and the deed is not. */
	drop(OWNER);
	pass(TTL_S);
	await(&scene.here);
}

static void another_process_of_the_boot_takes_it(void)
{
	scene.here.fleet = fleet_free(scene.here.fleet);
	start(&scene.here, "here");
	tenure_runs(scene.here.guest, scene.now_ns);
	await(&scene.here);
}

static void it_is_offered_taken_back_and_accepted(void)
{
	start(&scene.there, "there");
	tenure_incoming(scene.there.guest, scene.now_ns);
	for (unsigned i = 0; i < 2; i++) {
		tenure_leaves(scene.here.guest, scene.now_ns);
		assert_int_equal(
			tenure_offer(scene.here.guest, scene.now_ns, NULL, "baggage", 7), 0);
		pass(2);
		if (!i) {
			tenure_stays(scene.here.guest, scene.now_ns);
			await(&scene.here);
		}
	}
	tenure_gone(scene.here.guest, scene.now_ns);
	tenure_runs(scene.there.guest, scene.now_ns);
	await(&scene.there);
}

/* A claim of which nobody knows whether it will come. */
static void it_is_given_up_and_a_claim_made_void(void)
{
	tenure_gone(scene.there.guest, scene.now_ns);
	pass(5);
	scene.there.loses = true;
	tenure_runs(scene.there.guest, scene.now_ns);
	for (unsigned i = 0; i < 10 * TTL_S && scene.there.loses; i++)
		pass(1);
	assert_false(scene.there.loses);
	tenure_gone(scene.there.guest, scene.now_ns);
	pass(2 * TTL_S);
}

static void the_fleet_is_bumped(void)
{
	put(GENERATION, "no generation");
	pass(TTL_S);
	assert_non_null(fleet_frozen(scene.there.fleet));
	assert_int_equal(fleet_bump(scene.there.fleet, scene.now_ns, 0, 0), 0);
	pass(TTL_S);
	assert_null(fleet_frozen(scene.there.fleet));
}

static void no_compare_is_dropped(void **state)
{
	static const enum bid_kind guarded[] = {BID_RENEW, BID_CLAIM, BID_ADOPT, BID_ACCEPT,
		BID_REKEY, BID_RECORD, BID_OFFER, BID_RETAKE, BID_RELEASE, BID_VOID, BID_FOUND,
		BID_BUMP};

	(void)state;
	it_is_claimed_renewed_and_recorded();
	another_process_of_the_boot_takes_it();
	it_is_offered_taken_back_and_accepted();
	it_is_given_up_and_a_claim_made_void();
	the_fleet_is_bumped();
	for (size_t i = 0; i < sizeof(guarded) / sizeof(guarded[0]); i++) {
		if (!scene.turned[guarded[i]])
			fail_msg("bid %d was not made", (int)guarded[i]);
	}
}

static void on_closed(void *arg)
{
	(void)arg;
	scene.closed = true;
}

static int setup(void **state)
{
	static const char *urls[1];
	const struct etcd_options options = {.loop = &scene.loop,
		.urls = urls,
		.nurls = 1,
		.allow_old = true,
		.answered = on_answered,
		.noticed = on_noticed};

	(void)state;
	scene = (struct scene){.now_ns = SECOND, .cluster = cluster_new(1, NULL)};
	urls[0] = cluster_url(scene.cluster, 0);
	assert_int_equal(uv_loop_init(&scene.loop), 0);
	return etcd_new(&scene.etcd, &options);
}

static int teardown(void **state)
{
	(void)state;
	fleet_free(scene.here.fleet);
	fleet_free(scene.there.fleet);
	etcd_close(scene.etcd, on_closed, NULL);
	uv_run(&scene.loop, UV_RUN_DEFAULT);
	assert_true(scene.closed);
	cluster_free(scene.cluster);
	return uv_loop_close(&scene.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(no_compare_is_dropped, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
