/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client against a real etcd: each kind of compare is what it says, which a dropped field would
 * not be; leases, watches, members that die, hang and forget.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/etcd/etcd.h"
#include "tests/support/cluster.h"
#include "vmsig/vmsig_error.h"

#define PATIENCE_MS 60000u

/* A client, and what it was told. */
struct asker {
	uv_loop_t loop;
	struct etcd *etcd;
	uint64_t number, timeout_ms;
	bool answered, closed;
	struct txn_answer answer; /* the last; results are moved over */
	unsigned changes, compacted, begun_anew;
	int64_t revisions[64]; /* of changes */
	char urls[CLUSTER_MAX][64];
	const char *list[CLUSTER_MAX];
};

static void on_answered(void *arg, const struct txn_answer *answer)
{
	struct asker *asker = arg;

	assert_int_equal(answer->number, asker->number);
	txn_answer_deinit(&asker->answer);
	asker->answer = *answer;
	/* What it points to is the client's. */
	asker->answer.results = NULL;
	asker->answer.n = 0;
	if (answer->n && answer->results[0].kind == TXN_GET && answer->results[0].n)
		asker->answer.revision = answer->results[0].entries[0].mod_revision;
	asker->answered = true;
}

static void on_noticed(void *arg, const struct txn_notice *notice)
{
	struct asker *asker = arg;

	if (notice->kind == TXN_COMPACTED)
		asker->compacted++;
	for (size_t i = 0; i < notice->n && asker->changes < 64; i++)
		asker->revisions[asker->changes++] = notice->events[i].entry.mod_revision;
}

static void asker_open(struct asker *asker, const struct cluster *cluster, unsigned members,
	const struct courier_keys *keys, bool allow_old)
{
	struct etcd_options options = {.loop = &asker->loop,
		.urls = asker->list,
		.nurls = members,
		.keys = *keys,
		.allow_old = allow_old,
		.answered = on_answered,
		.noticed = on_noticed,
		.arg = asker};

	memset(asker, 0, sizeof(*asker));
	asker->timeout_ms = PATIENCE_MS;
	assert_int_equal(uv_loop_init(&asker->loop), 0);
	for (unsigned i = 0; i < members; i++) {
		snprintf(asker->urls[i], sizeof(asker->urls[i]), "%s", cluster_url(cluster, i));
		asker->list[i] = asker->urls[i];
	}
	assert_int_equal(etcd_new(&asker->etcd, &options), 0);
}

static void on_closed(void *arg)
{
	((struct asker *)arg)->closed = true;
}

static void asker_close(struct asker *asker)
{
	etcd_close(asker->etcd, on_closed, asker);
	uv_run(&asker->loop, UV_RUN_DEFAULT);
	assert_true(asker->closed);
	assert_int_equal(uv_loop_close(&asker->loop), 0);
}

static enum txn_outcome ask(struct asker *asker, struct txn_request *request)
{
	request->number = ++asker->number;
	if (!request->timeout_ms)
		request->timeout_ms = asker->timeout_ms;
	asker->answered = false;
	assert_int_equal(etcd_send(asker->etcd, request), 0);
	assert_false(asker->answered);
	while (!asker->answered)
		assert_true(uv_run(&asker->loop, UV_RUN_ONCE) || asker->answered);
	txn_deinit(&request->txn);
	return asker->answer.outcome;
}

static enum txn_outcome put(struct asker *asker, const char *key, const char *value, int64_t lease)
{
	struct txn_request request = {.kind = TXN_COMMIT};

	txn_put(&request.txn, TXN_THEN, key, value, strlen(value), lease);
	return ask(asker, &request);
}

/* The revision of its last change; 0: it is not there. */
static int64_t changed(struct asker *asker, const char *key)
{
	struct txn_request request = {.kind = TXN_COMMIT};

	txn_get(&request.txn, TXN_THEN, key);
	txn_compare_number(&request.txn, key, TXN_VERSION, TXN_GREATER, 0);
	return ask(asker, &request) == TXN_OK ? asker->answer.revision : 0;
}

static const struct courier_keys none;

/* ---- compares ---- */

static enum txn_outcome compare(struct asker *asker, enum txn_what what, enum txn_relation relation,
	int64_t number, const char *value)
{
	struct txn_request request = {.kind = TXN_COMMIT};

	if (what == TXN_VALUE)
		txn_compare_value(&request.txn, "k", relation, value, strlen(value));
	else
		txn_compare_number(&request.txn, "k", what, relation, number);
	txn_get(&request.txn, TXN_THEN, "k");
	return ask(asker, &request);
}

/* Each relation holds for what it should, and for nothing else. */
static void relations_hold(struct asker *asker, enum txn_what what, int64_t number,
	const char *below, const char *is, const char *above)
{
	static const struct {
		enum txn_relation relation;
		enum txn_outcome below, same, above; /* what is compared with */
	} cases[] = {
		{TXN_EQUAL, TXN_GUARD_FAILED, TXN_OK, TXN_GUARD_FAILED},
		{TXN_NOT_EQUAL, TXN_OK, TXN_GUARD_FAILED, TXN_OK},
		{TXN_GREATER, TXN_OK, TXN_GUARD_FAILED, TXN_GUARD_FAILED},
		{TXN_LESS, TXN_GUARD_FAILED, TXN_GUARD_FAILED, TXN_OK},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum txn_relation relation = cases[i].relation;

		assert_int_equal(compare(asker, what, relation, number - 1, below), cases[i].below);
		assert_int_equal(compare(asker, what, relation, number, is), cases[i].same);
		assert_int_equal(compare(asker, what, relation, number + 1, above), cases[i].above);
	}
}

static void each_compare_is_looked_at(void **state)
{
	struct cluster *cluster = cluster_new(1, NULL);
	struct txn_request grant = {.kind = TXN_LEASE_GRANT, .lease = 4711, .ttl_s = 600};
	struct asker asker;
	int64_t created;

	(void)state;
	asker_open(&asker, cluster, 1, &none, true);
	assert_int_equal(ask(&asker, &grant), TXN_OK);
	assert_int_equal(put(&asker, "k", "b", 4711), TXN_OK);
	created = changed(&asker, "k");
	assert_true(created > 0);
	assert_int_equal(put(&asker, "other", "", 0), TXN_OK);
	assert_int_equal(put(&asker, "k", "m", 4711), TXN_OK);
	relations_hold(&asker, TXN_CREATE_REVISION, created, "", "", "");
	relations_hold(&asker, TXN_MOD_REVISION, changed(&asker, "k"), "", "", "");
	relations_hold(&asker, TXN_VERSION, 2, "", "", "");
	relations_hold(&asker, TXN_LEASE, 4711, "", "", "");
	relations_hold(&asker, TXN_VALUE, 0, "l", "m", "n");
	asker_close(&asker);
	cluster_free(cluster);
}

/* ---- leases ---- */

static void a_lease_takes_its_keys_along(void **state)
{
	struct cluster *cluster = cluster_new(1, NULL);
	struct txn_request grant = {.kind = TXN_LEASE_GRANT, .lease = 9, .ttl_s = 600};
	struct txn_request keep = {.kind = TXN_LEASE_KEEPALIVE, .lease = 9};
	struct txn_request revoke = {.kind = TXN_LEASE_REVOKE, .lease = 9};
	struct asker asker;

	(void)state;
	asker_open(&asker, cluster, 1, &none, true);
	assert_int_equal(ask(&asker, &grant), TXN_OK);
	assert_int_equal(asker.answer.ttl_s, 600);
	assert_int_equal(ask(&asker, &grant), TXN_GUARD_FAILED);
	assert_int_equal(put(&asker, "k", "v", 9), TXN_OK);
	assert_int_equal(ask(&asker, &keep), TXN_OK);
	assert_int_equal(ask(&asker, &revoke), TXN_OK);
	assert_int_equal(changed(&asker, "k"), 0);
	/* A keep-alive of none is no error of etcd's, and a put with none changes nothing. */
	assert_int_equal(ask(&asker, &keep), TXN_GUARD_FAILED);
	assert_int_equal(ask(&asker, &revoke), TXN_GUARD_FAILED);
	assert_int_equal(put(&asker, "k", "v", 9), TXN_GUARD_FAILED);
	assert_int_equal(changed(&asker, "k"), 0);
	asker_close(&asker);
	cluster_free(cluster);
}

/* ---- watches ---- */

static void await_changes(struct asker *asker, unsigned changes)
{
	while (asker->changes < changes)
		assert_true(uv_run(&asker->loop, UV_RUN_ONCE) || asker->changes >= changes);
}

static void begin_watch(struct asker *asker, int64_t revision)
{
	const struct txn_request request = {
		.kind = TXN_WATCH, .number = 1000, .prefix = "w/", .revision = revision};

	assert_int_equal(etcd_send(asker->etcd, &request), 0);
}

/* A member that was away and has not caught up with the others is behind what the watch has seen,
 * which is told as of a store that has gone back. */
static void await_changes_anew(struct asker *asker, unsigned changes)
{
	while (asker->changes < changes) {
		for (; asker->begun_anew < asker->compacted; asker->begun_anew++)
			begin_watch(asker, 1);
		assert_true(uv_run(&asker->loop, UV_RUN_ONCE) || asker->changes >= changes ||
			    asker->compacted > asker->begun_anew);
	}
}

static void a_watch_loses_and_repeats_nothing(void **state)
{
	struct cluster *cluster = cluster_new(1, NULL);
	struct asker asker;

	(void)state;
	asker_open(&asker, cluster, 1, &none, true);
	assert_int_equal(put(&asker, "w/a", "1", 0), TXN_OK);
	begin_watch(&asker, changed(&asker, "w/a"));
	await_changes(&asker, 1);
	assert_int_equal(put(&asker, "elsewhere", "1", 0), TXN_OK);
	assert_int_equal(put(&asker, "w/b", "1", 0), TXN_OK);
	await_changes(&asker, 2);
	cluster_signal(cluster, 0, SIGKILL);
	cluster_restart(cluster, 0, false);
	assert_int_equal(put(&asker, "w/c", "1", 0), TXN_OK);
	await_changes(&asker, 3);
	for (unsigned i = 1; i < asker.changes; i++)
		assert_true(asker.revisions[i] > asker.revisions[i - 1]);
	assert_int_equal(asker.changes, 3);
	assert_int_equal(etcd_send(asker.etcd,
				 &(struct txn_request){.kind = TXN_WATCH_CANCEL, .number = 1000}),
		0);
	assert_int_equal(put(&asker, "w/d", "1", 0), TXN_OK);
	assert_int_equal(changed(&asker, "w/d") > 0, 1);
	assert_int_equal(asker.changes, 3);
	/* One of a store that has gone back would hear nothing. */
	begin_watch(&asker, 1000000);
	while (!asker.compacted)
		assert_true(uv_run(&asker.loop, UV_RUN_ONCE) || asker.compacted);
	asker_close(&asker);
	cluster_free(cluster);
}

/* All at once it is more than a line of a watch may have. */
static void one_that_is_too_far_behind_begins_anew(void **state)
{
	struct cluster *cluster = cluster_new(1, NULL);
	static char large[400 << 10];
	struct asker asker;

	(void)state;
	memset(large, 'x', sizeof(large) - 1);
	asker_open(&asker, cluster, 1, &none, true);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(put(&asker, "w/large", large, 0), TXN_OK);
	begin_watch(&asker, 1);
	while (!asker.compacted)
		assert_true(uv_run(&asker.loop, UV_RUN_ONCE) || asker.compacted);
	begin_watch(&asker, 0);
	while (!asker.changes)
		assert_int_equal(put(&asker, "w/small", "1", 0), TXN_OK);
	asker_close(&asker);
	cluster_free(cluster);
}

/* ---- members ---- */

static void the_next_member_is_asked(void **state)
{
	struct cluster *cluster = cluster_new(3, NULL);
	struct asker asker;

	(void)state;
	asker_open(&asker, cluster, 3, &none, true);
	/* What is sent to one that hangs is given up after that. */
	asker.timeout_ms = 2000;
	begin_watch(&asker, 1);
	for (unsigned i = 0; i < 3; i++) {
		unsigned before = asker.changes;

		/* One that is gone, and one that hangs with its connections open. */
		cluster_signal(cluster, i, i == 1 ? SIGSTOP : SIGKILL);
		while (put(&asker, "w/k", "v", 0) != TXN_OK)
			;
		await_changes_anew(&asker, before + 1);
		cluster_signal(cluster, i, SIGCONT);
		if (i != 1)
			cluster_restart(cluster, i, false);
	}
	asker_close(&asker);
	cluster_free(cluster);
}

static void what_was_not_sent_did_not_happen(void **state)
{
	struct cluster *cluster = cluster_new(1, NULL);
	struct txn_request request = {.kind = TXN_COMMIT, .timeout_ms = 300};
	struct asker asker;

	(void)state;
	asker_open(&asker, cluster, 1, &none, true);
	assert_int_equal(put(&asker, "k", "v", 0), TXN_OK);
	cluster_signal(cluster, 0, SIGSTOP);
	txn_put(&request.txn, TXN_THEN, "k", "w", 1, 0);
	/* It is in a connection that was there, and nobody has said what became of it. */
	assert_int_equal(ask(&asker, &request), TXN_UNKNOWN);
	cluster_signal(cluster, 0, SIGKILL);
	txn_put(&request.txn, TXN_THEN, "k", "x", 1, 0);
	assert_int_equal(ask(&asker, &request), TXN_UNAVAILABLE);
	assert_true(asker.answer.why[0]);
	asker_close(&asker);
	cluster_free(cluster);
}

static void an_old_one_is_refused(void **state)
{
	struct cluster *cluster = cluster_new(1, NULL);
	struct txn_request request = {.kind = TXN_LEASE_KEEPALIVE, .lease = 1, .timeout_ms = 3000};
	struct asker asker;
	struct etcd_status status;
	enum txn_outcome outcome;

	(void)state;
	asker_open(&asker, cluster, 1, &none, false);
	outcome = ask(&asker, &request);
	etcd_status(asker.etcd, &status);
	if (strncmp(status.version, "3.4", 3) == 0) {
		assert_int_equal(outcome, TXN_UNAVAILABLE);
		assert_non_null(strstr(status.why, "allow_old_etcd"));
	}
	asker_close(&asker);
	cluster_free(cluster);
}

/* ---- keys ---- */

static char *text_of(const char *path)
{
	char *text = calloc(1, 65536);
	FILE *file = fopen(path, "r");

	assert_non_null(text);
	assert_non_null(file);
	assert_true(fread(text, 1, 65535, file) > 0);
	fclose(file);
	return text;
}

static void both_sides_prove_who_they_are(void **state)
{
	const struct pki_request plain = {0};
	struct pki *pki = pki_new(), *other = pki_new();
	struct cluster *cluster = cluster_new(1, pki);
	struct txn_request keep = {.kind = TXN_LEASE_KEEPALIVE, .lease = 1, .timeout_ms = 1500};
	struct pki_cert cert;
	struct asker asker;
	char *ca, *foreign, *chain, *key;

	(void)state;
	pki_issue(pki, "broker", &plain, &cert);
	ca = text_of(pki_ca(pki));
	foreign = text_of(pki_ca(other));
	chain = text_of(cert.cert);
	key = text_of(cert.key);
	asker_open(&asker, cluster, 1, &(struct courier_keys){ca, chain, key}, true);
	assert_int_equal(put(&asker, "k", "v", 0), TXN_OK);
	asker_close(&asker);
	/* Not with keys of another authority, nor without any. */
	asker_open(&asker, cluster, 1, &(struct courier_keys){foreign, chain, key}, true);
	assert_int_equal(ask(&asker, &keep), TXN_UNAVAILABLE);
	asker_close(&asker);
	asker_open(&asker, cluster, 1, &(struct courier_keys){ca, NULL, NULL}, true);
	assert_int_equal(ask(&asker, &keep), TXN_UNAVAILABLE);
	asker_close(&asker);
	free(ca);
	free(foreign);
	free(chain);
	free(key);
	cluster_free(cluster);
	pki_free(pki);
	pki_free(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_compare_is_looked_at),
		cmocka_unit_test(a_lease_takes_its_keys_along),
		cmocka_unit_test(a_watch_loses_and_repeats_nothing),
		cmocka_unit_test(one_that_is_too_far_behind_begins_anew),
		cmocka_unit_test(the_next_member_is_asked),
		cmocka_unit_test(what_was_not_sent_did_not_happen),
		cmocka_unit_test(an_old_one_is_refused),
		cmocka_unit_test(both_sides_prove_who_they_are),
	};

	/* As vmsigd. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
